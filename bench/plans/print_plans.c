/* bench/plans/print_plans.c - tessera-plans: the plans of the five systems as JSON, from which tools/draw_plans.py draws
 * the pictures of docs/system_*.md. No network runs: a plan needs a sigma table only.
 *
 * Settings are those of the golden workflows named in each title. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/calls.h"
#include "region/plan_priv.h"
#include "tessera/tessera.h"
#include "upscale/masked_upscaler.h"

enum { SIDE = 128, STEPS = 6 };
static const int latent_shape[4] = { 1, 4, SIDE / 8, SIDE / 8 };

static tsr_status only_plans(tsr_error *err) {
    return tsr__fail(err, TSR_UNSUPPORTED, "tessera-plans only plans");
}
static tsr_status denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count, tsr_error *err) {
    (void)user, (void)shape, (void)calls, (void)count;
    return only_plans(err);
}
static tsr_status decode(void *user, float *rgb, const float *latent, int n, int h, int w, int tile_px,
                         tsr_error *err) {
    (void)user, (void)rgb, (void)latent, (void)n, (void)h, (void)w, (void)tile_px;
    return only_plans(err);
}
static tsr_status encode(void *user, float *latent, const float *rgb, int n, int height, int width, int tile_px,
                         tsr_error *err) {
    (void)user, (void)latent, (void)rgb, (void)n, (void)height, (void)width, (void)tile_px;
    return only_plans(err);
}

/* What every plan takes: a network that is never called, and the two halves of the picture. */
typedef struct world {
    tsr_sigma_table *table;
    tsr_denoiser denoiser;
    tsr_guide guides[3]; /* base, region 1, region 2: a prompt each, one negative */
    tsr_mask *halves[2];
    json_t *out;
} world;

static tsr_status world_init(world *w, tsr_error *err) {
    static const int prompts[4]; /* conditionings are pointers, nothing more */
    tsr_status status = TSR_OK;
    memset(w, 0, sizeof *w);
    w->out = json_object();
    TSR_TRY(tsr_sigma_table_new(&w->table, 0.00085, 0.012, 1000, err));
    w->denoiser = (tsr_denoiser){ .struct_size = sizeof w->denoiser, .denoise = denoise, .latent_scale = 0.18215f };
    w->denoiser.table = w->table;
    for (int i = 0; i < 3; i++) w->guides[i] = (tsr_guide){ &w->denoiser, &prompts[i], &prompts[3], 4.0f, 0.0, 0.0 };
    for (int i = 0; i < 2; i++)
        TSR_TRY(tsr_mask_from_box(&w->halves[i], SIDE, SIDE, i * SIDE / 2, 0, SIDE / 2, SIDE, err));
done:
    return status;
}

static void world_clear(world *w) {
    for (int i = 0; i < 2; i++) tsr_mask_free(w->halves[i]);
    tsr_sigma_table_free(w->table);
    json_decref(w->out);
}

/* A call's sampler runs: one, or two with a recovery pass. */
static tsr_status call_runs(json_t *to, const tsr_plan *plan, const tsr__op *op, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__impact_call call;
    tsr__impact_passes passes = { 0 };
    json_t *runs = json_array();
    tsr__restart_call(&call, plan, op, NULL);
    TSR_TRY(tsr__impact_passes_init(&passes, &call, err));
    for (int i = 0; i < 2; i++)
        if (passes.runs[i]) json_array_append_new(runs, json_string(passes.pass[i].sampler));
    json_object_set(to, "runs", runs);
done:
    json_decref(runs);
    tsr__impact_passes_clear(&passes);
    return status;
}

static tsr_status describe(json_t *to, const tsr_plan *plan, const tsr__op *op, tsr_error *err) {
    static const char *const kinds[] = { "noise", "call", "composite", "lockstep", "finish" };
    const tsr_plan_step *s = &op->shown;
    json_object_set_new(to, "kind", json_string(kinds[s->kind]));
    json_object_set_new(to, "region", json_integer(s->region));
    json_object_set_new(to, "step", json_integer(s->step));
    json_object_set_new(to, "evaluations", json_integer(s->evaluations));
    json_object_set_new(to, "from", json_real((double)s->sigma_from));
    json_object_set_new(to, "to", json_real((double)s->sigma_to));
    json_object_set_new(to, "noise", json_boolean(op->add_noise || op->uses_noise));
    json_object_set_new(to, "seed", json_integer((json_int_t)op->seed));
    if (s->kind == TSR_PLAN_LOCKSTEP) {
        json_t *active = json_array();
        for (int k = 0; k < plan->n_actors; k++)
            json_array_append_new(active, json_boolean(plan->active[s->step * plan->n_actors + k]));
        json_object_set_new(to, "active", active);
    }
    if (s->kind != TSR_PLAN_CALL) return TSR_OK;
    json_object_set_new(to, "count", json_integer(op->end - op->start));
    json_object_set_new(to, "leftover", json_boolean(op->leftover));
    return call_runs(to, plan, op, err);
}

/* Adds a plan under `name` and frees it. sigmas: of the columns, in the order they run. */
static tsr_status add_plan(world *w, const char *name, const char *title, tsr_plan *plan, int first, int runs,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    float *sigmas = NULL;
    int n = 0;
    json_t *object = json_object(), *ops = json_array(), *labels = json_array(), *columns = json_array();
    json_t *samplers = json_array();
    for (int i = 0; i < plan->n_ops; i++) {
        json_t *op = json_object();
        json_array_append_new(ops, op);
        TSR_TRY(describe(op, plan, &plan->ops[i], err));
    }
    for (int k = 0; k < plan->n_actors; k++) {
        const tsr__actor *actor = &plan->actors[k];
        json_array_append_new(labels, json_string(actor->label));
        json_array_append_new(samplers, json_string(actor->sampler));
    }
    TSR_TRY(tsr_ksampler_sigmas(&sigmas, &n, w->table, "normal", "euler", STEPS, 1.0, err));
    for (int run = 0; run < runs; run++)
        for (int i = first; i < first + plan->steps / runs; i++)
            json_array_append_new(columns, json_pack("[f, f]", (double)sigmas[i], (double)sigmas[i + 1]));
    json_object_set_new(object, "title", json_string(title));
    json_object_set_new(object, "evaluations", json_integer(tsr_plan_evaluations(plan)));
    json_object_set(object, "ops", ops);
    json_object_set(object, "labels", labels);
    json_object_set(object, "samplers", samplers);
    json_object_set(object, "columns", columns);
    json_object_set_new(object, "first", json_integer(first));
    json_object_set(w->out, name, object);
done:
    json_decref(object);
    json_decref(ops);
    json_decref(labels);
    json_decref(samplers);
    json_decref(columns);
    tsr_free(sigmas);
    tsr_plan_free(plan);
    return status;
}

static tsr_status two_samplers(world *w, tsr_error *err) {
    tsr_plan *plan = NULL;
    tsr_ksampler_provider base = TSR_KSAMPLER_PROVIDER_INIT, inside = TSR_KSAMPLER_PROVIDER_INIT;
    base.guide = w->guides[0];
    inside.guide = w->guides[1];
    base.steps = inside.steps = STEPS;
    base.seed = 21;
    inside.seed = 22;
    tsr_status status = tsr_two_samplers_plan(&plan, &base, &inside, w->halves[0], NULL, latent_shape, err);
    return status ? status : add_plan(w, "two_samplers", "TwoSamplersForMask, two_samplers_hard.json", plan, 0, 2, err);
}

static tsr_status two_advanced(world *w, tsr_error *err) {
    tsr_plan *plan = NULL;
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region inside = TSR_REGION_INIT;
    tsr_two_advanced_options options = TSR_TWO_ADVANCED_OPTIONS_INIT;
    base.guide = w->guides[0];
    inside.guide = w->guides[1];
    inside.mask = w->halves[0];
    options.steps = STEPS;
    options.seed = 31;
    tsr_status status = tsr_two_advanced_plan(&plan, &base, &inside, &options, latent_shape, err);
    return status ? status
                  : add_plan(w, "two_advanced_samplers", "TwoAdvancedSamplersForMask, two_advanced_overlap10.json",
                             plan, 0, 1, err);
}

/* Two regions; the first samples with dpmpp_sde along karras when `sde`, which is recovered in restart. */
static tsr_status regional(world *w, const char *name, const char *title, const tsr_regional_options *options, int sde,
                           int first, tsr_error *err) {
    tsr_plan *plan = NULL;
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_region regions[2] = { TSR_REGION_INIT, TSR_REGION_INIT };
    base.guide = w->guides[0];
    for (int i = 0; i < 2; i++) {
        regions[i].mask = w->halves[i];
        regions[i].guide = w->guides[i + 1];
    }
    if (sde) {
        regions[0].sampler = "dpmpp_sde";
        regions[0].scheduler = "karras";
    }
    tsr_status status = tsr_plan_new(&plan, &base, regions, 2, options, latent_shape, err);
    return status ? status : add_plan(w, name, title, plan, first, 1, err);
}

static tsr_status regionals(world *w, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    options.history = TSR_HISTORY_RESTART;
    options.steps = STEPS;
    options.seed = 41;
    options.overlap = 10;
    options.base_only_steps = 2;
    TSR_TRY(regional(w, "regional_sampler", "RegionalSampler, regional_recover_dpmpp_sde_ratio_between.json", &options,
                     1, 0, err));
    options.history = TSR_HISTORY_KEEP;
    TSR_TRY(regional(w, "regional_sampler_keep", "The same settings under history keep", &options, 1, 0, err));
    options.history = TSR_HISTORY_RESTART;
    options.system = TSR_SYSTEM_REGIONAL_ADVANCED;
    options.seed = 51;
    options.start_step = 2;
    options.end_step = 5;
    TSR_TRY(regional(w, "regional_sampler_advanced", "RegionalSamplerAdvanced, regional_adv_window.json", &options, 0,
                     2, err));
done:
    return status;
}

/* IterativeLatentUpscale over TwoSamplersForMaskUpscalerProvider: one entry a size. */
static tsr_status upscaler(world *w, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__vae_table vae = { NULL, 4, decode, encode };
    const tsr_ksampler_provider init = TSR_KSAMPLER_PROVIDER_INIT;
    tsr_ksampler_provider full = init;
    const tsr__iterative_options options = { 1.75, 4, 0, NULL };
    tsr__masked_upscaler masked = { .base = init, .inside = init, .full = &full, .mask = w->halves[0] };
    tsr__upscaler table;
    tsr__iterative_step *steps = NULL;
    json_t *list = json_array();
    int n = 0;
    masked.path = (tsr__pixel_path){ .vae = &vae, .method = TSR_RESIZE_BILINEAR };
    masked.schedule = TSR__FULL_INTERLEAVE1;
    masked.base.guide = w->guides[0];
    masked.inside.guide = w->guides[1];
    full.guide = w->guides[2];
    masked.base.steps = masked.inside.steps = 4;
    masked.base.denoise = 0.4;
    masked.inside.denoise = 0.6;
    full.steps = 3;
    full.denoise = 0.3;
    tsr__masked_upscaler_table(&table, &masked);
    TSR_TRY(tsr__iterative_steps(&steps, &n, latent_shape, &options, err));
    for (int i = 0; i < n; i++) {
        int64_t evaluations = 0;
        int own = 0;
        const int shape[4] = { 1, 4, (int)steps[i].height / 8, (int)steps[i].width / 8 };
        TSR_TRY(table.count(table.self, steps[i].time, shape, &evaluations, &own, err));
        json_array_append_new(
            list,
            json_pack("{s:i, s:i, s:b, s:s, s:i, s:I}", "width", (int)steps[i].width / 8 * 8, "height",
                      (int)steps[i].height / 8 * 8, "full",
                      tsr__full_schedule_applies(masked.schedule, steps[i].time.step, steps[i].time.total), "text",
                      table.describe(table.self, steps[i].time), "steps", own, "evaluations", (json_int_t)evaluations));
    }
    json_object_set_new(w->out, "upscaler",
                        json_pack("{s:s, s:O}", "title",
                                  "TwoSamplersForMaskUpscalerProvider, upscaler_interleave1.json", "sizes", list));
done:
    json_decref(list);
    free(steps);
    return status;
}

int main(void) {
    tsr_error err = TSR_ERROR_INIT;
    world w;
    tsr_status status = world_init(&w, &err);
    if (status == TSR_OK) status = two_samplers(&w, &err);
    if (status == TSR_OK) status = two_advanced(&w, &err);
    if (status == TSR_OK) status = regionals(&w, &err);
    if (status == TSR_OK) status = upscaler(&w, &err);
    if (status == TSR_OK) {
        json_dumpf(w.out, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
        printf("\n");
    } else fprintf(stderr, "tessera-plans: %s: %s\n", tsr_status_name(status), err.message);
    world_clear(&w);
    return status == TSR_OK ? 0 : 1;
}
