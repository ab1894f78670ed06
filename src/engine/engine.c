/* engine/engine.c - opening a model, and building its networks when they are first needed. */
#include "tessera/engine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "engine/engine_memory.h"
#include "engine/engine_pack.h"
#include "engine/engine_priv.h"
#include "weights/lora_merge.h"
#include "weights/model_open.h"

/* The training schedule of all families; checkpoints do not hold it. */
#define SD_BETA_START 0.00085
#define SD_BETA_END   0.012
#define SD_TIMESTEPS  1000
#define LCM_TIMESTEPS 50 /* that latent consistency models were distilled to */
#define LATENT_FACTOR 8

/* Full-size networks have 320 channels; small models of the same layouts were trained at 128 pixels. */
static int native_pixels(const tsr_engine *engine) {
    return engine->checkpoint.unet_channels >= 256 ? engine->family->native_pixels : 128;
}

tsr_status tsr__engine_new_table(tsr_sigma_table **out, int lcm, int zero_snr, tsr_error *err) {
    tsr_sigma_table *whole = NULL;
    *out = NULL;
    tsr_status status = zero_snr ? tsr_sigma_table_new_zero_snr(&whole, SD_BETA_START, SD_BETA_END, SD_TIMESTEPS, err)
                                 : tsr_sigma_table_new(&whole, SD_BETA_START, SD_BETA_END, SD_TIMESTEPS, err);
    if (status != TSR_OK) return status;
    if (!lcm) {
        *out = whole;
        return TSR_OK;
    }
    status = tsr_sigma_table_new_distilled(out, whole, LCM_TIMESTEPS, err);
    tsr_sigma_table_free(whole);
    return status;
}

static tsr_status make_table(tsr_engine *engine, const tsr_engine_options *options, tsr_error *err) {
    int zero_snr = 0;
    tsr_status status = tsr__family_zero_snr(&zero_snr, engine->weights, engine->config, err);
    if (status != TSR_OK) return status;
    if (options->zero_snr != TSR_CHOICE_AUTO) zero_snr = options->zero_snr == TSR_CHOICE_ON;
    status = tsr__engine_new_table(&engine->table, engine->prediction == TSR_PREDICTION_LCM, zero_snr, err);
    engine->sampling.rule = (tsr__output_rule)engine->prediction;
    engine->sampling.data = 1.0;
    engine->sampling.table = engine->table;
    return status;
}

static tsr_status open_networks(tsr_engine *engine, const tsr_engine_options *options, tsr_error *err) {
    tsr__nn_options nn = { .threads = engine->threads };
    tsr_status status = tsr__pack_precision(&nn.precision, engine->weights, options->precision, err);
    if (status == TSR_OK) status = tsr__nn_new(&engine->nn, &nn, err);
    if (status == TSR_OK) status = make_table(engine, options, err);
    engine->denoiser.struct_size = sizeof engine->denoiser;
    engine->denoiser.user = engine;
    engine->denoiser.denoise = tsr__engine_denoise;
    engine->denoiser.table = engine->table;
    engine->denoiser.latent_scale = engine->family->latent_scale;
    engine->denoiser.native_size = native_pixels(engine) / LATENT_FACTOR;
    engine->denoiser.multiple = engine->denoiser.native_size >= 64 ? 8 : 4; /* SD1 halves three times, small ones two */
    engine->denoiser.couple = tsr__conditioning_couple;
    engine->denoiser.uncouple = tsr__conditioning_uncouple;
    engine->denoiser.is_ready = tsr__engine_is_ready;
    return status;
}

/* Puts the file's weights with the adapters' changes in the place of the file's own. */
static tsr_status merge_adapters(tsr_engine *engine, const tsr_engine_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__merge_adapter *adapters = NULL;
    if (options->adapter_count < 1) return TSR_OK;
    TSR_ALLOC_ZERO(err, adapters, options->adapter_count);
    for (int i = 0; i < options->adapter_count; i++) {
        const tsr_adapter *given = &options->adapters[i];
        tsr__merge_adapter adapter = { given->path, given->strength_model, given->strength_clip };
        adapters[i] = adapter;
    }
    engine->file = engine->weights;
    engine->weights = NULL;
    TSR_TRY(tsr__lora_merge(&engine->weights, engine->file, adapters, options->adapter_count, options->partial, err));
    engine->merged_bytes = tsr__engine_merged_bytes(engine);
done:
    free(adapters);
    return status;
}

/* "taesd" and "taesdxl" are ComfyUI's names for the pairs of vae_approx; a file or folder of that name comes first. */
static tsr_status name_taesd(tsr__model_files *files, tsr_engine *engine, tsr_error *err) {
    const char *name = files->vae;
    if (!name || (strcmp(name, "taesd") != 0 && strcmp(name, "taesdxl") != 0) || access(name, F_OK) == 0) return TSR_OK;
    files->vae = engine->vae_path = tsr__find_taesd(engine, name);
    if (files->vae) return TSR_OK;
    return tsr__fail(err, TSR_NOT_FOUND, "vae: there is no %s_decoder.safetensors in vae_approx/ beside %s", name,
                     engine->model);
}

/* The files of the options' model, and engine->model as it is called in messages. */
static tsr_status choose_files(tsr__model_files *files, tsr_engine *engine, const tsr_engine_options *options,
                               tsr_error *err) {
    const tsr_model_parts *parts = &options->parts;
    const char *const names[] = { options->model, parts->unet, options->partial ? parts->text_encoder : NULL,
                                  options->partial ? parts->vae : NULL };
    tsr_status status = TSR_OK;
    files->unet = parts->unet;
    files->text[0] = parts->text_encoder;
    files->text[1] = parts->text_encoder_2;
    files->vae = parts->vae;
    for (size_t i = 0; i < sizeof names / sizeof *names && !engine->model; i++)
        if (names[i] && *names[i]) {
            engine->model = tsr__strdup(names[i]);
            if (!engine->model) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
            if (i == 0) files->model = engine->model;
        }
    if (!engine->model) {
        TSR_TRY(tsr_engine_find_model(&engine->model, err));
        files->model = engine->model;
    }
    TSR_TRY(name_taesd(files, engine, err));
done:
    return status;
}

/* *out stays what it is where nothing is told. */
static tsr_status choose_prediction(tsr_prediction *out, const char *told, tsr_error *err) {
    static const char *const names[] = { "eps", "v", "lcm", "x0" };
    if (!told || strcmp(told, "auto") == 0) return TSR_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(told, names[i]) != 0) continue;
        *out = (tsr_prediction)i;
        return TSR_OK;
    }
    return tsr__fail(err, TSR_BAD_ARGUMENT, "prediction: '%.40s' is not auto, eps, v, lcm or x0", told);
}

static tsr_status open_weights(tsr_engine *engine, const tsr_engine_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__model_files files = { .model = NULL };
    TSR_TRY(choose_files(&files, engine, options, err));
    TSR_TRY(tsr__model_open(&engine->weights, &files, err));
    tsr__checkpoint_describe(&engine->checkpoint, engine->weights);
    TSR_TRY(tsr__family_find(&engine->family, engine->weights, &engine->checkpoint, options->partial, err));
    TSR_TRY(tsr__family_choose(&engine->family, options->family, engine->weights, &engine->checkpoint, err));
    engine->config = tsr__weights_metadata(engine->weights, "tessera.config");
    TSR_TRY(tsr__family_prediction(&engine->prediction, engine->family, engine->weights, &engine->checkpoint,
                                   engine->config, err));
    TSR_TRY(choose_prediction(&engine->prediction, options->prediction, err));
done:
    return status;
}

tsr_status tsr_engine_open(tsr_engine **out, const tsr_engine_options *options, tsr_error *err) {
    static const tsr_engine_options defaults = TSR_ENGINE_OPTIONS_INIT;
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    *out = NULL;
    if (!options) options = &defaults;
    TSR_ALLOC_ZERO(err, engine, 1);
    engine->threads = options->threads;
    engine->memory_limit = options->memory_limit;
    engine->own_budget.limit = options->memory_budget;
    tsr__budget_join(engine, &engine->own_budget);
    TSR_TRY(open_weights(engine, options, err));
    TSR_TRY(merge_adapters(engine, options, err));
    TSR_TRY(open_networks(engine, options, err));
    *out = engine;
    engine = NULL;
done:
    tsr_engine_close(engine);
    return status;
}

static tsr_choice read_choice(const char *text) {
    return strcmp(text, "auto") == 0 ? TSR_CHOICE_AUTO : strcmp(text, "on") == 0 ? TSR_CHOICE_ON : TSR_CHOICE_OFF;
}

tsr_status tsr_engine_open_for(tsr_engine **out, const tsr_scene *scene, tsr_error *err) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    const char *precision = tsr__scene_text(scene, TSR__OPT_PRECISION);
    options.model = scene->text[TSR__OPT_MODEL];
    options.parts.unet = scene->text[TSR__OPT_UNET];
    options.parts.text_encoder = scene->text[TSR__OPT_TEXT_ENCODER];
    options.parts.text_encoder_2 = scene->text[TSR__OPT_TEXT_ENCODER_2];
    options.parts.vae = scene->text[TSR__OPT_VAE];
    options.family = tsr__scene_text(scene, TSR__OPT_FAMILY);
    options.prediction = tsr__scene_text(scene, TSR__OPT_PREDICTION);
    options.zero_snr = read_choice(tsr__scene_text(scene, TSR__OPT_ZSNR));
    options.threads = tsr__scene_int(scene, TSR__OPT_THREADS);
    (void)tsr_size_parse(&options.memory_budget, tsr__scene_text(scene, TSR__OPT_MEMORY),
                         NULL); /* checked when it was set */
    if (strcmp(precision, "f32") == 0) options.precision = TSR_PRECISION_F32;
    if (strcmp(precision, "bf16") == 0) options.precision = TSR_PRECISION_BF16;
    return tsr_engine_open(out, &options, err);
}

void tsr_engine_close(tsr_engine *engine) {
    if (!engine) return;
    tsr__engine_close_guests(engine);
    tsr__budget_leave(engine);
    tsr__conditioning_free_all(engine);
    tsr__adapters_free_all(engine);
    tsr__controls_free_files(engine);
    tsr__text_stack_free(engine->text);
    tsr__unet_free(engine->unet);
    tsr__vae_free(engine->vae);
    tsr__vae_free(engine->preview_vae);
    tsr__tokenizer_free(engine->tokenizer);
    if (engine->text_nn != engine->nn) tsr__nn_free(engine->text_nn);
    tsr__nn_free(engine->nn);
    tsr_sigma_table_free(engine->table);
    tsr__weights_close(engine->weights);
    tsr__weights_close(engine->file);
    free(engine->model);
    free(engine->vae_path);
    free(engine->preview_path);
    free(engine);
}

tsr_engine_info tsr_engine_get_info(const tsr_engine *engine) {
    tsr_engine_info info = { .struct_size = sizeof info,
                             .model = engine->model,
                             .kind = engine->family->name,
                             .precision = tsr__nn_precision(engine->nn) == TSR__BF16 ? "bf16" : "f32",
                             .prediction = engine->prediction,
                             .latent_channels = (int)engine->checkpoint.vae_channels,
                             .latent_factor = LATENT_FACTOR,
                             .native_size = native_pixels(engine) };
    return info;
}

/* --- parts ---------------------------------------------------------------------------------------------------------------- */
/* Engines of parts alone find out here. */
static tsr_status need_part(const tsr_engine *engine, tsr__checkpoint_part part, tsr_error *err) {
    if (engine->checkpoint.parts[part].tensors) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: there is no %s in it", engine->model, tsr__checkpoint_part_name(part));
}

tsr_status tsr__engine_need_text(tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__budget_make_room(engine, TSR__NETWORK_TEXT, 0, err));
    if (engine->text) return TSR_OK;
    TSR_TRY(need_part(engine, TSR_PART_TEXT, err));
    if (!engine->tokenizer) TSR_TRY(tsr__tokenizer_new(&engine->tokenizer, err));
    if (!engine->text_nn && tsr__nn_precision(engine->nn) == TSR__F32) engine->text_nn = engine->nn;
    if (!engine->text_nn) {
        tsr__nn_options options = { .precision = TSR__F32, .threads = engine->threads };
        TSR_TRY(tsr__nn_new(&engine->text_nn, &options, err));
    }
    TSR_TRY(tsr__text_stack_new(&engine->text, engine->text_nn, engine->weights, engine->family->text, engine->config,
                                err));
    tsr__text_look_for_embeddings(engine->text, tsr__embedding_find_file, engine);
    engine->text_width = tsr__text_width(engine->text);
    engine->pooled_width = tsr__text_pooled_width(engine->text);
    tsr__budget_built(engine, TSR__NETWORK_TEXT, 0.0);
done:
    return status;
}

tsr_status tsr__engine_need_unet_for(tsr_engine *engine, size_t call, tsr_error *err) {
    tsr_status status = tsr__budget_make_room(engine, TSR__NETWORK_UNET, call, err);
    if (status != TSR_OK || engine->unet) return status;
    status = need_part(engine, TSR_PART_UNET, err);
    if (status != TSR_OK) return status;
    double start = tsr__seconds();
    status = tsr__unet_new(&engine->unet, engine->nn, engine->weights, "model.diffusion_model.", engine->config, err);
    if (status == TSR_OK) tsr__budget_built(engine, TSR__NETWORK_UNET, tsr__seconds() - start);
    return status;
}

tsr_status tsr__engine_need_unet(tsr_engine *engine, tsr_error *err) {
    return tsr__engine_need_unet_for(engine, 0, err);
}

/* A decode at full size takes as long as many steps. */
static tsr_status ask_cancel(void *user, tsr_error *err) {
    return tsr__engine_check_cancel(user, err);
}

tsr_status tsr__engine_need_vae_for(tsr_engine *engine, size_t call, tsr_error *err) {
    tsr_status status = tsr__budget_make_room(engine, TSR__NETWORK_VAE, call, err);
    if (status != TSR_OK || engine->vae) return status;
    status = need_part(engine, TSR_PART_VAE, err);
    if (status != TSR_OK) return status;
    status = tsr__vae_new(&engine->vae, engine->nn, engine->weights, "first_stage_model.", engine->config, err);
    if (status != TSR_OK) return status;
    tsr__vae_ask(engine->vae, ask_cancel, engine);
    tsr__budget_built(engine, TSR__NETWORK_VAE, 0.0);
    return status;
}

tsr_status tsr__engine_need_vae(tsr_engine *engine, tsr_error *err) {
    return tsr__engine_need_vae_for(engine, 0, err);
}

tsr_status tsr_engine_denoiser(const tsr_denoiser **out, tsr_engine *engine, tsr_error *err) {
    *out = NULL;
    tsr_status status = tsr__engine_need_unet(engine, err);
    if (status == TSR_OK) *out = &engine->denoiser;
    return status;
}

tsr_status tsr__engine_check_cancel(const tsr_engine *engine, tsr_error *err) {
    const tsr_engine_callbacks *callbacks = engine->host ? engine->host->callbacks : engine->callbacks;
    if (callbacks && callbacks->cancelled && callbacks->cancelled(callbacks->user))
        return tsr__fail(err, TSR_CANCELLED, "stopped by the caller");
    return TSR_OK;
}

size_t tsr__engine_memory(const tsr_engine *engine) {
    size_t rest = tsr__budget_rest(engine);
    size_t most = engine->memory_limit ? engine->memory_limit : tsr__memory_available() / 2;
    return most < rest ? most : rest;
}
