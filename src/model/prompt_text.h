/* model/prompt_text.h - from a prompt to token chunks: weight syntax, CLIP BPE, 77-token chunks.
 *
 * Facts: reference/comfyui-sampling.md, "Text". Threads: the tokenizer is immutable after creation. */
#ifndef TSR_PROMPT_TEXT_H
#define TSR_PROMPT_TEXT_H

#include <stddef.h>

#include "tessera/status.h"

#define TSR__CHUNK            77
#define TSR__PROMPT_MAX_BYTES 65536

typedef struct tsr__tokenizer tsr__tokenizer;
tsr_status tsr__tokenizer_new(tsr__tokenizer **out, tsr_error *err);
void tsr__tokenizer_free(tsr__tokenizer *tokenizer);
/* The vocabulary, for writing it into other programs' files. Token ids: 0..255 the byte tsr__vocabulary_byte(id), 256..511 the
 * same bytes where a word ends, from 512 on merges of two earlier tokens, then the start and the end token. */
int tsr__vocabulary_merges(void); /* how many */
void tsr__vocabulary_merge(int index, int pair[2]);
int tsr__vocabulary_byte(int id); /* id 0..255 */

typedef struct tsr__token_chunks {
    int chunks;     /* >= 1 */
    int *ids;       /* [chunks, 77] */
    float *weights; /* [chunks, 77] */
    int weighted;   /* some weight differs from 1 */
} tsr__token_chunks;

/* What "embedding:NAME" stands for in a prompt: rows given to the encoder instead of tokens' own. Row k of the source has the
 * id TSR__EXTRA_TOKEN + k. */
#define TSR__EXTRA_TOKEN (1 << 20)
typedef struct tsr__embedding_source {
    void *user;
    /* *found 0: there is no embedding of that name (not terminated). */
    tsr_status (*find)(void *user, const char *name, size_t length, int *found, int *first, int *count, tsr_error *err);
} tsr__embedding_source;

/* pad: the id after the end token (49407 for CLIP-L, 0 for OpenCLIP). Never fails on strange UTF-8. TOO_LARGE over the
 * limit or nested deeper than 256; UNSUPPORTED for "embedding:NAME" without a source (NULL), NOT_FOUND for one
 * that the source does not have. */
tsr_status tsr__tokenize(const tsr__tokenizer *tokenizer, tsr__token_chunks *out, const char *prompt, int pad,
                         tsr_error *err);
tsr_status tsr__tokenize_with(const tsr__tokenizer *tokenizer, tsr__token_chunks *out, const char *prompt, int pad,
                              const tsr__embedding_source *source, tsr_error *err);
void tsr__token_chunks_clear(tsr__token_chunks *chunks);

#endif /* TSR_PROMPT_TEXT_H */
