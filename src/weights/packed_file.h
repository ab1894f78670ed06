/* weights/packed_file.h - packed caches: a checkpoint whose large tensors are kept as src/nn lays them out for a processor.
 *
 * A safetensors file with the metadata key tessera.packed. Every packed weight is a tensor "packed:NAME" of bytes (NAME: the
 * first of the checkpoint's tensors in it), at a multiple of 64 bytes and as long as a multiple of 64. The tensor
 * packed.index is JSON: {"tensors": {NAME: shape}, "weights": {NAME: layout}}. All other tensors stand there as they are.
 *
 * Opened, it has all names and shapes of the checkpoint; tensors that lie in packed weights have the type
 * TSR_DTYPE_PACKED, no data, and cannot be read as numbers. Layouts are texts that only src/nn understands. */
#ifndef TSR_PACKED_FILE_H
#define TSR_PACKED_FILE_H

#include "weights/checkpoint_kind.h"
#include "weights/weights.h"

#define TSR__PACKED_METADATA "tessera.packed"
enum { TSR__PACKED_ALIGN = 64, TSR__PACKED_SOURCES = 8 };

/* A file that the cache was made from. */
typedef struct tsr__packed_source {
    const char *path;
    int64_t bytes, modified; /* seconds since 1970; both 0 for folders */
} tsr__packed_source;

/* What it was made for, and from. Texts belong to the weights. */
typedef struct tsr__packed_info {
    int version;
    const char *library, *isa, *precision; /* "oneDNN 2.6.3", "avx512_core_bf16", "f32" or "bf16" */
    int threads;                           /* 1..1024 */
    tsr__packed_source sources[TSR__PACKED_SOURCES];
    int source_count;
} tsr__packed_info;

typedef struct tsr__packed_weight {
    const char *name, *layout;
    const void *data;
    size_t size; /* a multiple of TSR__PACKED_ALIGN */
} tsr__packed_weight;

/* NULL: the weights are not a packed cache. */
const tsr__packed_info *tsr__packed_info_of(const tsr__weights *weights);
/* The packed weight whose first tensor has that name, or NULL. */
const tsr__packed_weight *tsr__packed_find(const tsr__weights *weights, const char *name);
/* How many, and their bytes. */
size_t tsr__packed_count(const tsr__weights *weights, size_t *bytes);
/* Tells the system that a part's packed weights may leave memory; the file keeps them. Nothing happens where there are none. */
void tsr__packed_drop(const tsr__weights *weights, tsr__checkpoint_part part);
/* "make it again: tessera convert SOURCE PATH" when a cache's source is still there, else that the original is needed. Release
 * with free(); NULL: no memory. */
char *tsr__packed_remedy(const tsr__weights *weights);
/* UNSUPPORTED for a packed cache, "PATH: a packed cache cannot WHAT; give the original checkpoint (PATH) instead". */
tsr_status tsr__packed_refuse(const tsr__weights *weights, const char *what, tsr_error *err);

/* --- packed_save.c --- */
typedef struct tsr__packed_item {
    const char *name, *layout;
    size_t size;
} tsr__packed_item;
typedef struct tsr__packed_plan {
    const tsr__weights *from;
    tsr__packed_info info;
    const tsr__packed_item *items;
    size_t count;
    const unsigned char *inside; /* [tensors of from]: 1 where a tensor lies in some item */
} tsr__packed_plan;
/* Writes a cache, whole or not at all. make() gives the bytes of item index; they stay the maker's until the next call. */
tsr_status tsr__packed_save(const char *path, const tsr__packed_plan *plan, tsr__tensor_make_fn make, void *user,
                            tsr_error *err);

#endif /* TSR_PACKED_FILE_H */
