/* graph/nodes_loaders.c - rows that open models. */
#include <stdlib.h>

#include "graph/graph_priv.h"

/* A MODEL, CLIP or VAE value of a slot. */
static tsr_status slot_value(tsr__value **out, tsr__type type, tsr__slot *slot, int clip_skip, tsr_error *err) {
    tsr_status status = tsr__value_new(out, type, err);
    if (status != TSR_OK) return status;
    (*out)->slot = slot;
    (*out)->clip_skip = clip_skip;
    return TSR_OK;
}

/* --- CheckpointLoaderSimple --------------------------------------------------------------------------------------------------- */
static const tsr__input checkpoint_inputs[] = {
    TSR__COMBO_FROM("ckpt_name", tsr__choices_checkpoints, NULL, "A file of the models folder's checkpoints."),
    TSR__END,
};

static tsr_status run_checkpoint(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__slot *slot = NULL;
    tsr_engine *engine = NULL;
    char *path = NULL;
    TSR_TRY(tsr__find_file(&path, call->graph, "checkpoints", tsr__arg_text(call->in, "ckpt_name"), err));
    TSR_TRY(tsr__slot_get(&slot, call->graph, path, err));
    TSR_TRY(tsr__slot_engine(&engine, call->graph, slot, err)); /* says now when it is no checkpoint */
    TSR_TRY(slot_value(&call->results[0], TSR__V_MODEL, slot, 0, err));
    TSR_TRY(slot_value(&call->results[1], TSR__V_CLIP, slot, 0, err));
    TSR_TRY(slot_value(&call->results[2], TSR__V_VAE, slot, 0, err));
done:
    free(path);
    return status;
}

/* --- LoraLoader --------------------------------------------------------------------------------------------------------------- */
static const tsr__input lora_inputs[] = {
    TSR__LINK("model", MODEL, "The model to change."),
    TSR__LINK("clip", CLIP, "The text encoder to change."),
    TSR__COMBO_FROM("lora_name", tsr__choices_loras, NULL,
                    "A file of the models folder's loras: kohya (linear and convolution), LoHa or LoKr."),
    TSR__FLOAT("strength_model", 1.0, -100.0, 100.0, 0.01, "How strongly the model changes; may be negative."),
    TSR__FLOAT("strength_clip", 1.0, -100.0, 100.0, 0.01, "How strongly the text encoder changes; may be negative."),
    TSR__END,
};

static const tsr__input lora_model_inputs[] = {
    TSR__LINK("model", MODEL, "The model to change."),
    TSR__COMBO_FROM("lora_name", tsr__choices_loras, NULL, "A file of the models folder's loras."),
    TSR__FLOAT("strength_model", 1.0, -100.0, 100.0, 0.01, "How strongly the model changes; may be negative."),
    TSR__END,
};

/* One slot holds both when both come from one slot; then its text encoder and its network are changed together. */
static tsr_status adapt(tsr__call *call, const tsr__value *model, const tsr__value *clip, double model_strength,
                        double clip_strength, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__slot *model_slot = model->slot, *clip_slot = clip ? clip->slot : NULL;
    char *path = NULL;
    int one = clip && model->slot == clip->slot;
    TSR_TRY(tsr__find_file(&path, call->graph, "loras", tsr__arg_text(call->in, "lora_name"), err));
    if (one && (model_strength != 0.0 || clip_strength != 0.0)) {
        TSR_TRY(tsr__slot_adapt(&model_slot, call->graph, model->slot, path, model_strength, clip_strength, err));
        clip_slot = model_slot;
    } else if (!one) {
        if (model_strength != 0.0)
            TSR_TRY(tsr__slot_adapt(&model_slot, call->graph, model->slot, path, model_strength, 0.0, err));
        if (clip && clip_strength != 0.0)
            TSR_TRY(tsr__slot_adapt(&clip_slot, call->graph, clip->slot, path, 0.0, clip_strength, err));
    }
    TSR_TRY(slot_value(&call->results[0], TSR__V_MODEL, model_slot, 0, err));
    if (clip) TSR_TRY(slot_value(&call->results[1], TSR__V_CLIP, clip_slot, clip->clip_skip, err));
done:
    free(path);
    return status;
}

static tsr_status run_lora(tsr__call *call, tsr_error *err) {
    return adapt(call, tsr__arg(call->in, "model"), tsr__arg(call->in, "clip"),
                 tsr__arg_float(call->in, "strength_model"), tsr__arg_float(call->in, "strength_clip"), err);
}

static tsr_status run_lora_model(tsr__call *call, tsr_error *err) {
    return adapt(call, tsr__arg(call->in, "model"), NULL, tsr__arg_float(call->in, "strength_model"), 0.0, err);
}

/* --- CLIPSetLastLayer --------------------------------------------------------------------------------------------------------- */
static const tsr__input last_layer_inputs[] = {
    TSR__LINK("clip", CLIP, "The text encoder."),
    TSR__INT("stop_at_clip_layer", -1, -24, -1, "-1: the last layer; -2: the one before (clip skip 2); and so on."),
    TSR__END,
};

static tsr_status run_last_layer(tsr__call *call, tsr_error *err) {
    return slot_value(&call->results[0], TSR__V_CLIP, tsr__arg(call->in, "clip")->slot,
                      -tsr__arg_int(call->in, "stop_at_clip_layer"), err);
}

static const tsr__node rows[] = {
    { "CheckpointLoaderSimple",
      "Load Checkpoint",
      "loaders",
      checkpoint_inputs,
      { { "MODEL", TSR__V_MODEL }, { "CLIP", TSR__V_CLIP }, { "VAE", TSR__V_VAE } },
      0,
      run_checkpoint,
      "Opens a checkpoint: network, text encoder and VAE." },
    { "LoraLoader",
      "Load LoRA",
      "loaders",
      lora_inputs,
      { { "MODEL", TSR__V_MODEL }, { "CLIP", TSR__V_CLIP } },
      0,
      run_lora,
      "Merges an adapter into a model and its text encoder." },
    { "LoraLoaderModelOnly",
      "LoraLoaderModelOnly",
      "loaders",
      lora_model_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_lora_model,
      "Merges an adapter into a model only." },
    { "CLIPSetLastLayer",
      "CLIP Set Last Layer",
      "conditioning",
      last_layer_inputs,
      { { "CLIP", TSR__V_CLIP } },
      0,
      run_last_layer,
      "Takes the text encoder's result from an earlier layer (clip skip)." },
};
const tsr__node_group tsr__nodes_loaders = { rows, sizeof rows / sizeof *rows, "nodes" };
