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

/* --- parts in files of their own ---------------------------------------------------------------------------------------------- */
static const char *const weight_types[] = { "default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2", NULL };
static const char *const encoder_types[] = { "stable_diffusion", "sdxl", NULL };
static const char *const two_encoder_types[] = { "sdxl", NULL };
static const char *const devices[] = { "default", "cpu", NULL };

static const tsr__input unet_inputs[] = {
    TSR__COMBO_FROM("unet_name", tsr__choices_unets, NULL, "A file of the models folder's diffusion_models (or unet)."),
    TSR__COMBO_OPT("weight_dtype", weight_types, "default", "Not looked at: numbers are taken as the file has them."),
    TSR__END,
};

static const tsr__input clip_inputs[] = {
    TSR__COMBO_FROM("clip_name", tsr__choices_text_encoders, NULL,
                    "A file of the models folder's text_encoders (or clip): CLIP-L for SD1, OpenCLIP-H for SD2."),
    TSR__COMBO_OPT("type", encoder_types, "stable_diffusion", "The kind of model; the file tells SD1 from SD2."),
    TSR__COMBO_OPT("device", devices, "default", "Not looked at."),
    TSR__END,
};

static const tsr__input two_clip_inputs[] = {
    TSR__COMBO_FROM("clip_name1", tsr__choices_text_encoders, NULL, "CLIP-L or OpenCLIP-G, in either order."),
    TSR__COMBO_FROM("clip_name2", tsr__choices_text_encoders, NULL, "The other one."),
    TSR__COMBO_OPT("type", two_encoder_types, "sdxl", "The kind of model."),
    TSR__COMBO_OPT("device", devices, "default", "Not looked at."),
    TSR__END,
};

static const tsr__input vae_inputs[] = {
    TSR__COMBO_FROM("vae_name", tsr__choices_vaes, NULL,
                    "A file of the models folder's vae, or taesd or taesdxl where vae_approx has the pair."),
    TSR__END,
};

/* Opens a part; second: NULL, or the input that names another text encoder. */
static tsr_status run_part(tsr__call *call, tsr__slot_role role, tsr__type type, const char *folder, const char *input,
                           const char *second, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__slot *slot = NULL;
    tsr_engine *engine = NULL;
    char *path = NULL, *other = NULL;
    TSR_TRY(tsr__find_file(&path, call->graph, folder, tsr__arg_text(call->in, input), err));
    if (second) TSR_TRY(tsr__find_file(&other, call->graph, folder, tsr__arg_text(call->in, second), err));
    TSR_TRY(tsr__slot_get_part(&slot, call->graph, role, path, other, err));
    TSR_TRY(tsr__slot_engine(&engine, call->graph, slot, err));
    TSR_TRY(slot_value(&call->results[0], type, slot, 0, err));
done:
    free(path);
    free(other);
    return status;
}

static tsr_status run_unet(tsr__call *call, tsr_error *err) {
    return run_part(call, TSR__SLOT_UNET, TSR__V_MODEL, "diffusion_models", "unet_name", NULL, err);
}

static tsr_status run_clip(tsr__call *call, tsr_error *err) {
    return run_part(call, TSR__SLOT_TEXT, TSR__V_CLIP, "text_encoders", "clip_name", NULL, err);
}

static tsr_status run_two_clips(tsr__call *call, tsr_error *err) {
    return run_part(call, TSR__SLOT_TEXT, TSR__V_CLIP, "text_encoders", "clip_name1", "clip_name2", err);
}

static tsr_status run_vae(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__slot *slot = NULL;
    tsr_engine *engine = NULL;
    char *path = NULL, *encoder = NULL;
    TSR_TRY(tsr__find_vae(&path, &encoder, call->graph, tsr__arg_text(call->in, "vae_name"), err));
    TSR_TRY(tsr__slot_get_part(&slot, call->graph, TSR__SLOT_VAE, path, encoder, err));
    TSR_TRY(tsr__slot_engine(&engine, call->graph, slot, err));
    TSR_TRY(slot_value(&call->results[0], TSR__V_VAE, slot, 0, err));
done:
    free(path);
    free(encoder);
    return status;
}

/* --- LoraLoader --------------------------------------------------------------------------------------------------------------- */
static const tsr__input lora_inputs[] = {
    TSR__LINK("model", MODEL, "The model to change."),
    TSR__LINK("clip", CLIP, "The text encoder to change."),
    TSR__COMBO_FROM("lora_name", tsr__choices_loras, NULL,
                    "A file of the models folder's loras: LoRA, LoHa, LoKr, GLoRA, OFT, DoRA or full differences."),
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
    tsr__value_copy_patches(call->results[0], model);
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
    { "UNETLoader",
      "Load Diffusion Model",
      "advanced/loaders",
      unet_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_unet,
      "Opens a UNet in a file of its own." },
    { "CLIPLoader",
      "Load CLIP",
      "advanced/loaders",
      clip_inputs,
      { { "CLIP", TSR__V_CLIP } },
      0,
      run_clip,
      "Opens a text encoder in a file of its own." },
    { "DualCLIPLoader",
      "DualCLIPLoader",
      "advanced/loaders",
      two_clip_inputs,
      { { "CLIP", TSR__V_CLIP } },
      0,
      run_two_clips,
      "Opens SDXL's two text encoders in files of their own." },
    { "VAELoader",
      "Load VAE",
      "loaders",
      vae_inputs,
      { { "VAE", TSR__V_VAE } },
      0,
      run_vae,
      "Opens a VAE in a file of its own." },
    { "UnetLoaderGGUF",
      "Unet Loader (GGUF)",
      "bootleg",
      unet_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_unet,
      "UNETLoader by ComfyUI-GGUF's name; both read GGUF." },
    { "LoraLoader",
      "Load LoRA",
      "loaders",
      lora_inputs,
      { { "MODEL", TSR__V_MODEL }, { "CLIP", TSR__V_CLIP } },
      0,
      run_lora,
      "Puts an adapter beside the weights of a model and its text encoder." },
    { "LoraLoaderModelOnly",
      "LoraLoaderModelOnly",
      "loaders",
      lora_model_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_lora_model,
      "Puts an adapter beside the weights of a model only." },
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
