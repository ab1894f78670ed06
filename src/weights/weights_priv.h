/* weights/weights_priv.h - how the readers of src/weights put a tsr__weights together; nobody outside includes it.
 *
 * A reader maps or wraps the bytes, then either indexes them as safetensors or hands over finished views. */
#ifndef TSR_WEIGHTS_PRIV_H
#define TSR_WEIGHTS_PRIV_H

#include "weights/weights.h"
#include <jansson.h>

/* Nothing yet: no bytes, no views. */
tsr_status tsr__weights_new(tsr__weights **out, const char *path, tsr_error *err);
/* Bytes without views: a mapped file, or borrowed memory (named "(memory)" in messages). */
tsr_status tsr__weights_map(tsr__weights **out, const char *path, tsr_error *err);
tsr_status tsr__weights_wrap(tsr__weights **out, const void *data, size_t size, tsr_error *err);
const unsigned char *tsr__weights_bytes(const tsr__weights *weights, size_t *size_out);
/* Whether the bytes can only be a safetensors file: a plausible header length, then '{'. */
int tsr__weights_looks_safetensors(const tsr__weights *weights);
/* Reads the bytes' safetensors header into views. */
tsr_status tsr__weights_index(tsr__weights *weights, tsr_error *err);
/* Fills view->rank, shape and count; the product may not overflow. */
tsr_status tsr__weights_read_shape(tsr__tensor_view *view, const json_t *shape, const char *path, tsr_error *err);
/* Takes views (any order; sorted here), in the place of those it had, and storage, one block that holds their names and copies
 * of data; both are freed when the weights are closed, also after a failure. BAD_FORMAT when two views have one name. */
tsr_status tsr__weights_take_views(tsr__weights *weights, tsr__tensor_view *views, size_t count, void *storage,
                                   tsr_error *err);
/* Weights whose views point into others, or into memory made for them: closed and freed with these, in the call when it
 * fails. */
tsr_status tsr__weights_own_source(tsr__weights *weights, tsr__weights *source, tsr_error *err);
tsr_status tsr__weights_own_piece(tsr__weights *weights, void *piece, tsr_error *err);

/* madvise for the whole pages of part of a mapped file; elsewhere nothing. */
void tsr__weights_advise(const tsr__weights *weights, const void *data, size_t size, int advice);

/* packed_file.c: what a packed cache has more; read once the file's own header is indexed. */
typedef struct tsr__packed tsr__packed;
tsr_status tsr__packed_read(tsr__packed **out, tsr__weights *weights, tsr_error *err);
void tsr__packed_free(tsr__packed *packed);
const tsr__packed *tsr__weights_packed(const tsr__weights *weights); /* NULL: no packed cache */

/* One text of the file's metadata, as tsr__weights_metadata gives it; for formats without a JSON header. */
void tsr__weights_set_metadata(tsr__weights *weights, const char *key, const char *value);

#endif /* TSR_WEIGHTS_PRIV_H */
