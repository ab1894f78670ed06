/* fuzz/resume_scenes.h - three small runs on an exact network (clean latents are Gaussian), for states of theirs: a single
 * run, history keep, history restart. */
#ifndef FUZZ_RESUME_SCENES_H
#define FUZZ_RESUME_SCENES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/region.h"

enum { SCENE_LONE, SCENE_KEEP, SCENE_RESTART, SCENES, SCENE_SIDE = 4 };

static tsr_status gaussian_denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count,
                                   tsr_error *err) {
    size_t n = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
    (void)user;
    (void)err;
    for (int k = 0; k < count; k++) {
        float mean = *(const float *)calls[k].cond, s = calls[k].sigma * calls[k].sigma;
        for (size_t i = 0; i < n; i++) calls[k].denoised[i] = (calls[k].x[i] + s * mean) / (1.0f + s);
    }
    return TSR_OK;
}

static tsr_status run_plan(tsr_latent **out, int scene, tsr_guide guide, const float *means, const tsr_latent *latent,
                           const tsr_run_hooks *hooks, tsr_error *err) {
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region region = TSR_REGION_INIT;
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    tsr_plan *plan = NULL;
    tsr_mask *mask = NULL;
    tsr_status status = tsr_mask_from_box(&mask, 8 * SCENE_SIDE, 8 * SCENE_SIDE, 0, 0, 16, 32, err);
    base.guide = region.guide = guide;
    region.guide.positive = &means[2];
    region.mask = mask;
    region.feather_px = scene == SCENE_KEEP ? 6.0f : 0.0f;
    base.sampler = scene == SCENE_KEEP ? "dpmpp_2m_sde" : "dpmpp_sde";
    region.sampler = scene == SCENE_KEEP ? "uni_pc" : "dpmpp_sde";
    base.scheduler = "karras";
    options.steps = 4;
    options.history = scene == SCENE_KEEP ? TSR_HISTORY_KEEP : TSR_HISTORY_RESTART;
    options.base_only_steps = 1;
    if (status == TSR_OK) status = tsr_plan_new(&plan, &base, &region, 1, &options, latent->shape, err);
    if (status == TSR_OK) status = tsr_plan_run(out, plan, latent, hooks, err);
    tsr_plan_free(plan);
    tsr_mask_free(mask);
    return status;
}

/* *out is released with tsr_latent_free; NULL unless TSR_OK. */
static tsr_status run_scene(tsr_latent **out, int scene, const tsr_run_hooks *hooks, tsr_error *err) {
    static const float means[3] = { 0.5f, 0.0f, -0.7f };
    tsr_denoiser denoiser = { .struct_size = sizeof denoiser, .denoise = gaussian_denoise, .latent_scale = 0.18215f };
    tsr_guide guide = { &denoiser, &means[0], &means[1], 2.0f, 0.0, 0.0 };
    tsr_sigma_table *table = NULL;
    tsr_latent *latent = NULL;
    *out = NULL;
    tsr_status status = tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, err);
    if (status == TSR_OK) status = tsr_latent_new(&latent, 1, 1, SCENE_SIDE, SCENE_SIDE, err);
    denoiser.table = table;
    if (status == TSR_OK && scene == SCENE_LONE) {
        tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
        options.sampler = "dpmpp_3m_sde";
        options.scheduler = "karras";
        options.steps = 4;
        options.hooks = hooks;
        status = tsr_ksampler(out, latent, &guide, &options, err);
    } else if (status == TSR_OK) {
        status = run_plan(out, scene, guide, means, latent, hooks, err);
    }
    tsr_latent_free(latent);
    tsr_sigma_table_free(table);
    return status;
}

/* The state of a scene that was stopped at an event, from 1. */
typedef struct stopped_scene {
    int events, stop_at;
    uint8_t *state; /* NULL: it ended before; released with free */
    size_t size;
} stopped_scene;

static int stop_there(void *user, const tsr_progress *at) {
    stopped_scene *s = user;
    (void)at;
    return ++s->events == s->stop_at;
}

static tsr_status keep_state(void *user, const void *state, size_t size, tsr_error *err) {
    stopped_scene *s = user;
    (void)err;
    s->state = malloc(size);
    if (!s->state) abort();
    memcpy(s->state, state, size);
    s->size = size;
    return TSR_OK;
}

static stopped_scene stop_scene(int scene, int stop_at) {
    stopped_scene s = { .stop_at = stop_at };
    tsr_latent *out = NULL;
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    hooks.user = &s;
    hooks.progress = stop_there;
    hooks.save = keep_state;
    (void)run_scene(&out, scene, &hooks, NULL);
    tsr_latent_free(out);
    return s;
}

#endif /* FUZZ_RESUME_SCENES_H */
