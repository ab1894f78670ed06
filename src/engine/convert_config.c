/* engine/convert_config.c - the JSON of a diffusers folder: model_index.json and a config.json for each part.
 *
 * Everything is read from the shapes of the weights and from what the checkpoint tells of itself; keys and classes are
 * those of diffusers 0.27 and transformers' CLIP. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "engine/convert_target.h"
#include "engine/engine_family.h"

enum { MOST_LEVELS = 16 };
static const char VERSION[] = "0.27.0";
#define UNET "model.diffusion_model."
#define VAE  "first_stage_model."

/* --- shapes -------------------------------------------------------------------------------------------------------------- */
static json_int_t side(const tsr__conversion *c, const char *name, int axis) {
    const tsr__tensor_view *view = tsr__weights_find(c->weights, name);
    return view && axis < view->rank ? (json_int_t)view->shape[axis] : 0;
}

/* How many numbers from 0 on make the names of tensors that are there. */
static int count_up(const tsr__conversion *c, const char *prefix, const char *rest) {
    char name[256];
    int count = 0;
    do (void)snprintf(name, sizeof name, "%.160s%d%.64s", prefix, count++, rest);
    while (tsr__weights_find(c->weights, name));
    return count - 1;
}

/* A number of tessera.config; otherwise when it says nothing. */
static json_int_t told(const tsr__conversion *c, const char *key, json_int_t otherwise) {
    const char *text = tsr__weights_metadata(c->weights, "tessera.config");
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *value = json_object_get(config, key);
    const json_int_t number = json_is_integer(value) ? json_integer_value(value) : otherwise;
    json_decref(config);
    return number;
}

/* A UNet's levels. */
typedef struct levels {
    int count, blocks;
    json_int_t channels[MOST_LEVELS];
    int depth[MOST_LEVELS]; /* transformers' layers; 0: no attention */
} levels;

static levels find_levels(const tsr__conversion *c) {
    levels found = { 0 };
    char name[160], prefix[96];
    found.blocks = 1;
    do (void)snprintf(name, sizeof name, UNET "input_blocks.%d.0.op.weight", found.blocks + 1);
    while (!tsr__weights_find(c->weights, name) && ++found.blocks < 8);
    for (int l = 0; l < MOST_LEVELS; l++) {
        (void)snprintf(prefix, sizeof prefix, UNET "input_blocks.%d.", 1 + (found.blocks + 1) * l);
        (void)snprintf(name, sizeof name, "%s0.out_layers.3.weight", prefix);
        found.channels[l] = side(c, name, 0);
        if (!found.channels[l]) break;
        (void)snprintf(name, sizeof name, "%s1.transformer_blocks.", prefix);
        found.depth[l] = count_up(c, name, ".norm1.weight");
        found.count++;
    }
    return found;
}

static json_t *numbers(const json_int_t *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_integer(values[i]));
    return list;
}

static json_t *repeated(const char *name, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_string(name));
    return list;
}

/* --- parts ----------------------------------------------------------------------------------------------------------------- */
static void set_blocks(json_t *config, const levels *l) {
    json_t *down = json_array(), *up = json_array(), *depth = json_array();
    for (int i = 0; i < l->count; i++) {
        const int mirrored = l->count - 1 - i;
        json_array_append_new(down, json_string(l->depth[i] ? "CrossAttnDownBlock2D" : "DownBlock2D"));
        json_array_append_new(up, json_string(l->depth[mirrored] ? "CrossAttnUpBlock2D" : "UpBlock2D"));
        json_array_append_new(depth, json_integer(l->depth[i] ? l->depth[i] : 1));
    }
    json_object_set_new(config, "down_block_types", down);
    json_object_set_new(config, "up_block_types", up);
    json_object_set_new(config, "transformer_layers_per_block", depth);
    json_object_set_new(config, "block_out_channels", numbers(l->channels, l->count));
    json_object_set_new(config, "layers_per_block", json_integer(l->blocks));
    json_object_set_new(config, "mid_block_type", json_string("UNetMidBlock2DCrossAttn"));
}

/* diffusers calls the number of heads attention_head_dim. */
static void set_heads(json_t *config, const tsr__conversion *c, const levels *l) {
    const tsr__tensor_view *projection = tsr__weights_find(c->weights, UNET "middle_block.1.proj_in.weight");
    const int linear = projection && projection->rank == 2;
    json_int_t heads[MOST_LEVELS];
    for (int i = 0; i < l->count; i++) heads[i] = l->channels[i] < 64 ? 1 : l->channels[i] / 64;
    const json_int_t asked = told(c, "unet_heads", linear ? 0 : 8);
    json_object_set_new(config, "attention_head_dim", asked ? json_integer(asked) : numbers(heads, l->count));
    json_object_set_new(config, "use_linear_projection", json_boolean(linear));
}

static json_t *unet_config(const tsr__conversion *c, const tsr__family *family) {
    const levels l = find_levels(c);
    json_t *config = json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:b, s:b, s:i, s:i, s:i, s:s, s:i, s:f, s:I}", "_class_name", "UNet2DConditionModel",
        "_diffusers_version", VERSION, "sample_size", family->native_pixels / 8, "in_channels",
        (json_int_t)c->info.unet_in_channels, "out_channels", side(c, UNET "out.2.weight", 0), "center_input_sample", 0,
        "flip_sin_to_cos", 1, "freq_shift", 0, "downsample_padding", 1, "mid_block_scale_factor", 1, "act_fn", "silu",
        "norm_num_groups", 32, "norm_eps", 1e-5, "cross_attention_dim", (json_int_t)c->info.context_width);
    set_blocks(config, &l);
    set_heads(config, c, &l);
    if (family->kind != TSR_CHECKPOINT_SDXL) return config;
    json_object_set_new(config, "addition_embed_type", json_string("text_time"));
    json_object_set_new(config, "addition_time_embed_dim", json_integer(TSR__SIZE_WIDTH));
    json_object_set_new(config, "projection_class_embeddings_input_dim",
                        json_integer(side(c, UNET "label_emb.0.0.weight", 1)));
    return config;
}

static json_t *vae_config(const tsr__conversion *c, const tsr__family *family) {
    json_int_t channels[MOST_LEVELS] = { 0 };
    int count = 0;
    char name[128];
    for (; count < MOST_LEVELS; count++) {
        (void)snprintf(name, sizeof name, VAE "encoder.down.%d.block.0.conv1.weight", count);
        channels[count] = side(c, name, 0);
        if (!channels[count]) break;
    }
    json_t *config = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:i, s:s, s:i, s:i, s:f, s:b}", "_class_name", "AutoencoderKL", "_diffusers_version",
        VERSION, "in_channels", side(c, VAE "encoder.conv_in.weight", 1), "out_channels",
        side(c, VAE "decoder.conv_out.weight", 0), "latent_channels", (json_int_t)c->info.vae_channels,
        "layers_per_block", count_up(c, VAE "encoder.down.0.block.", ".conv1.weight"), "act_fn", "silu",
        "norm_num_groups", 32, "sample_size", family->native_pixels, "scaling_factor",
        rint((double)family->latent_scale * 1e5) * 1e-5, "force_upcast", 1);
    json_object_set_new(config, "block_out_channels", numbers(channels, count));
    json_object_set_new(config, "down_block_types", repeated("DownEncoderBlock2D", count));
    json_object_set_new(config, "up_block_types", repeated("UpDecoderBlock2D", count));
    return config;
}

/* What differs between the two ways to name an encoder's tensors. */
typedef struct encoder {
    const char *prefix, *tokens, *positions, *layers, *first, *wide, *act;
} encoder;
static const encoder HF = { NULL,
                            "text_model.embeddings.token_embedding.weight",
                            "text_model.embeddings.position_embedding.weight",
                            "text_model.encoder.layers.",
                            ".layer_norm1.weight",
                            "0.mlp.fc1.weight",
                            "quick_gelu" };
static const encoder OPEN = { NULL,
                              "token_embedding.weight",
                              "positional_embedding",
                              "transformer.resblocks.",
                              ".ln_1.weight",
                              "0.mlp.c_fc.weight",
                              "gelu" };

static json_int_t text_side(const tsr__conversion *c, const char *prefix, const char *a, const char *b, int axis) {
    char name[256];
    (void)snprintf(name, sizeof name, "%s%s%s", prefix, a, b);
    return side(c, name, axis);
}

/* SD2 reads the second-last layer of 24. diffusers says so by a config with 23, whether the file has the last one or not. */
static int used_layers(const tsr__conversion *c, const char *layers, const encoder *kind) {
    const int there = count_up(c, layers, kind->first);
    return c->info.kind == TSR_CHECKPOINT_SD2 && there != 23 ? there - 1 : there;
}

static json_t *text_config(const tsr__conversion *c, const encoder *kind, const char *prefix, const char *heads_key,
                           const char *class) {
    char layers[256];
    const json_int_t width = text_side(c, prefix, kind->tokens, "", 1);
    const json_int_t projection = text_side(c, prefix, "text_projection", "", 1);
    (void)snprintf(layers, sizeof layers, "%s%s", prefix, kind->layers);
    return json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:i, s:I, s:I, s:I, s:s, s:f, s:i, s:i, s:i, s:f, s:f}", "architectures", class,
        "model_type", "clip_text_model", "vocab_size", text_side(c, prefix, kind->tokens, "", 0), "hidden_size", width,
        "intermediate_size", text_side(c, prefix, kind->layers, kind->wide, 0), "num_hidden_layers",
        used_layers(c, layers, kind), "num_attention_heads", told(c, heads_key, width < 64 ? 1 : width / 64),
        "max_position_embeddings", text_side(c, prefix, kind->positions, "", 0), "projection_dim",
        projection ? projection : width, "hidden_act", kind->act, "layer_norm_eps", 1e-5, "bos_token_id", 0,
        "eos_token_id", 2, "pad_token_id", 1, "initializer_factor", 1.0, "attention_dropout", 0.0);
}

static json_t *scheduler_config(int v, int zero_snr) {
    return json_pack("{s:s, s:s, s:f, s:f, s:s, s:i, s:s, s:b, s:i, s:s, s:s, s:b, s:n}", "_class_name",
                     "EulerDiscreteScheduler", "_diffusers_version", VERSION, "beta_start", 0.00085, "beta_end", 0.012,
                     "beta_schedule", "scaled_linear", "num_train_timesteps", 1000, "prediction_type",
                     v ? "v_prediction" : "epsilon", "rescale_betas_zero_snr", zero_snr, "steps_offset", 1,
                     "timestep_spacing", zero_snr ? "trailing" : "leading", "interpolation_type", "linear",
                     "use_karras_sigmas", 0, "trained_betas");
}

static json_t *index_config(const tsr__conversion *c, int is_xl) {
    const char *kind = c->info.unet_in_channels == 9   ? "Inpaint"
                       : c->info.unet_in_channels == 8 ? "InstructPix2Pix"
                                                       : "";
    char class[64];
    (void)snprintf(class, sizeof class, "StableDiffusion%s%sPipeline", is_xl ? "XL" : "", kind);
    json_t *index =
        json_pack("{s:s, s:s, s:[s,s], s:[s,s], s:[s,s], s:[s,s], s:[s,s], s:[n,n], s:[n,n]}", "_class_name", class,
                  "_diffusers_version", VERSION, "unet", "diffusers", "UNet2DConditionModel", "vae", "diffusers",
                  "AutoencoderKL", "scheduler", "diffusers", "EulerDiscreteScheduler", "text_encoder", "transformers",
                  "CLIPTextModel", "tokenizer", "transformers", "CLIPTokenizer", "feature_extractor", "image_encoder");
    if (!is_xl) {
        json_object_set_new(index, "safety_checker", json_pack("[n,n]"));
        json_object_set_new(index, "requires_safety_checker", json_false());
        return index;
    }
    json_object_set_new(index, "text_encoder_2", json_pack("[s,s]", "transformers", "CLIPTextModelWithProjection"));
    json_object_set_new(index, "tokenizer_2", json_pack("[s,s]", "transformers", "CLIPTokenizer"));
    json_object_set_new(index, "force_zeros_for_empty_prompt", json_false()); /* what the checkpoint's own code does */
    return index;
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */
/* Takes config, also after a failure. */
static tsr_status write(const char *folder, const char *name, json_t *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *text = config ? json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(10)) : NULL;
    if (!text) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr__convert_text_file(folder, name, text, err));
done:
    json_decref(config);
    free(text);
    return status;
}

tsr_status tsr__convert_configs(const tsr__conversion *c, const char *folder, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__family *family = NULL;
    const char *config = tsr__weights_metadata(c->weights, "tessera.config");
    tsr_prediction prediction = TSR_PREDICTION_EPS;
    int zero_snr = 0;
    TSR_TRY(tsr__family_find(&family, c->weights, &c->info, 0, err));
    TSR_TRY(tsr__family_prediction(&prediction, family, c->weights, &c->info, config, err));
    TSR_TRY(tsr__family_zero_snr(&zero_snr, c->weights, config, err));
    const int is_xl = family->kind == TSR_CHECKPOINT_SDXL;
    TSR_TRY(write(folder, "model_index.json", index_config(c, is_xl), err));
    TSR_TRY(write(folder, "unet/config.json", unet_config(c, family), err));
    TSR_TRY(write(folder, "vae/config.json", vae_config(c, family), err));
    TSR_TRY(write(folder, "scheduler/scheduler_config.json", scheduler_config(prediction == TSR_PREDICTION_V, zero_snr),
                  err));
    const encoder *first = family->kind == TSR_CHECKPOINT_SD2 ? &OPEN : &HF;
    const char *prefix = is_xl            ? "conditioner.embedders.0.transformer."
                         : first == &OPEN ? "cond_stage_model.model."
                                          : "cond_stage_model.transformer.";
    TSR_TRY(
        write(folder, "text_encoder/config.json", text_config(c, first, prefix, "text_heads", "CLIPTextModel"), err));
    if (is_xl)
        TSR_TRY(
            write(folder, "text_encoder_2/config.json",
                  text_config(c, &OPEN, "conditioner.embedders.1.model.", "text2_heads", "CLIPTextModelWithProjection"),
                  err));
done:
    return status;
}
