/* engine/engine_run.c - painting a scene: text, sampling, decoding, metadata; and its plan without painting. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "engine/engine_preview.h"
#include "engine/engine_priv.h"
#include "engine/engine_state.h"
#include "model/taesd.h"

void tsr_result_free(tsr_result *result) {
    if (!result) return;
    for (int i = 0; i < result->image_count; i++) tsr_image_free(result->images[i]);
    for (int i = 0; i < result->warning_count; i++) free(result->warnings[i]);
    free(result->images);
    free(result->warnings);
    tsr_latent_free(result->latent);
    tsr_scene_free(result->scene);
    free(result);
}

/* --- callbacks -------------------------------------------------------------------------------------------------------------- */
typedef struct watch {
    tsr_engine *engine;
    const tsr_engine_callbacks *callbacks;
    double preview_cost, last_preview;
    tsr__engine_saver saver;
    enum { PREVIEW_NONE, PREVIEW_VAE, PREVIEW_MAP, PREVIEW_TINY } previews;
    tsr__preview_map map;
} watch;

/* Previews may take a sixth of the time at most. */
static int preview_is_due(const watch *w, const tsr_progress *at) {
    if (w->previews == PREVIEW_NONE || at->event != TSR_PROGRESS_STEP || !at->x0) return 0;
    return tsr__seconds() - w->last_preview >= 5 * w->preview_cost;
}

static tsr_image *decode(tsr_engine *engine, const tsr_progress *at) {
    tsr_latent *latent = NULL;
    tsr_image *image = NULL;
    if (tsr_latent_new(&latent, 1, at->shape[1], at->shape[2], at->shape[3], NULL) != TSR_OK) return NULL;
    memcpy(latent->values, at->x0, tsr_latent_count(latent) * sizeof *latent->values);
    (void)tsr_engine_decode(&image, engine, latent, 0, 0, NULL);
    tsr_latent_free(latent);
    return image;
}

/* A preview that cannot be made (not finite yet, memory) is no reason to lose the picture. */
static int give_preview(watch *w, const tsr_progress *at) {
    tsr_image *image = NULL;
    double start = tsr__seconds();
    if (w->previews == PREVIEW_VAE) image = decode(w->engine, at);
    else if (w->previews == PREVIEW_MAP) (void)tsr__preview_map_paint(&image, &w->map, at->x0, at->shape, NULL);
    else (void)tsr__preview_tiny_paint(&image, w->engine, at->x0, at->shape, NULL);
    int stop = image ? w->callbacks->preview(w->callbacks->user, image, at) : 0;
    tsr_image_free(image);
    w->last_preview = tsr__seconds();
    w->preview_cost = w->last_preview - start;
    return stop;
}

static int on_progress(void *user, const tsr_progress *at) {
    watch *w = user;
    const tsr_engine_callbacks *callbacks = w->callbacks;
    if (callbacks->cancelled && callbacks->cancelled(callbacks->user)) return 1;
    if (callbacks->progress && callbacks->progress(callbacks->user, at)) return 1;
    return preview_is_due(w, at) ? give_preview(w, at) : 0;
}

static tsr_status on_save(void *user, const void *state, size_t size, tsr_error *err) {
    return tsr__engine_save(&((watch *)user)->saver, NULL, state, size, err);
}

/* --- the stages --------------------------------------------------------------------------------------------------------------- */
static const tsr_guide *guide_at(const tsr__job *job, int i) {
    return i < 0 ? &job->base.guide : &job->regions[i].guide;
}

/* The values of one engine's prompts. */
static tsr_status encode_for(const tsr__job *job, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = -1; i < job->region_count; i++) {
        const tsr_guide *guide = guide_at(job, i);
        if (guide->denoiser->user != engine) continue;
        TSR_TRY(tsr__conditioning_encode(engine, (tsr__conditioning *)(uintptr_t)guide->positive, err));
        TSR_TRY(tsr__conditioning_encode(engine, (tsr__conditioning *)(uintptr_t)guide->negative, err));
    }
done:
    return status;
}

/* Encodes what the run will ask for, so that its time is told apart and its errors come first: model by model, and all
 * before the first UNet. Under a budget a UNet is not packed for its contexts alone. */
static tsr_status encode_prompts(const tsr__job *job, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (tsr_engine *at = engine; at; at = at == engine ? engine->guests : at->next_guest)
        TSR_TRY(encode_for(job, at, err));
    for (int i = -1; i < job->region_count && !tsr__budget_is_on(engine); i++) {
        const tsr_guide *guide = guide_at(job, i);
        tsr_engine *own = guide->denoiser->user; /* a region may have a model of its own */
        TSR_TRY(tsr__conditioning_need(own, (tsr__conditioning *)(uintptr_t)guide->positive, err));
        TSR_TRY(tsr__conditioning_need(own, (tsr__conditioning *)(uintptr_t)guide->negative, err));
    }
done:
    return status;
}

/* What adapters had to say, when their networks came late. */
static tsr_status tell_warnings(tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = -1; i < job->region_count && status == TSR_OK; i++) {
        char *warning = tsr__adapters_take_warning(((const tsr__conditioning *)guide_at(job, i)->positive)->adapters);
        if (warning) status = tsr__job_warn(job, warning, err);
        free(warning);
    }
    return status;
}

static tsr_status new_plan(tsr_plan **out, const tsr__job *job, tsr_error *err) {
    return tsr_plan_new(out, &job->base, job->regions, job->region_count, &job->options, job->latent->shape, err);
}

static tsr_status sample(tsr_latent **out, tsr__job *job, const tsr_run_hooks *hooks, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_plan *plan = NULL;
    if (job->region_count == 0) {
        tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
        options.sampler = job->base.sampler;
        options.scheduler = job->base.scheduler;
        options.steps = job->options.steps;
        options.denoise = job->options.denoise;
        options.seed = job->options.seed;
        options.hooks = hooks;
        return tsr_ksampler(out, job->latent, &job->base.guide, &options, err);
    }
    TSR_TRY(new_plan(&plan, job, err));
    for (int i = 0; tsr_plan_warning(plan, i); i++) TSR_TRY(tsr__job_warn(job, tsr_plan_warning(plan, i), err));
    if (job->options.history == TSR_HISTORY_KEEP)
        TSR_TRY(tsr_scene_set(job->scene, "mode", tsr_sharing_name((int)tsr_plan_sharing(plan)), err));
    TSR_TRY(tsr_plan_run(out, plan, job->latent, hooks, err));
done:
    tsr_plan_free(plan);
    return status;
}

static tsr_status decode_all(tsr_result *result, tsr_engine *engine, const tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *parameters = NULL, *scene = NULL;
    int count = result->latent->shape[0], tile_px = tsr__scene_int(job->scene, TSR__OPT_VAE_TILE);
    TSR_TRY(tsr_scene_parameters_text(&parameters, job->scene, err));
    TSR_TRY(tsr__scene_metadata_json(&scene, job->scene, err));
    TSR_ALLOC_ZERO(err, result->images, count);
    result->image_count = count;
    for (int i = 0; i < count; i++) {
        TSR_TRY(tsr_engine_decode(&result->images[i], engine, result->latent, i, tile_px, err));
        tsr__job_paste_back(result->images[i], job);
        TSR_TRY(tsr_image_set_text(result->images[i], "parameters", parameters, err));
        TSR_TRY(tsr_image_set_text(result->images[i], "tessera", scene, err));
    }
done:
    free(parameters);
    free(scene);
    return status;
}

/* Pictures of a finished latent. Stopping here keeps the latent, where states are wanted. */
static tsr_status decode_or_save(tsr_result *result, watch *w, const tsr__job *job, tsr_error *err) {
    tsr_error own = TSR_ERROR_INIT;
    tsr_status status = decode_all(result, w->engine, job, err);
    if (status != TSR_CANCELLED || !w->callbacks->save) return status;
    status = tsr__engine_save(&w->saver, result->latent, NULL, 0, &own);
    if (status == TSR_OK) return TSR_CANCELLED;
    if (err) *err = own;
    return status;
}

/* TAESD for the previews: 1 when it is there. What is wrong with a file that nobody asked for is only a note. */
static tsr_status find_tiny(int *found, watch *w, tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = w->engine;
    const int asked = w->callbacks->preview_method == TSR_PREVIEW_TAESD;
    tsr_error reason = TSR_ERROR_INIT;
    char *path = tsr__preview_find_tiny(engine, NULL), *warning = NULL;
    *found = 0;
    if (!path && asked)
        TSR_FAIL(err, TSR_NOT_FOUND, "preview_method taesd: there is no %s.safetensors in vae_approx/ beside %s",
                 tsr__preview_tiny_stem(engine), engine->model);
    if (!path) goto done;
    tsr_status opened = tsr__preview_open_tiny(engine, path, &reason);
    *found = opened == TSR_OK;
    if (*found) goto done;
    if (asked) TSR_FAIL(err, opened, "preview_method taesd: %s", reason.message);
    warning = tsr__format("previews without TAESD: %s", reason.message);
    if (warning) TSR_TRY(tsr__job_warn(job, warning, err));
done:
    free(path);
    free(warning);
    return status;
}

/* Under a budget that does not hold everything, previews must not make networks go. */
static tsr_status choose_previews(watch *w, tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_preview_method method = w->callbacks->preview_method;
    const int is_tiny = tsr__taesd_is_at(w->engine->weights, "first_stage_model.");
    int crowded = !tsr__budget_holds_all(w->engine, job), found = 0;
    if (!w->callbacks->preview || method == TSR_PREVIEW_NONE) return TSR_OK;
    if (!is_tiny && (method == TSR_PREVIEW_TAESD || (method == TSR_PREVIEW_AUTO && !crowded)))
        TSR_TRY(find_tiny(&found, w, job, err));
    w->previews = found ? PREVIEW_TINY : method == TSR_PREVIEW_LATENT2RGB || crowded ? PREVIEW_MAP : PREVIEW_VAE;
    if (is_tiny && method == TSR_PREVIEW_TAESD) w->previews = PREVIEW_VAE;
    if (w->previews == PREVIEW_MAP) TSR_TRY(tsr__preview_map_fit(&w->map, w->engine, err));
done:
    return status;
}

/* from: NULL, or the state to go on from. */
static tsr_status run_job(tsr_result *result, tsr_engine *engine, tsr__job *job, tsr__engine_state *from,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    static const tsr_engine_callbacks none = TSR_ENGINE_CALLBACKS_INIT;
    watch w = { .engine = engine, .callbacks = engine->callbacks ? engine->callbacks : &none };
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    hooks.user = &w;
    hooks.progress = on_progress;
    hooks.save = w.callbacks->save ? on_save : NULL;
    hooks.save_steps = w.callbacks->save_steps;
    hooks.save_seconds = w.callbacks->save_seconds;
    hooks.state = from ? from->run.data : NULL;
    hooks.state_size = from ? from->run.size : 0;
    w.saver.engine = engine;
    w.saver.job = job;
    double start = tsr__seconds(), texts = start, sampled;
    if (from && from->finished) {
        result->latent = from->latent;
        from->latent = NULL;
    } else {
        TSR_TRY(encode_prompts(job, engine, err));
        TSR_TRY(choose_previews(&w, job, err));
        texts = tsr__seconds();
        TSR_TRY(sample(&result->latent, job, &hooks, err));
        TSR_TRY(tell_warnings(job, err));
    }
    sampled = tsr__seconds();
    TSR_TRY(decode_or_save(result, &w, job, err));
    result->text_seconds = texts - start;
    result->sample_seconds = sampled - texts;
    result->decode_seconds = tsr__seconds() - sampled;
done:
    tsr__engine_saver_clear(&w.saver);
    return status;
}

static tsr_status run_scene(tsr_result **out, tsr_engine *engine, const tsr_scene *scene, tsr__engine_state *from,
                            const tsr_engine_callbacks *callbacks, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__job *job = NULL;
    tsr_result *result = NULL;
    *out = NULL;
    engine->callbacks = callbacks;
    TSR_ALLOC_ZERO(err, result, 1);
    if (engine->budget == &engine->own_budget) tsr__budget_begin(engine->budget);
    const tsr__budget before = *engine->budget;
    if (!tsr__budget_is_on(engine)) TSR_TRY(tsr__engine_need_unet(engine, err));
    TSR_TRY(tsr__job_new(&job, engine, scene, from ? from->latent : NULL, 1, err));
    if (from) {
        TSR_TRY(tsr__engine_state_check(from, engine, job, err));
        job->concat = from->concat;
        from->concat = NULL;
        job->original = from->original;
        from->original = NULL;
    }
    engine->concat = job->concat;
    engine->edited = job->encodes_init || job->scene->text[TSR__OPT_INIT_LATENT] ? job->latent : NULL;
    TSR_TRY(run_job(result, engine, job, from, err));
    result->swaps = engine->budget->swaps - before.swaps;
    result->swap_seconds = engine->budget->swap_seconds - before.swap_seconds;
    result->swap_bytes = engine->budget->swap_bytes - before.swap_bytes;
    result->scene = job->scene;
    result->warnings = job->warnings;
    result->warning_count = job->warning_count;
    job->scene = NULL;
    job->warnings = NULL;
    job->warning_count = 0;
    *out = result;
    result = NULL;
done:
    engine->callbacks = NULL;
    tsr__budget_end_job(engine->budget);
    engine->concat = NULL;
    engine->edited = NULL;
    tsr__job_free(job);
    tsr_result_free(result);
    return status;
}

tsr_status tsr_engine_run(tsr_result **out, tsr_engine *engine, const tsr_scene *scene,
                          const tsr_engine_callbacks *callbacks, tsr_error *err) {
    return run_scene(out, engine, scene, NULL, callbacks, err);
}

tsr_status tsr_engine_resume(tsr_result **out, tsr_engine *engine, const void *state, size_t size,
                             const tsr_engine_callbacks *callbacks, tsr_error *err) {
    tsr__engine_state from;
    *out = NULL;
    tsr_status status = tsr__engine_state_read(&from, state, size, err);
    if (status == TSR_OK) status = run_scene(out, engine, from.scene, &from, callbacks, err);
    tsr__engine_state_clear(&from);
    return status;
}

/* --- the plan ------------------------------------------------------------------------------------------------------------------- */
static tsr_status plain_plan_text(char **out, tsr_engine *engine, const tsr__job *job, tsr_error *err) {
    float *sigmas = NULL;
    int count = 0;
    *out = NULL;
    tsr_status status = tsr_ksampler_sigmas(&sigmas, &count, engine->table, job->base.scheduler, job->base.sampler,
                                            job->options.steps, job->options.denoise, err);
    if (status != TSR_OK) return status;
    *out = tsr__format("plain run: %d steps of %s (%s), sigma %.4g to %.4g, cfg %.4g\n", count > 0 ? count - 1 : 0,
                       job->base.sampler, job->base.scheduler, count ? (double)sigmas[0] : 0.0,
                       count ? (double)sigmas[count - 1] : 0.0, (double)job->base.guide.cfg);
    tsr_free(sigmas);
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

tsr_status tsr_engine_plan(char **out, tsr_engine *engine, const tsr_scene *scene, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__job *job = NULL;
    tsr_plan *plan = NULL;
    char *steps = NULL, *notes = NULL, *models = NULL, *memory = NULL;
    tsr_engine_info info = tsr_engine_get_info(engine);
    *out = NULL;
    TSR_TRY(tsr__job_new(&job, engine, scene, NULL, 0, err));
    if (job->region_count == 0) {
        TSR_TRY(plain_plan_text(&steps, engine, job, err));
    } else {
        TSR_TRY(new_plan(&plan, job, err));
        TSR_TRY(tsr_plan_text(&steps, plan, err)); /* with its own notes */
    }
    TSR_TRY(tsr__engine_list_models(&models, job, err));
    TSR_TRY(tsr__budget_text(&memory, engine, job, err));
    notes = tsr__strdup("");
    for (int i = 0; notes && i < job->warning_count; i++) {
        char *more = tsr__format("%snote: %s\n", notes, job->warnings[i]);
        free(notes);
        notes = more;
    }
    if (notes)
        *out = tsr__format("model: %s (%s%s, %s)\n%s%spicture: %dx%d, batch %d, seed %s%s\n%s%s", info.model, info.kind,
                           tsr__checkpoint_variant_name(engine->checkpoint.variant), info.precision, models, memory,
                           job->width, job->height, job->batch, tsr__scene_text(job->scene, TSR__OPT_SEED),
                           job->encodes_init ? ", from a picture" : "", steps, notes);
    if (!*out) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    free(models);
    free(memory);
    free(notes);
    free(steps);
    tsr_plan_free(plan);
    tsr__budget_end_job(engine->budget);
    tsr__job_free(job);
    return status;
}
