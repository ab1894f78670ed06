/* model/text_embeddings.h - textual-inversion embeddings: files of vectors that stand for words of a prompt.
 *
 * Knows the layouts of such files and keeps what was read; where files lie is told by a function. */
#ifndef TSR_TEXT_EMBEDDINGS_H
#define TSR_TEXT_EMBEDDINGS_H

#include "model/prompt_text.h"

enum { TSR__EMBEDDING_ENCODERS = 2, TSR__EMBEDDING_MAX_ROWS = 4096 };

/* *path: the file of that name, released with free(), or NULL. */
typedef tsr_status (*tsr__embedding_path_fn)(void *user, const char *name, char **path, tsr_error *err);

/* The embeddings of one set of encoders: the width of each, and its key in files that serve several ("clip_l"). */
typedef struct tsr__embeddings tsr__embeddings;
tsr_status tsr__embeddings_new(tsr__embeddings **out, const int *widths, const char *const *keys, int encoders,
                               tsr_error *err);
void tsr__embeddings_free(tsr__embeddings *embeddings); /* NULL is allowed */
void tsr__embeddings_look(tsr__embeddings *embeddings, tsr__embedding_path_fn find, void *user);

/* For tsr__tokenize_with; files are read when a prompt first names them. Errors: UNSUPPORTED where the vectors are of
 * another width than an encoder's. */
tsr__embedding_source tsr__embeddings_source(tsr__embeddings *embeddings);
/* Row k of an encoder, [width]; *count rows were read so far. Valid until the next prompt. */
const float *const *tsr__embeddings_rows(const tsr__embeddings *embeddings, int encoder, int *count);

#endif /* TSR_TEXT_EMBEDDINGS_H */
