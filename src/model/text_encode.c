/* model/text_encode.c - prompt to text rows: tokens, one batch an encoder, weights, encoders side by side. */
#include "model/text_encode.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"

enum { MAX_ENCODERS = TSR__TEXT_ENCODERS };

/* What a family reads of its encoders. */
static const struct family {
    const char *prefixes[MAX_ENCODERS], *heads_keys[MAX_ENCODERS];
    int skip, normed;
    int pooled; /* which encoder gives the pooled output; -1: none */
    const char *embedding_keys[MAX_ENCODERS];
    int layers; /* of the first encoder, where files are known to leave the last one out; else 0 */
} FAMILIES[] = {
    [TSR__TEXT_SD1] = { { "cond_stage_model.transformer.text_model", NULL },
                        { "text_heads", NULL },
                        1,
                        1,
                        -1,
                        { "clip_l", NULL },
                        0 },
    [TSR__TEXT_SD2] = { { "cond_stage_model.model", NULL }, { "text_heads", NULL }, 2, 1, -1, { "clip_h", NULL }, 24 },
    [TSR__TEXT_SDXL] = { { "conditioner.embedders.0.transformer.text_model", "conditioner.embedders.1.model" },
                         { "text_heads", "text2_heads" },
                         2,
                         0,
                         1,
                         { "clip_l", "clip_g" },
                         0 },
};

struct tsr__text_stack {
    const struct family *family;
    tsr__nn *nn;
    tsr__clip *encoders[MAX_ENCODERS];
    int count, width;
    tsr__embeddings *embeddings;
};

tsr_status tsr__text_stack_new(tsr__text_stack **out, tsr__nn *nn, const tsr__weights *weights, tsr__text_family family,
                               const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__text_stack *stack = NULL;
    int widths[MAX_ENCODERS] = { 0 };
    *out = NULL;
    TSR_ALLOC_ZERO(err, stack, 1);
    stack->family = &FAMILIES[family];
    stack->nn = nn;
    for (int i = 0; i < MAX_ENCODERS && stack->family->prefixes[i]; i++) {
        TSR_TRY(tsr__clip_new(&stack->encoders[i], nn, weights, stack->family->prefixes[i], config,
                              stack->family->heads_keys[i], err));
        stack->width += tsr__clip_width(stack->encoders[i]);
        stack->count++;
    }
    for (int i = 0; i < stack->count; i++) widths[i] = tsr__clip_width(stack->encoders[i]);
    TSR_TRY(tsr__embeddings_new(&stack->embeddings, widths, stack->family->embedding_keys, stack->count, err));
    *out = stack;
    stack = NULL;
done:
    tsr__text_stack_free(stack);
    return status;
}

void tsr__text_stack_free(tsr__text_stack *stack) {
    if (!stack) return;
    for (int i = 0; i < stack->count; i++) tsr__clip_free(stack->encoders[i]);
    tsr__embeddings_free(stack->embeddings);
    free(stack);
}

void tsr__text_look_for_embeddings(tsr__text_stack *stack, tsr__embedding_path_fn find, void *user) {
    tsr__embeddings_look(stack->embeddings, find, user);
}

int tsr__text_width(const tsr__text_stack *stack) {
    return stack->width;
}

int tsr__text_pooled_width(const tsr__text_stack *stack) {
    int from = stack->family->pooled;
    return from < 0 ? 0 : tsr__clip_pooled_width(stack->encoders[from]);
}

const tsr__weight_log *tsr__text_weights(const tsr__text_stack *stack, int i) {
    return i < stack->count ? tsr__clip_weights(stack->encoders[i]) : NULL;
}

int tsr__text_default_skip(const tsr__text_stack *stack) {
    return stack->family->skip;
}

void tsr__text_rows_clear(tsr__text_rows *rows) {
    free(rows->rows);
    free(rows->pooled);
    memset(rows, 0, sizeof *rows);
}

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

/* Encoder i's rows. pooled: NULL, or where the first chunk's goes. */
static tsr_status encode_one(const tsr__text_stack *stack, int i, const tsr__tokenizer *tokenizer, const char *prompt,
                             tsr__clip_want want, float **out, int *tokens, float *pooled, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__clip *clip = stack->encoders[i];
    tsr__embedding_source source = tsr__embeddings_source(stack->embeddings);
    tsr__token_chunks chunks = { 0 }, empty = { 0 };
    int *ids = NULL;
    float *rows = NULL, *all_pooled = NULL;
    size_t width = (size_t)tsr__clip_width(clip), pooled_width = (size_t)tsr__clip_pooled_width(clip);
    int pad = tsr__clip_pad(clip);
    TSR_TRY(tsr__tokenize_with(tokenizer, &chunks, prompt, pad, &source, err));
    want.extra = tsr__embeddings_rows(stack->embeddings, i, &want.extra_count);
    int n = chunks.chunks + (chunks.weighted ? 1 : 0);
    TSR_ALLOC(err, ids, (size_t)n * TSR__CHUNK);
    TSR_ALLOC(err, rows, (size_t)n * TSR__CHUNK * width);
    memcpy(ids, chunks.ids, (size_t)chunks.chunks * TSR__CHUNK * sizeof *ids);
    if (chunks.weighted) {
        TSR_TRY(tsr__tokenize(tokenizer, &empty, "", pad, err));
        memcpy(ids + (size_t)chunks.chunks * TSR__CHUNK, empty.ids, TSR__CHUNK * sizeof *ids);
    }
    if (pooled) TSR_ALLOC(err, all_pooled, (size_t)n * pooled_width);
    want.pooled = all_pooled;
    TSR_TRY(tsr__clip_encode(clip, rows, ids, n, want, err));
    if (chunks.weighted)
        weigh(rows, rows + (size_t)chunks.chunks * TSR__CHUNK * width, chunks.weights, chunks.chunks, (int)width);
    if (pooled) memcpy(pooled, all_pooled, pooled_width * sizeof *pooled);
    *out = rows;
    *tokens = chunks.chunks * TSR__CHUNK;
    rows = NULL;
done:
    free(all_pooled);
    free(rows);
    free(ids);
    tsr__token_chunks_clear(&chunks);
    tsr__token_chunks_clear(&empty);
    return status;
}

/* diffusers saves SD2's encoder without its last layer, which nothing reads; layers are still counted from that one. */
static tsr_status skip_to_layer(int *layer, const tsr__text_stack *stack, int skip, tsr_error *err) {
    const int left_out = stack->family->layers && tsr__clip_depth(stack->encoders[0]) == stack->family->layers - 1;
    *layer = left_out - skip;
    if (*layer < 0) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED, "clip skip %d: the text encoder's last layer is not in the file", skip);
}

tsr_status tsr__text_encode(tsr__text_rows *out, const tsr__text_stack *stack, const tsr__tokenizer *tokenizer,
                            const char *prompt, int clip_skip, const tsr__nn_terms *const *terms, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *parts[MAX_ENCODERS] = { NULL };
    int tokens[MAX_ENCODERS] = { 0 }, offset = 0;
    tsr__clip_want want = { 0, stack->family->normed, NULL, NULL, 0 };
    memset(out, 0, sizeof *out);
    TSR_TRY(skip_to_layer(&want.layer, stack, clip_skip ? clip_skip : stack->family->skip, err));
    if (tsr__text_pooled_width(stack)) TSR_ALLOC(err, out->pooled, tsr__text_pooled_width(stack));
    for (int i = 0; i < stack->count; i++) {
        tsr__nn_terms_use(stack->nn, terms ? terms + i : NULL, terms ? 1 : 0);
        TSR_TRY(encode_one(stack, i, tokenizer, prompt, want, &parts[i], &tokens[i],
                           i == stack->family->pooled ? out->pooled : NULL, err));
    }
    out->tokens = tokens[0]; /* one tokenizer: as many chunks for each encoder */
    TSR_ALLOC(err, out->rows, (size_t)out->tokens * (size_t)stack->width);
    for (int i = 0; i < stack->count; i++) {
        size_t width = (size_t)tsr__clip_width(stack->encoders[i]);
        for (int t = 0; t < out->tokens; t++)
            memcpy(out->rows + (size_t)t * (size_t)stack->width + offset, parts[i] + (size_t)t * width,
                   width * sizeof(float));
        offset += (int)width;
    }
done:
    tsr__nn_terms_use(stack->nn, NULL, 0);
    for (int i = 0; i < MAX_ENCODERS; i++) free(parts[i]);
    if (status != TSR_OK) tsr__text_rows_clear(out);
    return status;
}
