/* graph/nodes_conditioning.c - rows that make and change conditionings. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "model/text_encode.h"

static const char CONDITIONING_DOC[] = "The conditioning to change.";

/* --- CLIPTextEncode --------------------------------------------------------------------------------------------------------- */
static const tsr__input encode_inputs[] = {
    TSR__STRING("text", TSR__IN_MULTILINE, "", "The prompt; (words:1.2) sets a weight."),
    TSR__LINK("clip", CLIP, "The text encoder."),
    TSR__END,
};

tsr_status tsr__encode_text(tsr__value **out, tsr_graph *graph, const tsr__value *clip, const char *prompt,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    tsr__text *text = NULL;
    tsr__text_rows rows = { 0 };
    *out = NULL;
    TSR_TRY(tsr__slot_engine(&engine, graph, clip->slot, err));
    TSR_TRY(tsr__engine_check_cancel(engine, err));
    TSR_TRY(tsr__adapters_bind_text(clip->slot->set, engine, err)); /* which may have gone with its encoder */
    TSR_TRY(tsr__engine_need_text(engine, err));
    const tsr__nn_terms *terms[TSR__TEXT_ENCODERS] = { tsr__adapters_text(clip->slot->set, 0),
                                                       tsr__adapters_text(clip->slot->set, 1) };
    TSR_TRY(tsr__text_encode(&rows, engine->text, engine->tokenizer, prompt, clip->clip_skip, terms, err));
    TSR_TRY(
        tsr__text_new(&text, rows.tokens, tsr__text_width(engine->text), tsr__text_pooled_width(engine->text), err));
    memcpy(text->values, rows.rows, (size_t)rows.tokens * (size_t)text->width * sizeof *rows.rows);
    if (text->pooled) memcpy(text->pooled, rows.pooled, (size_t)text->pooled_width * sizeof *rows.pooled);
    status = tsr__value_take_text(out, text, err);
    text = NULL;
done:
    tsr__text_unref(text);
    tsr__text_rows_clear(&rows);
    return status;
}

static tsr_status run_encode(tsr__call *call, tsr_error *err) {
    return tsr__encode_text(&call->results[0], call->graph, tsr__arg(call->in, "clip"), tsr__arg_text(call->in, "text"),
                            err);
}

/* --- two texts to one ---------------------------------------------------------------------------------------------------------- */
static const tsr__input combine_inputs[] = {
    TSR__LINK("conditioning_1", CONDITIONING, "The first conditioning."),
    TSR__LINK("conditioning_2", CONDITIONING, "The second conditioning."),
    TSR__END,
};

static tsr_status run_combine(tsr__call *call, tsr_error *err) {
    return tsr__value_join_conds(&call->results[0], tsr__arg(call->in, "conditioning_1"),
                                 tsr__arg(call->in, "conditioning_2"), err);
}

static const tsr__input concat_inputs[] = {
    TSR__LINK("conditioning_to", CONDITIONING, "What comes first."),
    TSR__LINK("conditioning_from", CONDITIONING, "What is put behind it."),
    TSR__END,
};

/* The first entry of `from`: ComfyUI's nodes look no further. */
static tsr_status first_text(const tsr__text **out, const tsr__value *from, const tsr__value *to, tsr_error *err) {
    if (from->n_conds < 1) return tsr__fail(err, TSR_BAD_ARGUMENT, "conditioning_from is empty");
    *out = from->conds[0].text;
    for (int i = 0; i < to->n_conds; i++)
        if (to->conds[i].text->width != (*out)->width)
            return tsr__fail(err, TSR_BAD_ARGUMENT,
                             "the conditionings are of different text encoders: %d and %d values a token",
                             to->conds[i].text->width, (*out)->width);
    return TSR_OK;
}

static void replace_text(tsr__cond *cond, tsr__text *text) {
    tsr__text_unref(cond->text);
    cond->text = text;
}

static tsr_status run_concat(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__value *to = tsr__arg(call->in, "conditioning_to");
    const tsr__text *from = NULL;
    tsr__value *result = NULL;
    TSR_TRY(first_text(&from, tsr__arg(call->in, "conditioning_from"), to, err));
    TSR_TRY(tsr__value_copy_conds(&result, to, err));
    for (int i = 0; i < result->n_conds; i++) {
        const tsr__text *first = result->conds[i].text;
        tsr__text *joined = NULL;
        size_t n = (size_t)first->tokens * (size_t)first->width;
        if (first->tokens + from->tokens > 77 * 1000) TSR_FAIL(err, TSR_TOO_LARGE, "the conditioning grows too long");
        TSR_TRY(tsr__text_new(&joined, first->tokens + from->tokens, first->width, first->pooled_width, err));
        memcpy(joined->values, first->values, n * sizeof(float));
        memcpy(joined->values + n, from->values, (size_t)from->tokens * (size_t)from->width * sizeof(float));
        if (joined->pooled) memcpy(joined->pooled, first->pooled, (size_t)joined->pooled_width * sizeof(float));
        replace_text(&result->conds[i], joined);
    }
    call->results[0] = result;
    result = NULL;
done:
    tsr__value_unref(result);
    return status;
}

static const tsr__input average_inputs[] = {
    TSR__LINK("conditioning_to", CONDITIONING, "What the strength counts for."),
    TSR__LINK("conditioning_from", CONDITIONING, "What the rest counts for."),
    TSR__FLOAT("conditioning_to_strength", 1.0, 0.0, 1.0, 0.01, "Share of the first."),
    TSR__END,
};

/* The shorter `from` is filled with zeros, a longer one cut. */
static tsr_status run_average(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__value *to = tsr__arg(call->in, "conditioning_to");
    float share = (float)tsr__arg_float(call->in, "conditioning_to_strength");
    const tsr__text *from = NULL;
    tsr__value *result = NULL;
    TSR_TRY(first_text(&from, tsr__arg(call->in, "conditioning_from"), to, err));
    TSR_TRY(tsr__value_copy_conds(&result, to, err));
    for (int i = 0; i < result->n_conds; i++) {
        const tsr__text *first = result->conds[i].text;
        tsr__text *mixed = NULL;
        size_t n = (size_t)first->tokens * (size_t)first->width, m = (size_t)from->tokens * (size_t)from->width;
        TSR_TRY(tsr__text_new(&mixed, first->tokens, first->width, first->pooled_width, err));
        for (size_t k = 0; k < n; k++)
            mixed->values[k] = first->values[k] * share + (k < m ? from->values[k] : 0.0f) * (1.0f - share);
        for (int k = 0; k < mixed->pooled_width; k++)
            mixed->pooled[k] =
                first->pooled[k] * share + (k < from->pooled_width ? from->pooled[k] : 0.0f) * (1.0f - share);
        replace_text(&result->conds[i], mixed);
    }
    call->results[0] = result;
    result = NULL;
done:
    tsr__value_unref(result);
    return status;
}

static const tsr__input one_input[] = {
    TSR__LINK("conditioning", CONDITIONING, CONDITIONING_DOC),
    TSR__END,
};

static tsr_status run_zero_out(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *result = NULL;
    TSR_TRY(tsr__value_copy_conds(&result, tsr__arg(call->in, "conditioning"), err));
    for (int i = 0; i < result->n_conds; i++) {
        tsr__text *zeros = NULL;
        TSR_TRY(tsr__text_new(&zeros, result->conds[i].text->tokens, result->conds[i].text->width,
                              result->conds[i].text->pooled_width, err));
        replace_text(&result->conds[i], zeros);
    }
    call->results[0] = result;
    result = NULL;
done:
    tsr__value_unref(result);
    return status;
}

/* --- where and when ------------------------------------------------------------------------------------------------------------- */
static const char *const mask_areas[] = { "default", "mask bounds", NULL };
static const tsr__input set_mask_inputs[] = {
    TSR__LINK("conditioning", CONDITIONING, CONDITIONING_DOC),
    TSR__LINK("mask", MASK, "Where it counts; soft values weigh."),
    TSR__FLOAT("strength", 1.0, 0.0, 10.0, 0.01, "Weight against other conditionings there."),
    TSR__COMBO("set_cond_area", mask_areas, "default", "mask bounds: only the box around the mask is evaluated."),
    TSR__END,
};

static tsr_status run_set_mask(tsr__call *call, tsr_error *err) {
    tsr_status status = tsr__value_copy_conds(&call->results[0], tsr__arg(call->in, "conditioning"), err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < call->results[0]->n_conds; i++) {
        tsr__cond *cond = &call->results[0]->conds[i];
        tsr__value_unref(cond->mask);
        cond->mask = tsr__value_ref(tsr__arg(call->in, "mask"));
        cond->mask_strength = (float)tsr__arg_float(call->in, "strength");
        cond->mask_bounds = strcmp(tsr__arg_text(call->in, "set_cond_area"), "default") != 0;
    }
    return TSR_OK;
}

static tsr_status set_area(tsr__call *call, tsr__area_kind kind, const double area[4], tsr_error *err) {
    tsr_status status = tsr__value_copy_conds(&call->results[0], tsr__arg(call->in, "conditioning"), err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < call->results[0]->n_conds; i++) {
        tsr__cond *cond = &call->results[0]->conds[i];
        cond->area_kind = kind;
        memcpy(cond->area, area, sizeof cond->area);
        cond->strength = (float)tsr__arg_float(call->in, "strength");
        cond->mask_bounds = 0;
    }
    return TSR_OK;
}

static const tsr__input area_inputs[] = {
    TSR__LINK("conditioning", CONDITIONING, CONDITIONING_DOC),
    TSR__INT_STEP("width", 64, 64, 16384, 8, "Pixels."),
    TSR__INT_STEP("height", 64, 64, 16384, 8, "Pixels."),
    TSR__INT_STEP("x", 0, 0, 16384, 8, "Pixels from the left."),
    TSR__INT_STEP("y", 0, 0, 16384, 8, "Pixels from the top."),
    TSR__FLOAT("strength", 1.0, 0.0, 10.0, 0.01, "Weight against other conditionings there."),
    TSR__END,
};

static tsr_status run_area(tsr__call *call, tsr_error *err) {
    static const char *const names[4] = { "height", "width", "y", "x" };
    double area[4];
    for (int i = 0; i < 4; i++) {
        int cells = tsr__arg_int(call->in, names[i]) / 8;
        area[i] = cells;
    }
    return set_area(call, TSR__AREA_LATENT, area, err);
}

static const tsr__input share_inputs[] = {
    TSR__LINK("conditioning", CONDITIONING, CONDITIONING_DOC),
    TSR__FLOAT("width", 1.0, 0.0, 1.0, 0.01, "Share of the picture's width."),
    TSR__FLOAT("height", 1.0, 0.0, 1.0, 0.01, "Share of the picture's height."),
    TSR__FLOAT("x", 0.0, 0.0, 1.0, 0.01, "From the left, as a share."),
    TSR__FLOAT("y", 0.0, 0.0, 1.0, 0.01, "From the top, as a share."),
    TSR__FLOAT("strength", 1.0, 0.0, 10.0, 0.01, "Weight against other conditionings there."),
    TSR__END,
};

static tsr_status run_share(tsr__call *call, tsr_error *err) {
    const double area[4] = { tsr__arg_float(call->in, "height"), tsr__arg_float(call->in, "width"),
                             tsr__arg_float(call->in, "y"), tsr__arg_float(call->in, "x") };
    return set_area(call, TSR__AREA_SHARE, area, err);
}

static const tsr__input area_strength_inputs[] = {
    TSR__LINK("conditioning", CONDITIONING, CONDITIONING_DOC),
    TSR__FLOAT("strength", 1.0, 0.0, 10.0, 0.01, "Weight against other conditionings."),
    TSR__END,
};

static tsr_status run_area_strength(tsr__call *call, tsr_error *err) {
    tsr_status status = tsr__value_copy_conds(&call->results[0], tsr__arg(call->in, "conditioning"), err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < call->results[0]->n_conds; i++)
        call->results[0]->conds[i].strength = (float)tsr__arg_float(call->in, "strength");
    return TSR_OK;
}

static const tsr__input range_inputs[] = {
    TSR__LINK("conditioning", CONDITIONING, CONDITIONING_DOC),
    TSR__FLOAT("start", 0.0, 0.0, 1.0, 0.001, "Share of the sampling from which it counts."),
    TSR__FLOAT("end", 1.0, 0.0, 1.0, 0.001, "Share of the sampling up to which it counts."),
    TSR__END,
};

static tsr_status run_range(tsr__call *call, tsr_error *err) {
    tsr_status status = tsr__value_copy_conds(&call->results[0], tsr__arg(call->in, "conditioning"), err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < call->results[0]->n_conds; i++) {
        call->results[0]->conds[i].start = tsr__arg_float(call->in, "start");
        call->results[0]->conds[i].end = tsr__arg_float(call->in, "end");
    }
    return TSR_OK;
}

#define GIVES_CONDITIONING                                                                                             \
    {                                                                                                                  \
        { "CONDITIONING", TSR__V_CONDITIONING }                                                                        \
    }
static const tsr__node rows[] = {
    { "CLIPTextEncode", "CLIP Text Encode (Prompt)", "conditioning", encode_inputs, GIVES_CONDITIONING, 0, run_encode,
      "Encodes a prompt." },
    { "ConditioningCombine", "Conditioning (Combine)", "conditioning", combine_inputs, GIVES_CONDITIONING, 0,
      run_combine, "Two conditionings whose predictions are averaged, by area, mask and strength." },
    { "ConditioningConcat", "Conditioning (Concat)", "conditioning", concat_inputs, GIVES_CONDITIONING, 0, run_concat,
      "One text behind another, seen by the network together." },
    { "ConditioningAverage", "Conditioning (Average)", "conditioning", average_inputs, GIVES_CONDITIONING, 0,
      run_average, "A mix of two encoded texts." },
    { "ConditioningZeroOut", "ConditioningZeroOut", "advanced/conditioning", one_input, GIVES_CONDITIONING, 0,
      run_zero_out, "The encoded text replaced by zeros." },
    { "ConditioningSetMask", "Conditioning (Set Mask)", "conditioning", set_mask_inputs, GIVES_CONDITIONING, 0,
      run_set_mask, "A conditioning that counts under a mask." },
    { "ConditioningSetArea", "Conditioning (Set Area)", "conditioning", area_inputs, GIVES_CONDITIONING, 0, run_area,
      "A conditioning that counts in a box, given in pixels." },
    { "ConditioningSetAreaPercentage", "Conditioning (Set Area with Percentage)", "conditioning", share_inputs,
      GIVES_CONDITIONING, 0, run_share, "A conditioning that counts in a box, given in shares of the picture." },
    { "ConditioningSetAreaStrength", "ConditioningSetAreaStrength", "conditioning", area_strength_inputs,
      GIVES_CONDITIONING, 0, run_area_strength, "The weight of a conditioning against others." },
    { "ConditioningSetTimestepRange", "ConditioningSetTimestepRange", "advanced/conditioning", range_inputs,
      GIVES_CONDITIONING, 0, run_range, "A conditioning that counts during a part of the sampling." },
};
const tsr__node_group tsr__nodes_conditioning = { rows, sizeof rows / sizeof *rows, "nodes" };
