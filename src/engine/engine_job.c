/* engine/engine_job.c - a scene made ready to run: seeds drawn, sizes settled, files read, regions bound to the network.
 *
 * Runs nothing but the encoding of an init image. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "engine/engine_priv.h"

tsr_status tsr__job_warn(tsr__job *job, const char *text, tsr_error *err) {
    char **grown = realloc(job->warnings, ((size_t)job->warning_count + 1) * sizeof *grown);
    if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    job->warnings = grown;
    grown[job->warning_count] = tsr__strdup(text);
    if (!grown[job->warning_count]) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    job->warning_count++;
    return TSR_OK;
}

void tsr__job_free(tsr__job *job) {
    if (!job) return;
    for (int i = 0; job->masks && i < job->region_count; i++) tsr_mask_free(job->masks[i]);
    for (int i = 0; i < job->warning_count; i++) free(job->warnings[i]);
    free(job->masks);
    free(job->regions);
    free(job->warnings);
    tsr_latent_free(job->latent);
    tsr_latent_free(job->concat);
    free(job->rgb);
    tsr_mask_free(job->noise_mask);
    tsr_image_free(job->original);
    tsr_scene_free(job->scene);
    free(job);
}

/* --- nothing random or automatic left ----------------------------------------------------------------------------------------- */
static tsr_status draw_seed(char *out, size_t size, tsr_error *err) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return tsr__fail(err, TSR_IO, "the system gives no random seed");
    snprintf(out, size, "%llu", (unsigned long long)(seed >> 12)); /* below 2^52: exact in every JSON reader */
    return TSR_OK;
}

static tsr_status settle_seeds(tsr_scene *scene, tsr_error *err) {
    tsr_status status = TSR_OK;
    char seed[32];
    for (int i = 0; i < TSR__OPT_COUNT; i++) {
        const tsr_option_info *option = tsr_option_at(TSR_OPTIONS_SCENE, i);
        if (option->kind != TSR_OPTION_SEED || strcmp(tsr__scene_text(scene, i), "random") != 0) continue;
        TSR_TRY(draw_seed(seed, sizeof seed, err));
        TSR_TRY(tsr_scene_set(scene, option->key, seed, err));
    }
    for (int i = 0; i < scene->region_count; i++) {
        for (int k = 0; k < TSR__REG_COUNT; k++) {
            const tsr_option_info *option = tsr_option_at(TSR_OPTIONS_REGION, k);
            const char *text = scene->regions[i].text[k];
            if (option->kind != TSR_OPTION_SEED || !text || strcmp(text, "random") != 0) continue;
            TSR_TRY(draw_seed(seed, sizeof seed, err));
            TSR_TRY(tsr_scene_set_region(scene, i, option->key, seed, err));
        }
    }
done:
    return status;
}

/* Defaults may change between versions; a picture shall not. restart has the node's own defaults. */
static tsr_status settle_defaults(tsr_scene *scene, tsr_error *err) {
    tsr_status status = TSR_OK;
    int restart = strcmp(tsr__scene_text(scene, TSR__OPT_HISTORY), "restart") == 0;
    if (restart && !scene->text[TSR__OPT_BASE_ONLY_STEPS]) TSR_TRY(tsr_scene_set(scene, "base_only_steps", "2", err));
    if (restart && !scene->text[TSR__OPT_OVERLAP]) TSR_TRY(tsr_scene_set(scene, "overlap", "10", err));
    for (int i = 0; i < TSR__OPT_COUNT; i++) {
        const tsr_option_info *option = tsr_option_at(TSR_OPTIONS_SCENE, i);
        unsigned without = TSR_OPTION_COMMAND | TSR_OPTION_LOCAL | TSR_OPTION_HIDDEN;
        if (scene->text[i] || (option->flags & without) || !*option->default_text) continue;
        if (strncmp(option->key, "control_", 8) == 0 && !scene->text[TSR__OPT_CONTROL]) continue;
        if (strcmp(option->group, "Inpainting") == 0 && !tsr__scene_has_mask(scene)) continue;
        TSR_TRY(tsr_scene_set(scene, option->key, option->default_text, err));
    }
done:
    return status;
}

static tsr_status set_size(tsr__job *job, int width, int height, tsr_error *err) {
    char text[16];
    job->width = width;
    job->height = height;
    snprintf(text, sizeof text, "%d", width);
    tsr_status status = tsr_scene_set(job->scene, "width", text, err);
    snprintf(text, sizeof text, "%d", height);
    if (status == TSR_OK) status = tsr_scene_set(job->scene, "height", text, err);
    return status;
}

/* --- the start ------------------------------------------------------------------------------------------------------------------ */
static tsr_status repeat_batch(tsr_latent **inout, int batch, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *one = *inout, *all = NULL;
    size_t count = tsr_latent_count(one);
    if (one->shape[0] == batch) return TSR_OK;
    if (one->shape[0] != 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "init_latent holds %d pictures, batch is %d", one->shape[0], batch);
    TSR_TRY(tsr_latent_new(&all, batch, one->shape[1], one->shape[2], one->shape[3], err));
    for (int i = 0; i < batch; i++) memcpy(all->values + (size_t)i * count, one->values, count * sizeof *one->values);
    *inout = all;
    tsr_latent_free(one);
done:
    return status;
}

static tsr_status start_from_latent(tsr__job *job, const char *path, int width, int height, int channels,
                                    float latent_scale, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr_latent_load(&job->latent, path, err));
    const int *shape = job->latent->shape;
    if (shape[1] != channels)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: has %d channels, the model takes %d", path, shape[1], channels);
    if ((width && width != shape[3] * 8) || (height && height != shape[2] * 8))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: is for a picture of %dx%d, not %dx%d", path, shape[3] * 8, shape[2] * 8,
                 width ? width : shape[3] * 8, height ? height : shape[2] * 8);
    if (!tsr_scene_is_set(job->scene, "batch")) job->batch = shape[0];
    TSR_TRY(set_size(job, shape[3] * 8, shape[2] * 8, err));
    job->init_width = job->width;
    job->init_height = job->height;
    TSR_TRY(tsr__job_load_noise_mask(job, err));
    TSR_TRY(tsr__job_fill_noise(job, latent_scale, err));
done:
    return status;
}

/* [h, w, 3] -> [h2, w2, 3] by area when it shrinks, bicubic when it grows. */
static tsr_status resize_rgb(float **inout, int width, int height, int to_width, int to_height, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *planes = NULL, *resized = NULL, *rgb = NULL;
    size_t from = (size_t)width * (size_t)height, to = (size_t)to_width * (size_t)to_height;
    const int shape[4] = { 1, 3, height, width };
    TSR_ALLOC(err, planes, from * 3);
    TSR_ALLOC(err, resized, to * 3);
    TSR_ALLOC(err, rgb, to * 3);
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < from; i++) planes[c * from + i] = (*inout)[i * 3 + c];
    TSR_TRY(tsr_resize_nchw(resized, to_height, to_width, planes, shape,
                            to < from ? TSR_RESIZE_AREA : TSR_RESIZE_BICUBIC, err));
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < to; i++) {
            float v = resized[c * to + i];
            rgb[i * 3 + c] = v < 0 ? 0 : v > 1 ? 1 : v;
        }
    free(*inout);
    *inout = rgb;
    rgb = NULL;
done:
    free(planes);
    free(resized);
    free(rgb);
    return status;
}

static tsr_status start_from_image(tsr__job *job, tsr_engine *engine, int width, int height, int channels, int evaluate,
                                   tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    float *rgb = NULL;
    TSR_TRY(tsr_image_load(&image, tsr__scene_text(job->scene, TSR__OPT_INIT_IMAGE), err));
    int own[2] = { image->width < 8 ? 8 : image->width / 8 * 8, image->height < 8 ? 8 : image->height / 8 * 8 };
    int outpaints = tsr__scene_outpaints(job->scene);
    if (outpaints) TSR_TRY(tsr__outpaint_settle(own, job, image, err));
    TSR_TRY(set_size(job, width ? width : own[0], height ? height : own[1], err));
    job->init_width = image->width;
    job->init_height = image->height;
    job->encodes_init = 1;
    TSR_TRY(tsr__budget_check(engine, job, err));
    TSR_TRY(tsr__job_load_noise_mask(job, err));
    if (!evaluate) {
        TSR_TRY(tsr_latent_new(&job->latent, 1, channels, job->height / 8, job->width / 8, err));
        goto done;
    }
    if (outpaints) {
        TSR_TRY(tsr__outpaint_place(&rgb, job, image, err));
    } else {
        TSR_ALLOC(err, rgb, (size_t)image->width * (size_t)image->height * 3);
        tsr_image_to_floats(image, rgb);
        if (image->width != job->width || image->height != job->height)
            TSR_TRY(resize_rgb(&rgb, image->width, image->height, job->width, job->height, err));
    }
    TSR_TRY(tsr__job_keep_original(job, rgb, err));
    TSR_TRY(tsr__job_fill_mask(rgb, job, err));
    TSR_TRY(tsr__engine_encode_rgb(&job->latent, engine, rgb, job->width, job->height,
                                   tsr__scene_int(job->scene, TSR__OPT_VAE_TILE), err));
    TSR_TRY(tsr__job_fill_noise(job, engine->denoiser.latent_scale, err));
    job->rgb = rgb;
    rgb = NULL;
done:
    tsr_image_free(image);
    free(rgb);
    return status;
}

/* The start of a stopped run: its files are not looked at again. */
static tsr_status start_again(tsr__job *job, const tsr_latent *start, tsr_error *err) {
    tsr_status status = TSR_OK;
    job->batch = start->shape[0];
    job->encodes_init = job->scene->text[TSR__OPT_INIT_IMAGE] != NULL;
    TSR_TRY(set_size(job, start->shape[3] * 8, start->shape[2] * 8, err));
    TSR_TRY(tsr_latent_copy(&job->latent, start, err));
done:
    return status;
}

static tsr_status make_start(tsr__job *job, tsr_engine *engine, const tsr_latent *start, int evaluate, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (start) return start_again(job, start, err);
    tsr_engine_info info = tsr_engine_get_info(engine);
    int width = tsr__scene_int(job->scene, TSR__OPT_WIDTH), height = tsr__scene_int(job->scene, TSR__OPT_HEIGHT);
    job->batch = tsr__scene_int(job->scene, TSR__OPT_BATCH);
    if (job->scene->text[TSR__OPT_INIT_LATENT]) {
        TSR_TRY(start_from_latent(job, job->scene->text[TSR__OPT_INIT_LATENT], width, height, info.latent_channels,
                                  engine->denoiser.latent_scale, err));
    } else if (job->scene->text[TSR__OPT_INIT_IMAGE]) {
        TSR_TRY(start_from_image(job, engine, width, height, info.latent_channels, evaluate, err));
    } else {
        TSR_TRY(set_size(job, width ? width : info.native_size, height ? height : info.native_size, err));
        TSR_TRY(tsr_latent_new(&job->latent, 1, info.latent_channels, job->height / 8, job->width / 8, err));
    }
    TSR_TRY(repeat_batch(&job->latent, job->batch, err));
    job->latent->noise_mask = job->noise_mask;
    job->noise_mask = NULL;
done:
    return status;
}

/* --- regions ---------------------------------------------------------------------------------------------------------------------- */
/* The adapters of one prompt: the scene's, the region's and those inside the text. */
static tsr_status gather_adapters(tsr__adapter_set **out, char **clean, tsr_engine *engine, tsr__job *job, int region,
                                  const char *prompt, int evaluate, tsr_error *err) {
    tsr_status status = TSR_OK;
    char label[80] = "the scene", *inside = NULL, *all = NULL, *warning = NULL;
    const char *own = region < 0 ? NULL : job->scene->regions[region].text[TSR__REG_LORA];
    if (region >= 0) tsr__region_label(label, sizeof label, job->scene, region);
    TSR_TRY(tsr__adapters_from_prompt(clean, &inside, prompt, err));
    all = tsr__format("%s;%s;%s", tsr__scene_text(job->scene, TSR__OPT_LORA), own ? own : "", inside);
    if (!all) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr__adapters_get(out, engine, all, label, err));
    /* Under a budget each network is built when its turn comes; the warning is told then. */
    if (evaluate && !tsr__budget_is_on(engine)) TSR_TRY(tsr__adapters_bind(*out, engine, &warning, err));
    if (warning) TSR_TRY(tsr__job_warn(job, warning, err));
done:
    free(inside);
    free(all);
    free(warning);
    return status;
}

/* The negative prompt goes under the same adapters: they change the model that both are evaluated with. */
static tsr_status make_guide(tsr_guide *out, tsr_engine *engine, tsr__job *job, int region, const char *prompt,
                             const char *negative, double cfg, int evaluate, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__conditioning *yes = NULL, *no = NULL;
    tsr__adapter_set *adapters = NULL;
    tsr__control_set *controls = NULL;
    char *clean = NULL, *texts[2] = { NULL, NULL };
    int clip_skip = tsr__scene_int(job->scene, TSR__OPT_CLIP_SKIP);
    TSR_TRY(gather_adapters(&adapters, &clean, engine, job, region, prompt, evaluate, err));
    TSR_TRY(tsr__job_controls(&controls, engine, job, region, err));
    if (strcmp(tsr__scene_text(job->scene, TSR__OPT_EMBEDDING_NAMES), "a1111") == 0) {
        TSR_TRY(tsr__embedding_words(&texts[0], engine, clean, err));
        TSR_TRY(tsr__embedding_words(&texts[1], engine, negative, err));
    }
    TSR_TRY(tsr__conditioning_get(&yes, engine, texts[0] ? texts[0] : clean, clip_skip, adapters, controls, err));
    TSR_TRY(tsr__conditioning_get(&no, engine, texts[1] ? texts[1] : negative, clip_skip, adapters, controls, err));
    out->denoiser = &engine->denoiser;
    out->positive = yes;
    out->negative = no;
    out->cfg = (float)cfg;
    out->rescale = tsr__scene_number(job->scene, TSR__OPT_RESCALE_CFG);
    out->differential = tsr__scene_flag(job->scene, TSR__OPT_DIFFERENTIAL)
                            ? tsr__scene_number(job->scene, TSR__OPT_DIFFERENTIAL_STRENGTH)
                            : 0.0;
done:
    tsr__controls_unref(controls);
    free(clean);
    free(texts[0]);
    free(texts[1]);
    return status;
}

/* The engine of the region's own checkpoint, or the scene's. */
static tsr_status engine_of(tsr_engine **out, tsr_engine *engine, const tsr_scene *scene, int i, tsr_error *err) {
    char label[80];
    const char *path = scene->regions[i].text[TSR__REG_MODEL];
    *out = engine;
    if (!path || !*path) return TSR_OK;
    tsr__region_label(label, sizeof label, scene, i);
    return tsr__engine_for_model(out, engine, path, label, err);
}

static tsr_status make_region(tsr_region *out, tsr_engine *engine, tsr__job *job, int i, int evaluate, tsr_error *err) {
    static const tsr_region fresh = TSR_REGION_INIT;
    const tsr_scene *scene = job->scene;
    const char *name = tsr__region_text(scene, i, TSR__REG_NAME);
    *out = fresh;
    out->name = *name ? name : NULL;
    out->mask = job->masks[i];
    out->sampler = tsr__region_text(scene, i, TSR__REG_SAMPLER);
    out->scheduler = tsr__region_text(scene, i, TSR__REG_SCHEDULER);
    out->strength = (float)tsr__region_number(scene, i, TSR__REG_STRENGTH);
    out->feather_px = (float)tsr__region_number(scene, i, TSR__REG_FEATHER);
    out->sigma_factor = (float)tsr__region_number(scene, i, TSR__REG_SIGMA_FACTOR);
    out->variation_seed = tsr__region_seed(scene, i, TSR__REG_VARIATION_SEED);
    out->variation_strength = (float)tsr__region_number(scene, i, TSR__REG_VARIATION_STRENGTH);
    out->variation_method =
        (tsr_variation_method)tsr_variation_method_find(tsr__region_text(scene, i, TSR__REG_VARIATION_METHOD));
    if (scene->regions[i].text[TSR__REG_SEED]) { /* a noise that is varied all the way */
        out->variation_seed = tsr__region_seed(scene, i, TSR__REG_SEED);
        out->variation_strength = 1.0f;
    }
    out->start = (float)tsr__region_number(scene, i, TSR__REG_START);
    out->end = (float)tsr__region_number(scene, i, TSR__REG_END);
    if (scene->regions[i].text[TSR__REG_DENOISE])
        out->start = (float)(1.0 - tsr__region_number(scene, i, TSR__REG_DENOISE));
    tsr_engine *own = NULL;
    tsr_status status = engine_of(&own, engine, scene, i, err);
    if (status != TSR_OK) return status;
    return make_guide(&out->guide, own, job, i, tsr__region_text(scene, i, TSR__REG_PROMPT),
                      tsr__region_text(scene, i, TSR__REG_NEGATIVE), tsr__region_number(scene, i, TSR__REG_CFG),
                      evaluate, err);
}

static void make_options(tsr__job *job) {
    static const tsr_regional_options fresh = TSR_REGIONAL_OPTIONS_INIT;
    const tsr_scene *scene = job->scene;
    tsr_regional_options *options = &job->options;
    *options = fresh;
    options->history = (tsr_history)tsr_history_find(tsr__scene_text(scene, TSR__OPT_HISTORY));
    options->steps = tsr__scene_int(scene, TSR__OPT_STEPS);
    options->seed = tsr__scene_seed(scene, TSR__OPT_SEED);
    options->overlap = tsr__scene_int(scene, TSR__OPT_OVERLAP);
    options->width = job->width;
    options->height = job->height;
    options->denoise = tsr__scene_number(scene, TSR__OPT_DENOISE);
    options->sharing = (tsr_sharing)tsr_sharing_find(tsr__scene_text(scene, TSR__OPT_MODE));
    options->overlap_policy =
        (tsr_overlap_policy)tsr_overlap_policy_find(tsr__scene_text(scene, TSR__OPT_OVERLAP_POLICY));
    options->crop_context = (tsr__scene_int(scene, TSR__OPT_CROP_CONTEXT) + 7) / 8;
    options->base_only_steps = tsr__scene_int(scene, TSR__OPT_BASE_ONLY_STEPS);
    options->seed_2nd = tsr__scene_seed(scene, TSR__OPT_SEED_2ND);
    options->seed_2nd_mode = (tsr_seed_2nd_mode)tsr_seed_2nd_mode_find(tsr__scene_text(scene, TSR__OPT_SEED_2ND_MODE));
    options->restore_latent = tsr__scene_flag(scene, TSR__OPT_RESTORE_LATENT);
    options->recovery_mode =
        (tsr_recovery_mode)tsr_recovery_mode_find(tsr__scene_text(scene, TSR__OPT_ADDITIONAL_MODE));
    options->recovery_sampler = tsr__scene_text(scene, TSR__OPT_ADDITIONAL_SAMPLER);
    options->recovery_ratio = (float)tsr__scene_number(scene, TSR__OPT_ADDITIONAL_SIGMA_RATIO);
}

static tsr_status make_base(tsr__job *job, tsr_engine *engine, int evaluate, tsr_error *err) {
    static const tsr_region_base fresh = TSR_REGION_BASE_INIT;
    const tsr_scene *scene = job->scene;
    job->base = fresh;
    job->base.sampler = tsr__scene_text(scene, TSR__OPT_SAMPLER);
    job->base.scheduler = tsr__scene_text(scene, TSR__OPT_SCHEDULER);
    job->base.sigma_factor = (float)tsr__scene_number(scene, TSR__OPT_SIGMA_FACTOR);
    return make_guide(&job->base.guide, engine, job, -1, tsr__scene_text(scene, TSR__OPT_PROMPT),
                      tsr__scene_text(scene, TSR__OPT_NEGATIVE), tsr__scene_number(scene, TSR__OPT_CFG), evaluate, err);
}

tsr_status tsr__job_new(tsr__job **out, tsr_engine *engine, const tsr_scene *scene, const tsr_latent *start,
                        int evaluate, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__job *job = NULL;
    *out = NULL;
    TSR_TRY(tsr_scene_check(scene, err));
    TSR_ALLOC_ZERO(err, job, 1);
    TSR_TRY(tsr_scene_copy(&job->scene, scene, err));
    job->region_count = job->scene->region_count;
    TSR_TRY(settle_seeds(job->scene, err));
    TSR_TRY(settle_defaults(job->scene, err));
    TSR_TRY(make_start(job, engine, start, evaluate, err));
    TSR_TRY(tsr__job_load_masks(job, err));
    TSR_TRY(make_base(job, engine, evaluate, err));
    TSR_ALLOC_ZERO(err, job->regions, job->region_count ? job->region_count : 1);
    for (int i = 0; i < job->region_count; i++) TSR_TRY(make_region(&job->regions[i], engine, job, i, evaluate, err));
    TSR_TRY(tsr__job_make_concat(job, engine, err));
    make_options(job);
    TSR_TRY(tsr__budget_check(engine, job, err));
    *out = job;
    job = NULL;
done:
    tsr__job_free(job);
    return status;
}
