/* engine/engine_text.c - prompts to conditionings, each encoded once. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "model/text_encode.h"

tsr_status tsr__conditioning_get(tsr__conditioning **out, tsr_engine *engine, const char *prompt, int clip_skip,
                                 tsr__adapter_set *adapters, tsr__control_set *controls, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__conditioning *made = NULL;
    *out = NULL;
    for (tsr__conditioning *at = engine->prompts; at; at = at->next) {
        if (at->clip_skip != clip_skip || at->adapters != adapters || at->controls != controls ||
            strcmp(at->prompt, prompt) != 0)
            continue;
        *out = at;
        return TSR_OK;
    }
    TSR_ALLOC_ZERO(err, made, 1);
    made->clip_skip = clip_skip;
    made->adapters = adapters;
    made->controls = tsr__controls_ref(controls);
    made->prompt = tsr__strdup(prompt);
    if (!made->prompt) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    made->next = engine->prompts;
    engine->prompts = made;
    *out = made;
    made = NULL;
done:
    if (made) tsr__controls_unref(made->controls);
    free(made);
    return status;
}

tsr_status tsr__engine_make_context(tsr_engine *engine, tsr__conditioning *cond, tsr_error *err) {
    const tsr__nn_terms *terms = tsr__adapters_unet(cond->adapters);
    tsr__nn_terms_use(engine->nn, &terms, 1);
    tsr_status status = tsr__unet_context_new(&cond->context, engine->unet, cond->values, cond->tokens, err);
    tsr__nn_terms_use(engine->nn, NULL, 0);
    return status == TSR_OK ? tsr__controls_read_text(engine, cond, err) : status;
}

tsr_status tsr__conditioning_encode(tsr_engine *engine, tsr__conditioning *cond, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (cond->values || cond->coupled) return TSR_OK;
    TSR_TRY(tsr__engine_check_cancel(engine, err));
    TSR_TRY(tsr__adapters_bind_text(cond->adapters, engine, err));
    TSR_TRY(tsr__engine_need_text(engine, err));
    tsr__text_rows text;
    const tsr__nn_terms *terms[TSR__TEXT_ENCODERS] = { tsr__adapters_text(cond->adapters, 0),
                                                       tsr__adapters_text(cond->adapters, 1) };
    TSR_TRY(tsr__text_encode(&text, engine->text, engine->tokenizer, cond->prompt, cond->clip_skip, terms, err));
    cond->values = text.rows;
    cond->pooled = text.pooled;
    cond->tokens = text.tokens;
    cond->width = engine->text_width;
    cond->pooled_width = engine->pooled_width;
    tsr__budget_used(engine);
done:
    return status;
}

tsr_status tsr__conditioning_need(tsr_engine *engine, tsr__conditioning *cond, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (cond->coupled) return TSR_OK;
    TSR_TRY(tsr__conditioning_encode(engine, cond, err));
    if (!cond->context) {
        TSR_TRY(tsr__adapters_bind_unet(cond->adapters, engine, err));
        TSR_TRY(tsr__engine_need_unet(engine, err));
        int label = tsr__unet_label_width(engine->unet), pooled = cond->pooled_width;
        if (label != (pooled ? pooled + TSR__SIZE_VALUES * TSR__SIZE_WIDTH : 0))
            TSR_FAIL(err, TSR_UNSUPPORTED,
                     "%s: its UNet takes a second vector of %d values, its text encoders pool %d (SDXL: 2816 and 1280)",
                     engine->model, label, pooled);
        if (cond->width != tsr__unet_context_width(engine->unet))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: its text encoder gives %d values a token, its UNet takes %d",
                     engine->model, cond->width, tsr__unet_context_width(engine->unet));
        TSR_TRY(tsr__engine_make_context(engine, cond, err));
    }
done:
    return status;
}

/* One vector for a picture of several texts: their mean by area. */
static tsr_status mix_pooled(tsr__conditioning *made, const tsr_engine *engine, const void *const *conds,
                             const float *const *weights, int n, size_t pixels, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int label = tsr__unet_label_width(engine->unet);
    const size_t width = label ? (size_t)(label - TSR__SIZE_VALUES * TSR__SIZE_WIDTH) : 0;
    if (!width) return TSR_OK;
    TSR_ALLOC_ZERO(err, made->pooled, width);
    for (int k = 0; k < n; k++) {
        const tsr__conditioning *part = conds[k];
        double area = 0.0;
        for (size_t i = 0; i < pixels; i++) area += (double)weights[k][i];
        for (size_t c = 0; c < width; c++) made->pooled[c] += (float)(area / (double)pixels) * part->pooled[c];
    }
done:
    return status;
}

tsr_status tsr__conditioning_couple(void *user, const void **out, const void *const *conds, const float *const *weights,
                                    int n, int height, int width, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = user;
    tsr__conditioning *made = NULL;
    tsr__unet_context **contexts = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, contexts, n);
    TSR_ALLOC_ZERO(err, made, 1);
    made->coupled = 1;
    for (int k = 0; k < n; k++) {
        tsr__conditioning *part = (tsr__conditioning *)(uintptr_t)conds[k];
        TSR_TRY(tsr__conditioning_need(engine, part, err));
        if (k && part->adapters != made->adapters)
            TSR_FAIL(err, TSR_UNSUPPORTED,
                     "mode couple evaluates all regions at once: regions with adapters of their own need full or crop");
        if (k && part->concat != made->concat)
            TSR_FAIL(
                err, TSR_UNSUPPORTED,
                "mode couple evaluates all regions at once: regions with masked pictures of their own need full or "
                "crop");
        made->adapters = part->adapters;
        made->concat = part->concat;
        contexts[k] = part->context;
        if (k == 0) made->tokens = part->tokens;
    }
    TSR_TRY(tsr__engine_need_unet(engine, err));
    TSR_TRY(mix_pooled(made, engine, conds, weights, n, (size_t)height * (size_t)width, err));
    TSR_TRY(tsr__controls_couple(made, conds, weights, n, height, width, err));
    TSR_TRY(tsr__unet_context_couple(&made->context, engine->unet, contexts, weights, n, height, width, err));
    *out = made;
    made = NULL;
done:
    free(contexts);
    if (made) {
        tsr__controls_drop(made);
        free(made->pooled);
    }
    free(made);
    return status;
}

void tsr__conditioning_uncouple(void *user, const void *cond) {
    tsr__conditioning *coupled = (tsr__conditioning *)(uintptr_t)cond;
    (void)user;
    tsr__unet_context_free(coupled->context);
    tsr__controls_drop(coupled);
    free(coupled->pooled);
    free(coupled);
}

void tsr__conditioning_free_all(tsr_engine *engine) {
    while (engine->prompts) {
        tsr__conditioning *next = engine->prompts->next;
        tsr__unet_context_free(engine->prompts->context);
        tsr__controls_drop(engine->prompts);
        free(engine->prompts->values);
        free(engine->prompts->pooled);
        free(engine->prompts->prompt);
        free(engine->prompts);
        engine->prompts = next;
    }
}

void tsr_engine_forget_prompts(tsr_engine *engine) {
    tsr__conditioning_free_all(engine);
    for (tsr_engine *guest = engine->guests; guest; guest = guest->next_guest) tsr__conditioning_free_all(guest);
}

tsr_status tsr_engine_encode_prompt(const void **out, tsr_engine *engine, const char *prompt, int clip_skip,
                                    tsr_error *err) {
    tsr__conditioning *cond = NULL;
    *out = NULL;
    if (clip_skip < 0 || clip_skip > 24)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "clip_skip: %d is not in 1 (the last layer) to 24, or 0", clip_skip);
    tsr_status status = tsr__conditioning_get(&cond, engine, prompt, clip_skip, NULL, NULL, err);
    if (status == TSR_OK) status = tsr__conditioning_need(engine, cond, err);
    if (status == TSR_OK) *out = cond;
    return status;
}
