/* weights/weights.h - tensors by name from memory-mapped files.
 *
 * Owns the mapping; hands out borrowed views. Knows nothing of networks. Threads: immutable after opening. */
#ifndef TSR_WEIGHTS_H
#define TSR_WEIGHTS_H

#include "tessera/status.h"
#include <stddef.h>

typedef enum tsr__dtype {
    TSR_DTYPE_F32,
    TSR_DTYPE_F16,
    TSR_DTYPE_BF16,
    TSR_DTYPE_F64,
    TSR_DTYPE_I64,
    TSR_DTYPE_I32,
    TSR_DTYPE_U8,
    TSR_DTYPE_BOOL,
    TSR_DTYPE_I8,
    TSR_DTYPE_I16,
    TSR_DTYPE_U16,
    TSR_DTYPE_U32,
    TSR_DTYPE_U64,
    TSR_DTYPE_F8_E4M3,
    TSR_DTYPE_F8_E5M2,
    /* GGUF's blocks: 32 or 256 elements share their scales (weights/gguf_blocks.c) */
    TSR_DTYPE_Q4_0,
    TSR_DTYPE_Q4_1,
    TSR_DTYPE_Q5_0,
    TSR_DTYPE_Q5_1,
    TSR_DTYPE_Q8_0,
    TSR_DTYPE_Q2_K,
    TSR_DTYPE_Q3_K,
    TSR_DTYPE_Q4_K,
    TSR_DTYPE_Q5_K,
    TSR_DTYPE_Q6_K,
    TSR_DTYPE_IQ4_NL,
    TSR_DTYPE_IQ4_XS,
    TSR_DTYPE_PACKED, /* inside a packed weight of a cache (packed_file.h): a name and a shape without numbers */
    TSR_DTYPE_COUNT_
} tsr__dtype;

typedef struct tsr__tensor_view {
    const char *name; /* borrowed from the file */
    tsr__dtype dtype;
    int rank; /* 0..8 */
    int64_t shape[8];
    size_t count;     /* product of shape */
    const void *data; /* borrowed, may be unaligned; NULL: TSR_DTYPE_PACKED */
    float scale;      /* "scaled" F8 files: what every value is multiplied by; 0: nothing */
} tsr__tensor_view;

typedef struct tsr__weights tsr__weights;

tsr_status tsr__weights_open(tsr__weights **out, const char *path,
                             tsr_error *err); /* safetensors, every offset checked */
tsr_status tsr__weights_open_memory(tsr__weights **out, const void *data, size_t size,
                                    tsr_error *err); /* borrows data */
void tsr__weights_close(tsr__weights *weights);
const char *tsr__weights_path(const tsr__weights *weights);
size_t tsr__weights_count(const tsr__weights *weights);
const tsr__tensor_view *tsr__weights_at(const tsr__weights *weights, size_t index);
const tsr__tensor_view *tsr__weights_find(const tsr__weights *weights, const char *name); /* NULL when absent */
/* "__metadata__" value, or NULL. */
const char *tsr__weights_metadata(const tsr__weights *weights, const char *key);
/* All of it, for copying into another file: key, value, ..., NULL; the texts stay the weights'. Release with free(). */
tsr_status tsr__weights_all_metadata(const char ***out, const tsr__weights *weights, tsr_error *err);
/* Tells the system that the view's whole pages may leave memory; they are read again from the file when touched. Lets a
 * big model be packed tensor by tensor without doubling. Does nothing for weights opened from memory. */
void tsr__weights_release_pages(const tsr__weights *weights, const tsr__tensor_view *view);
/* Converts to float32: F32, F16, BF16, F64, F8_E4M3, F8_E5M2 and GGUF's blocks; out has room for view->count.
 * UNSUPPORTED for integers. */
tsr_status tsr__tensor_to_f32(const tsr__tensor_view *view, float *out, tsr_error *err);
/* The same for elements [first, first + count). */
tsr_status tsr__tensor_part_to_f32(const tsr__tensor_view *view, size_t first, size_t count, float *out,
                                   tsr_error *err);
const char *tsr__dtype_name(tsr__dtype dtype);
int tsr__dtype_is_float(tsr__dtype dtype); /* whether it converts to float32, or did before it was packed */
size_t tsr__dtype_block(tsr__dtype dtype); /* elements a block: 1, or GGUF's 32 or 256 */
size_t tsr__dtype_size(tsr__dtype dtype);  /* bytes a block: bytes an element where blocks are single ones */
size_t tsr__tensor_bytes(const tsr__tensor_view *view);
/* Runs of 16-bit halves (any alignment) to float32; subnormals, infinities and NaN are kept. */
void tsr__f16_to_f32(float *out, const void *in, size_t count);
void tsr__bf16_to_f32(float *out, const void *in, size_t count);

/* Writing: a safetensors file made whole, then renamed. Tensors are written in the order given. */
typedef struct tsr__tensor_out {
    const char *name;
    tsr__dtype dtype;
    int rank;
    int64_t shape[8];
    const void *data;
} tsr__tensor_out;
tsr_status tsr__safetensors_save(const char *path, const tsr__tensor_out *tensors, size_t count,
                                 const char *const *metadata /* key, value, ..., NULL */, tsr_error *err);
/* The same with data made one tensor after another: make() gives what tensors[index] has; *data stays the maker's until
 * the next call. Tensors' own data is not looked at. */
typedef tsr_status (*tsr__tensor_make_fn)(void *user, size_t index, const void **data, tsr_error *err);
tsr_status tsr__safetensors_save_made(const char *path, const tsr__tensor_out *tensors, size_t count,
                                      const char *const *metadata, tsr__tensor_make_fn make, void *user,
                                      tsr_error *err);

#endif /* TSR_WEIGHTS_H */
