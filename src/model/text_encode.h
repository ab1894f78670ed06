/* model/text_encode.h - from a prompt to the rows the UNet reads.
 *
 * Chunks, weights and their batch as in reference/comfyui-sampling.md, "Text". Knows no UNet. */
#ifndef TSR_TEXT_ENCODE_H
#define TSR_TEXT_ENCODE_H

#include "model/model.h"
#include "model/prompt_text.h"

/* clip_skip: -1 the last layer, -2 the one before, ... *out gets [*tokens, width] floats, released with free();
 * *tokens is 77 times the number of chunks. */
tsr_status tsr__text_encode(tsr__clip *clip, const tsr__tokenizer *tokenizer, const char *prompt, int clip_skip,
                            float **out, int *tokens, tsr_error *err);

#endif /* TSR_TEXT_ENCODE_H */
