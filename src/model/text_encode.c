/* model/text_encode.c - prompt to text rows: tokens, one encoder batch, weights. */
#include "model/text_encode.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"

#define END_TOKEN 49407 /* CLIP-L also pads with it */

/* z = (z - z_empty) * weight + z_empty, position by position */
static void weigh(float *rows, const float *empty, const float *weights, int chunks, int width) {
    for (int t = 0; t < chunks * TSR__CHUNK; t++) {
        float weight = weights[t];
        if (weight == 1.0f) continue;
        float *z = rows + (size_t)t * (size_t)width;
        const float *z0 = empty + (size_t)(t % TSR__CHUNK) * (size_t)width;
        for (int c = 0; c < width; c++) z[c] = (z[c] - z0[c]) * weight + z0[c];
    }
}

tsr_status tsr__text_encode(tsr__clip *clip, const tsr__tokenizer *tokenizer, const char *prompt, int clip_skip,
                            float **out, int *tokens, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__token_chunks chunks = { 0 }, empty = { 0 };
    int *ids = NULL;
    float *rows = NULL;
    int width = tsr__clip_width(clip);
    *out = NULL;
    *tokens = 0;
    TSR_TRY(tsr__tokenize(tokenizer, &chunks, prompt, END_TOKEN, err));
    int n = chunks.chunks + (chunks.weighted ? 1 : 0);
    TSR_ALLOC(err, ids, (size_t)n * TSR__CHUNK);
    TSR_ALLOC(err, rows, (size_t)n * TSR__CHUNK * (size_t)width);
    memcpy(ids, chunks.ids, (size_t)chunks.chunks * TSR__CHUNK * sizeof *ids);
    if (chunks.weighted) {
        TSR_TRY(tsr__tokenize(tokenizer, &empty, "", END_TOKEN, err));
        memcpy(ids + (size_t)chunks.chunks * TSR__CHUNK, empty.ids, TSR__CHUNK * sizeof *ids);
    }
    TSR_TRY(tsr__clip_encode(clip, rows, ids, n, clip_skip, err));
    if (chunks.weighted)
        weigh(rows, rows + (size_t)chunks.chunks * TSR__CHUNK * (size_t)width, chunks.weights, chunks.chunks, width);
    *out = rows;
    *tokens = chunks.chunks * TSR__CHUNK;
    rows = NULL;
done:
    free(rows);
    free(ids);
    tsr__token_chunks_clear(&chunks);
    tsr__token_chunks_clear(&empty);
    return status;
}
