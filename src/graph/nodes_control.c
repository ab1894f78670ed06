/* graph/nodes_control.c - rows of control networks and of the edges that they read. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "engine/engine_control.h"
#include "graph/graph_priv.h"
#include "picture/preprocess.h"

/* --- ControlNetLoader -------------------------------------------------------------------------------------------------------- */
static const tsr__input loader_inputs[] = {
    TSR__COMBO_FROM("control_net_name", tsr__choices_control_nets, NULL, "A file of the models folder's controlnet."),
    TSR__END,
};

static tsr_status make_net(tsr__value **out, const char *path, int type, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *value = NULL;
    TSR_TRY(tsr__value_new(&value, TSR__V_CONTROL_NET, err));
    value->integer = type;
    value->text = tsr__strdup(path);
    if (!value->text) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    *out = value;
    value = NULL;
done:
    tsr__value_unref(value);
    return status;
}

static tsr_status run_loader(tsr__call *call, tsr_error *err) {
    char *path = NULL;
    tsr_status status =
        tsr__find_file(&path, call->graph, "controlnet", tsr__arg_text(call->in, "control_net_name"), err);
    if (status == TSR_OK) status = make_net(&call->results[0], path, -1, err);
    free(path);
    return status;
}

/* A difference is put on the model that samples with it, which is the one given here in every workflow that makes sense. */
static const tsr__input difference_inputs[] = {
    TSR__LINK("model", MODEL, "The model that samples with it."),
    TSR__COMBO_FROM("control_net_name", tsr__choices_control_nets, NULL, "A file of the models folder's controlnet."),
    TSR__END,
};

/* --- SetUnionControlNetType -------------------------------------------------------------------------------------------------- */
static const char *const union_types[] = {
    "auto", "openpose", "depth", "hed/pidi/scribble/ted", "canny/lineart/anime_lineart/mlsd", "normal", "segment",
    "tile", "repaint",  NULL
};

static const tsr__input union_inputs[] = {
    TSR__LINK("control_net", CONTROL_NET, "A union ControlNet; other networks do not look at the type."),
    TSR__COMBO("type", union_types, "auto", "Which kind of picture it will read."),
    TSR__END,
};

static tsr_status run_union(tsr__call *call, tsr_error *err) {
    return make_net(&call->results[0], tsr__arg(call->in, "control_net")->text,
                    tsr__control_type(tsr__arg_text(call->in, "type")), err);
}

/* --- applying ------------------------------------------------------------------------------------------------------------------ */
/* Every entry of the list gets the control besides those it has. everywhere: negatives without a control shall get it too. */
static tsr_status apply(tsr__value **out, tsr__call *call, const char *list, double start, double end, int everywhere,
                        tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *result = NULL;
    *out = NULL;
    TSR_TRY(tsr__value_copy_conds(&result, tsr__arg(call->in, list), err));
    float strength = (float)tsr__arg_float(call->in, "strength");
    for (int i = 0; i < result->n_conds && strength != 0.0f; i++) {
        tsr__control *control = NULL;
        TSR_ALLOC_ZERO(err, control, 1);
        control->refs = 1;
        control->previous = result->conds[i].control; /* its count moves */
        control->net = tsr__value_ref(tsr__arg(call->in, "control_net"));
        control->image = tsr__value_ref(tsr__arg(call->in, "image"));
        control->strength = strength;
        control->start = start;
        control->end = end;
        control->everywhere = everywhere;
        result->conds[i].control = control;
    }
    *out = result;
    result = NULL;
done:
    tsr__value_unref(result);
    return status;
}

static const tsr__input apply_inputs[] = {
    TSR__LINK("conditioning", CONDITIONING, "The conditioning to steer."),
    TSR__LINK("control_net", CONTROL_NET, "The control network."),
    TSR__LINK("image", IMAGE, "The picture it reads, scaled to the canvas; of several, the first."),
    TSR__FLOAT("strength", 1.0, 0.0, 10.0, 0.01, "Multiplies what it adds."),
    TSR__END,
};

static tsr_status run_apply(tsr__call *call, tsr_error *err) {
    return apply(&call->results[0], call, "conditioning", 0.0, 1.0, 1, err);
}

static const tsr__input advanced_inputs[] = {
    TSR__LINK("positive", CONDITIONING, "The positive conditioning to steer."),
    TSR__LINK("negative", CONDITIONING, "The negative conditioning to steer."),
    TSR__LINK("control_net", CONTROL_NET, "The control network."),
    TSR__LINK("image", IMAGE, "The picture it reads, scaled to the canvas; of several, the first."),
    TSR__FLOAT("strength", 1.0, 0.0, 10.0, 0.01, "Multiplies what it adds."),
    TSR__FLOAT("start_percent", 0.0, 0.0, 1.0, 0.001, "Share of the sampling from which it counts."),
    TSR__FLOAT("end_percent", 1.0, 0.0, 1.0, 0.001, "Share of the sampling up to which it counts."),
    TSR__LINK_OPT("vae", VAE, "Not needed by the networks that are supported."),
    TSR__END,
};

static tsr_status run_advanced(tsr__call *call, tsr_error *err) {
    double start = tsr__arg_float(call->in, "start_percent"), end = tsr__arg_float(call->in, "end_percent");
    tsr_status status = apply(&call->results[0], call, "positive", start, end, 0, err);
    if (status == TSR_OK) status = apply(&call->results[1], call, "negative", start, end, 0, err);
    return status;
}

/* --- Canny ---------------------------------------------------------------------------------------------------------------------- */
static const tsr__input canny_inputs[] = {
    TSR__LINK("image", IMAGE, "The pictures."),
    TSR__FLOAT("low_threshold", 0.4, 0.01, 0.99, 0.01, "Steepness from which an edge that hangs on another counts."),
    TSR__FLOAT("high_threshold", 0.8, 0.01, 0.99, 0.01, "Steepness from which an edge counts."),
    TSR__END,
};

static tsr_status run_canny(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *in = &tsr__arg(call->in, "image")->pictures;
    size_t plane = (size_t)in->h * (size_t)in->w;
    tsr__value *value = NULL;
    TSR_TRY(tsr__value_pictures(&value, in->n, in->h, in->w, 3, err));
    for (int i = 0; i < in->n; i++) {
        float *rgb = value->pictures.values + (size_t)i * plane * 3;
        const float *from = in->values + (size_t)i * plane * (size_t)in->c;
        for (size_t k = 0; k < plane; k++) memcpy(rgb + 3 * k, from + (size_t)in->c * k, 3 * sizeof *rgb);
        TSR_TRY(tsr__canny(rgb, in->w, in->h, (float)tsr__arg_float(call->in, "low_threshold"),
                           (float)tsr__arg_float(call->in, "high_threshold"), err));
    }
    call->results[0] = value;
    value = NULL;
done:
    tsr__value_unref(value);
    return status;
}

static const tsr__node rows[] = {
    { "ControlNetLoader",
      "Load ControlNet Model",
      "loaders",
      loader_inputs,
      { { "CONTROL_NET", TSR__V_CONTROL_NET } },
      0,
      run_loader,
      "Names a ControlNet or T2I-Adapter; it is opened when a model samples with it." },
    { "DiffControlNetLoader",
      "Load ControlNet Model (diff)",
      "loaders",
      difference_inputs,
      { { "CONTROL_NET", TSR__V_CONTROL_NET } },
      0,
      run_loader,
      "Names a ControlNet whose file keeps the difference from a model; it is put on the model that samples with it." },
    { "SetUnionControlNetType",
      "SetUnionControlNetType",
      "conditioning/controlnet",
      union_inputs,
      { { "CONTROL_NET", TSR__V_CONTROL_NET } },
      0,
      run_union,
      "Tells a union ControlNet which kind of picture it will read." },
    { "ControlNetApply",
      "Apply ControlNet (OLD)",
      "conditioning/controlnet",
      apply_inputs,
      { { "CONDITIONING", TSR__V_CONDITIONING } },
      0,
      run_apply,
      "Steers a conditioning by a picture, and the negative it is sampled with too where that has no control." },
    { "ControlNetApplyAdvanced",
      "Apply ControlNet",
      "conditioning/controlnet",
      advanced_inputs,
      { { "positive", TSR__V_CONDITIONING }, { "negative", TSR__V_CONDITIONING } },
      0,
      run_advanced,
      "Steers two conditionings by a picture during a part of the sampling. Several add up." },
    { "Canny",
      "Canny",
      "image/preprocessors",
      canny_inputs,
      { { "IMAGE", TSR__V_IMAGE } },
      0,
      run_canny,
      "The edges of pictures, white on black." },
};
const tsr__node_group tsr__nodes_control = { rows, sizeof rows / sizeof *rows, "nodes" };
