/* model/text_encode.h - from a prompt to the rows the UNet reads: a family's text encoders together.
 *
 * Chunks, weights and their batch, layers and pooled output as in reference/comfyui-sampling.md, "Text". Knows no UNet. */
#ifndef TSR_TEXT_ENCODE_H
#define TSR_TEXT_ENCODE_H

#include "model/model.h"
#include "model/prompt_text.h"
#include "model/text_embeddings.h"

typedef enum tsr__text_family { TSR__TEXT_SD1, TSR__TEXT_SD2, TSR__TEXT_SDXL } tsr__text_family;

/* One or two encoders, whose rows stand side by side. */
typedef struct tsr__text_stack tsr__text_stack;
/* With the names of a single-file checkpoint. config: tessera.config or NULL; the weights must outlive it. */
tsr_status tsr__text_stack_new(tsr__text_stack **out, tsr__nn *nn, const tsr__weights *weights, tsr__text_family family,
                               const char *config, tsr_error *err);
void tsr__text_stack_free(tsr__text_stack *stack);        /* NULL is allowed */
int tsr__text_width(const tsr__text_stack *stack);        /* values a row */
int tsr__text_pooled_width(const tsr__text_stack *stack); /* 0: no pooled output */
/* Layers from the end that the family reads: 1 (SD1) or 2 (SD2, SDXL). */
int tsr__text_default_skip(const tsr__text_stack *stack);

/* Where files of "embedding:NAME" are looked for; without it there are none. */
void tsr__text_look_for_embeddings(tsr__text_stack *stack, tsr__embedding_path_fn find, void *user);

/* The weights of encoder i, for adapters; NULL: there is none. */
const tsr__weight_log *tsr__text_weights(const tsr__text_stack *stack, int i);
enum { TSR__TEXT_ENCODERS = 2 };

/* What a prompt becomes; release with tsr__text_rows_clear. */
typedef struct tsr__text_rows {
    float *rows;   /* [tokens, width] */
    int tokens;    /* 77 times the number of chunks */
    float *pooled; /* [pooled width], of the first chunk; NULL where the family has none */
} tsr__text_rows;
void tsr__text_rows_clear(tsr__text_rows *rows);

/* clip_skip: 1 the last layer, 2 the one before, ...; 0: the family's own. terms: NULL, or what adapters add to each
 * encoder. */
tsr_status tsr__text_encode(tsr__text_rows *out, const tsr__text_stack *stack, const tsr__tokenizer *tokenizer,
                            const char *prompt, int clip_skip, const tsr__nn_terms *const *terms, tsr_error *err);

#endif /* TSR_TEXT_ENCODE_H */
