/* graph/nodes_impact.c - the Impact Pack's pipes, providers and the four regional samplers.
 *
 * Inputs: reference/peers.md 2.1 and reference/nodes/. What they do is region.h's and two_samplers.h's. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "tessera/two_samplers.h"

/* --- pipes ------------------------------------------------------------------------------------------------------------------ */
static const tsr__input pipe_inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__LINK("clip", CLIP, "The text encoder."),
    TSR__LINK("vae", VAE, "The VAE."),
    TSR__LINK("positive", CONDITIONING, "What shall be seen."),
    TSR__LINK("negative", CONDITIONING, "What shall not be seen."),
    TSR__END,
};

static const tsr__input edit_pipe_inputs[] = {
    TSR__LINK("basic_pipe", BASIC_PIPE, "The pipe to change."),
    TSR__LINK_OPT("model", MODEL, "In place of the pipe's."),
    TSR__LINK_OPT("clip", CLIP, "In place of the pipe's."),
    TSR__LINK_OPT("vae", VAE, "In place of the pipe's."),
    TSR__LINK_OPT("positive", CONDITIONING, "In place of the pipe's."),
    TSR__LINK_OPT("negative", CONDITIONING, "In place of the pipe's."),
    TSR__END,
};

static const tsr__input from_pipe_inputs[] = { TSR__LINK("basic_pipe", BASIC_PIPE, "The pipe."), TSR__END };
static const char *const pipe_parts[] = { "model", "clip", "vae", "positive", "negative" };
enum { PIPE_PARTS = 5 };

tsr_status tsr__make_record(tsr__value **out, tsr__type type, const char *class_type, const tsr__named_value *given,
                            int n, tsr_error *err) {
    const tsr__node *row = tsr__node_find(class_type);
    tsr__value *parts[TSR__MAX_INPUTS] = { NULL };
    for (int i = 0; i < n; i++) parts[tsr__node_input_find(row, given[i].name)] = given[i].value;
    return tsr__value_parts(out, type, row, parts, tsr__node_inputs(row), err);
}

static tsr_status run_edit_pipe(tsr__call *call, tsr_error *err) {
    tsr__named_value parts[PIPE_PARTS];
    tsr__args old = tsr__record(tsr__arg(call->in, "basic_pipe"));
    for (int i = 0; i < PIPE_PARTS; i++) {
        parts[i].name = pipe_parts[i];
        parts[i].value = tsr__arg(call->in, pipe_parts[i]);
        if (!parts[i].value) parts[i].value = tsr__arg(old, pipe_parts[i]);
    }
    return tsr__make_record(&call->results[0], TSR__V_BASIC_PIPE, "ToBasicPipe", parts, PIPE_PARTS, err);
}

static void give_parts(tsr__call *call, int first) {
    tsr__args pipe = tsr__record(tsr__arg(call->in, "basic_pipe"));
    for (int i = 0; i < PIPE_PARTS; i++) call->results[first + i] = tsr__value_ref(tsr__arg(pipe, pipe_parts[i]));
}

static tsr_status run_from_pipe(tsr__call *call, tsr_error *err) {
    (void)err;
    give_parts(call, 0);
    return TSR_OK;
}

static tsr_status run_from_pipe_v2(tsr__call *call, tsr_error *err) {
    (void)err;
    call->results[0] = tsr__value_ref(tsr__arg(call->in, "basic_pipe"));
    give_parts(call, 1);
    return TSR_OK;
}

/* --- providers ---------------------------------------------------------------------------------------------------------------- */
static const tsr__input provider_inputs[] = {
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),
    TSR__COMBO_FROM("scheduler", tsr__choices_impact_schedulers, "normal", "The scheduler."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "How much of the start is replaced."),
    TSR__LINK("basic_pipe", BASIC_PIPE, "Model and conditionings."),
    TSR__END,
};

static const tsr__input advanced_provider_inputs[] = {
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),
    TSR__COMBO_FROM("scheduler", tsr__choices_impact_schedulers, "normal", "The scheduler."),
    TSR__FLOAT("sigma_factor", 1.0, 0.0, 10.0, 0.01, "Multiplies every sigma of this sampler's calls."),
    TSR__LINK("basic_pipe", BASIC_PIPE, "Model and conditionings."),
    TSR__LINK_OPT("sampler_opt", SAMPLER,
                  "What runs in place of sampler_name, which then only decides whether a recovery pass follows."),
    TSR__END,
};

tsr_status tsr__pipe_guide(tsr_guide *out, tsr_graph *graph, const tsr__value *pipe, double cfg, tsr_error *err) {
    tsr__args parts = tsr__record(pipe);
    return tsr__slot_guide(out, graph, tsr__arg(parts, "model"), tsr__arg(parts, "positive"),
                           tsr__arg(parts, "negative"), cfg, err);
}

tsr_status tsr__provider(tsr_ksampler_provider *out, tsr_graph *graph, const tsr__value *provider, tsr_error *err) {
    static const tsr_ksampler_provider defaults = TSR_KSAMPLER_PROVIDER_INIT;
    tsr__args in = tsr__record(provider);
    *out = defaults;
    out->sampler = tsr__arg_text(in, "sampler_name");
    out->scheduler = tsr__arg_text(in, "scheduler");
    out->seed = tsr__arg_seed(in, "seed");
    out->steps = tsr__arg_int(in, "steps");
    out->denoise = tsr__arg_float(in, "denoise");
    return tsr__pipe_guide(&out->guide, graph, tsr__arg(in, "basic_pipe"), tsr__arg_float(in, "cfg"), err);
}

/* What a KSAMPLER_ADVANCED gives the base or a region. */
typedef struct advanced {
    tsr_guide guide;
    const char *sampler, *scheduler, *sampler_opt;
    float sigma_factor;
} advanced;

/* own: holds the options of sampler_opt. */
static tsr_status open_advanced(advanced *out, tsr__sampler *own, tsr_graph *graph, const tsr__value *provider,
                                tsr_error *err) {
    tsr__args in = tsr__record(provider);
    const tsr__value *sampler = tsr__arg(in, "sampler_opt");
    out->sampler = tsr__arg_text(in, "sampler_name");
    if (sampler) {
        tsr_status status = tsr__sampler_of(own, sampler, err);
        if (status != TSR_OK) return status;
    }
    out->sampler_opt = sampler ? own->name : NULL;
    out->scheduler = tsr__arg_text(in, "scheduler");
    out->sigma_factor = (float)tsr__arg_float(in, "sigma_factor");
    return tsr__pipe_guide(&out->guide, graph, tsr__arg(in, "basic_pipe"), tsr__arg_float(in, "cfg"), err);
}

static tsr_status open_base(tsr_region_base *out, tsr__sampler *own, tsr_graph *graph, const tsr__value *provider,
                            tsr_error *err) {
    static const tsr_region_base defaults = TSR_REGION_BASE_INIT;
    advanced a;
    tsr_status status = open_advanced(&a, own, graph, provider, err);
    if (status != TSR_OK) return status;
    *out = defaults;
    out->guide = a.guide;
    out->sampler = a.sampler;
    out->sampler_opt = a.sampler_opt;
    out->solver = a.sampler_opt ? &own->options : NULL;
    out->scheduler = a.scheduler;
    out->sigma_factor = a.sigma_factor;
    return TSR_OK;
}

static tsr_status open_region(tsr_region *out, tsr__sampler *own, tsr_graph *graph, const tsr__value *provider,
                              tsr_error *err) {
    static const tsr_region defaults = TSR_REGION_INIT;
    advanced a;
    tsr_status status = open_advanced(&a, own, graph, provider, err);
    if (status != TSR_OK) return status;
    *out = defaults;
    out->guide = a.guide;
    out->sampler = a.sampler;
    out->sampler_opt = a.sampler_opt;
    out->solver = a.sampler_opt ? &own->options : NULL;
    out->scheduler = a.scheduler;
    out->sigma_factor = a.sigma_factor;
    return TSR_OK;
}

/* --- regional prompts ----------------------------------------------------------------------------------------------------------- */
static const char *const variation_methods[] = { "linear", "slerp", NULL };
static const tsr__input region_inputs[] = {
    TSR__LINK("mask", MASK, "Where the region is."),
    TSR__LINK("advanced_sampler", KSAMPLER_ADVANCED, "How it is sampled."),
    { "variation_seed", TSR__V_INT, TSR__IN_SEED | TSR__IN_OPTIONAL, 0, 0, 18446744073709551615.0, 1, NULL, NULL, NULL,
      "Seed of the noise mixed in." },
    TSR__FLOAT_OPT("variation_strength", 0.0, 0.0, 1.0, 0.01, "How much of it."),
    TSR__COMBO_OPT("variation_method", variation_methods, NULL, "How the noises are mixed."),
    TSR__END,
};

/* A list of one record. */
static tsr_status run_region(tsr__call *call, tsr_error *err) {
    const tsr__node *row = call->in.row;
    tsr__value *record = NULL;
    tsr_status status =
        tsr__value_parts(&record, TSR__V_REGIONAL_PROMPTS, row, call->in.values, tsr__node_inputs(row), err);
    if (status == TSR_OK) status = tsr__value_parts(&call->results[0], TSR__V_REGIONAL_PROMPTS, NULL, &record, 1, err);
    tsr__value_unref(record);
    return status;
}

static const tsr__input combine_inputs[] = {
    { "regional_prompts1", TSR__V_REGIONAL_PROMPTS, TSR__IN_MANY, 0, 0, 0, 0, NULL, NULL, NULL,
      "Regions; regional_prompts2, 3, ... take more." },
    TSR__END,
};

static tsr_status run_combine(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__value *first = tsr__arg(call->in, "regional_prompts1");
    tsr__value **all = NULL;
    int n = 0, total = first->n_parts;
    for (int i = 0; i < call->n_many; i++) total += call->many[i].value->n_parts;
    if (total > 4096) TSR_FAIL(err, TSR_TOO_LARGE, "%d regions are combined; 4096 are the most", total);
    TSR_ALLOC_ZERO(err, all, total + 1);
    for (int i = 0; i <= call->n_many; i++) { /* as the workflow names them, whatever their numbers */
        int at = i < call->many_before ? i : i - 1;
        const tsr__value *list = i == call->many_before ? first : call->many[at].value;
        for (int k = 0; k < list->n_parts; k++) all[n++] = list->parts[k];
    }
    TSR_TRY(tsr__value_parts(&call->results[0], TSR__V_REGIONAL_PROMPTS, NULL, all, n, err));
done:
    free(all);
    return status;
}

/* --- the samplers ----------------------------------------------------------------------------------------------------------------- */
/* keep's masks lie on the picture; the reference's may have any size. */
static tsr_status fit_mask(tsr_mask **out, const tsr_graph *graph, const tsr__value *mask, const tsr_latent *latent,
                           tsr_error *err) {
    const tsr_mask *given = NULL;
    int width = latent->shape[3] * 8, height = latent->shape[2] * 8;
    *out = NULL;
    tsr_status status = tsr__one_mask(&given, mask, "mask", err);
    if (status != TSR_OK) return status;
    if (graph->history == TSR_HISTORY_KEEP && (given->width != width || given->height != height))
        return tsr_mask_resize(out, given, width, height, err);
    return tsr_mask_copy(out, given, err);
}

typedef struct regions {
    tsr_region *items;
    tsr__sampler *own; /* [n] */
    tsr_mask **masks;
    int n;
} regions;

static void clear_regions(regions *r) {
    for (int i = 0; r->masks && i < r->n; i++) tsr_mask_free(r->masks[i]);
    free(r->masks);
    free(r->own);
    free(r->items);
}

static tsr_status open_regions(regions *r, tsr_graph *graph, const tsr__value *list, const tsr_latent *latent,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_ALLOC_ZERO(err, r->items, list->n_parts + 1);
    TSR_ALLOC_ZERO(err, r->masks, list->n_parts + 1);
    TSR_ALLOC_ZERO(err, r->own, list->n_parts + 1);
    r->n = list->n_parts;
    for (int i = 0; i < r->n; i++) {
        tsr__args in = tsr__record(list->parts[i]);
        TSR_TRY(open_region(&r->items[i], &r->own[i], graph, tsr__arg(in, "advanced_sampler"), err));
        TSR_TRY(fit_mask(&r->masks[i], graph, tsr__arg(in, "mask"), latent, err));
        r->items[i].mask = r->masks[i];
        r->items[i].variation_seed = tsr__arg_seed(in, "variation_seed");
        r->items[i].variation_strength = (float)tsr__arg_float(in, "variation_strength");
        r->items[i].variation_method =
            (tsr_variation_method)tsr_variation_method_find(tsr__arg_text(in, "variation_method"));
    }
done:
    return status;
}

static tsr_status run_plan(tsr__call *call, tsr_plan *plan, const tsr_latent *latent, tsr_error *err) {
    tsr_latent *result = NULL;
    tsr_status status = TSR_OK;
    for (int i = 0; status == TSR_OK && tsr_plan_warning(plan, i); i++)
        status = tsr__call_note(call, tsr_plan_warning(plan, i), err);
    if (status == TSR_OK) status = tsr_plan_run(&result, plan, latent, call->hooks, err);
    return status == TSR_OK ? tsr__value_take_latent(&call->results[0], result, err) : status;
}

static tsr_status sample_regions(tsr__call *call, const char *latent_name, tsr_regional_options *options,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *latent = tsr__arg(call->in, latent_name)->latent;
    tsr_region_base base;
    tsr__sampler own;
    regions r = { 0 };
    tsr_plan *plan = NULL;
    options->history = call->graph->history;
    options->allow_empty = 1;
    options->overlap = tsr__arg_int(call->in, "overlap_factor");
    options->restore_latent = tsr__arg_bool(call->in, "restore_latent");
    options->recovery_mode = (tsr_recovery_mode)tsr_recovery_mode_find(tsr__arg_text(call->in, "additional_mode"));
    options->recovery_sampler = tsr__arg_text(call->in, "additional_sampler");
    options->recovery_ratio = (float)tsr__arg_float(call->in, "additional_sigma_ratio");
    TSR_TRY(open_base(&base, &own, call->graph, tsr__arg(call->in, "base_sampler"), err));
    TSR_TRY(open_regions(&r, call->graph, tsr__arg(call->in, "regional_prompts"), latent, err));
    if (r.n > 0) {
        options->width = r.masks[0]->width;
        options->height = r.masks[0]->height;
    }
    TSR_TRY(tsr_plan_new(&plan, &base, r.items, r.n, options, latent->shape, err));
    TSR_TRY(run_plan(call, plan, latent, err));
done:
    tsr_plan_free(plan);
    clear_regions(&r);
    return status;
}

static const char *const seed_modes[] = { "ignore",    "fixed",     "seed+seed_2nd", "seed-seed_2nd",
                                          "increment", "decrement", "randomize",     NULL };
static const char *const recovery_modes[] = { "DISABLE", "ratio additional", "ratio between", NULL };
static const char *const recovery_samplers[] = { "AUTO",     "euler",    "heun", "heunpp2", "dpm_2",
                                                 "dpm_fast", "dpmpp_2m", "ddpm", NULL };
#define RECOVERY_INPUTS                                                                                                \
    TSR__COMBO("additional_mode", recovery_modes, "ratio between",                                                     \
               "What follows a step of an SDE or UniPC sampler: nothing, more denoising, or a share of the step's."),  \
        TSR__COMBO("additional_sampler", recovery_samplers, NULL, "By which sampler."),                                \
        TSR__FLOAT("additional_sigma_ratio", 0.3, 0.0, 1.0, 0.01, "How much.")
#define OVERLAP_DOC "Pixels by which region masks grow; with history keep the width of a soft border."
#define RESTORE_DOC "Put each region's result into the base's instead of going on with it; leave it on."

static const tsr__input regional_inputs[] = {
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__SEED("seed_2nd", 0, "Of the steps after the base-only ones, as seed_2nd_mode says."),
    TSR__COMBO("seed_2nd_mode", seed_modes, NULL, "ignore: noise is added once; else again after the base-only steps."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__INT("base_only_steps", 2, 0, 10000, "First steps that only the base takes."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "How much of the start is replaced."),
    TSR__LINK("samples", LATENT, "Where sampling starts."),
    TSR__LINK("base_sampler", KSAMPLER_ADVANCED, "What samples where no region is."),
    TSR__LINK("regional_prompts", REGIONAL_PROMPTS, "The regions."),
    TSR__INT("overlap_factor", 10, 0, 10000, OVERLAP_DOC),
    TSR__BOOL("restore_latent", 1, RESTORE_DOC),
    RECOVERY_INPUTS,
    TSR__END,
};

static tsr_status run_regional(tsr__call *call, tsr_error *err) {
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    options.system = TSR_SYSTEM_REGIONAL;
    options.seed = tsr__arg_seed(call->in, "seed");
    options.seed_2nd = tsr__arg_seed(call->in, "seed_2nd");
    options.seed_2nd_mode = (tsr_seed_2nd_mode)tsr_seed_2nd_mode_find(tsr__arg_text(call->in, "seed_2nd_mode"));
    options.steps = tsr__arg_int(call->in, "steps");
    options.base_only_steps = tsr__arg_int(call->in, "base_only_steps");
    options.denoise = tsr__arg_float(call->in, "denoise");
    return sample_regions(call, "samples", &options, err);
}

static const tsr__input regional_advanced_inputs[] = {
    TSR__BOOL("add_noise", 1, "Off: the latent carries its noise already."),
    TSR__SEED("noise_seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Steps of the whole schedule."),
    TSR__INT("start_at_step", 0, 0, 10000, "The first step that is taken, from 0."),
    TSR__INT("end_at_step", 10000, 0, 10000, "The step before which sampling ends."),
    TSR__INT("overlap_factor", 10, 0, 10000, OVERLAP_DOC),
    TSR__BOOL("restore_latent", 1, RESTORE_DOC),
    TSR__BOOL("return_with_leftover_noise", 0, "Off: the last step removes all noise."),
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__LINK("base_sampler", KSAMPLER_ADVANCED, "What samples where no region is."),
    TSR__LINK("regional_prompts", REGIONAL_PROMPTS, "The regions."),
    RECOVERY_INPUTS,
    TSR__END,
};

static tsr_status run_regional_advanced(tsr__call *call, tsr_error *err) {
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    options.system = TSR_SYSTEM_REGIONAL_ADVANCED;
    options.add_noise = tsr__arg_bool(call->in, "add_noise");
    options.seed = tsr__arg_seed(call->in, "noise_seed");
    options.steps = tsr__arg_int(call->in, "steps");
    options.start_step = tsr__arg_int(call->in, "start_at_step");
    options.end_step = tsr__arg_int(call->in, "end_at_step");
    options.leftover_noise = tsr__arg_bool(call->in, "return_with_leftover_noise");
    return sample_regions(call, "latent_image", &options, err);
}

static const tsr__input two_inputs[] = {
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__LINK("base_sampler", KSAMPLER, "What samples where the mask is not 1, first."),
    TSR__LINK("mask_sampler", KSAMPLER, "What samples under the mask, after that."),
    TSR__LINK("mask", MASK, "Where the second sampler paints."),
    TSR__END,
};

static tsr_status run_two(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *latent = tsr__arg(call->in, "latent_image")->latent;
    tsr_two_samplers_options options = TSR_TWO_SAMPLERS_OPTIONS_INIT;
    tsr_ksampler_provider base, inside;
    tsr_mask *mask = NULL;
    tsr_plan *plan = NULL;
    options.history = call->graph->history;
    TSR_TRY(tsr__provider(&base, call->graph, tsr__arg(call->in, "base_sampler"), err));
    TSR_TRY(tsr__provider(&inside, call->graph, tsr__arg(call->in, "mask_sampler"), err));
    TSR_TRY(fit_mask(&mask, call->graph, tsr__arg(call->in, "mask"), latent, err));
    TSR_TRY(tsr_two_samplers_plan(&plan, &base, &inside, mask, &options, latent->shape, err));
    TSR_TRY(run_plan(call, plan, latent, err));
done:
    tsr_plan_free(plan);
    tsr_mask_free(mask);
    return status;
}

static const tsr__input two_advanced_inputs[] = {
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "How much of the start is replaced."),
    TSR__LINK("samples", LATENT, "Where sampling starts."),
    TSR__LINK("base_sampler", KSAMPLER_ADVANCED, "What samples where the mask is not 1."),
    TSR__LINK("mask_sampler", KSAMPLER_ADVANCED, "What samples under the mask, after each base step."),
    TSR__LINK("mask", MASK, "Where the second sampler paints."),
    TSR__INT("overlap_factor", 10, 0, 10000,
             "Latent pixels by which the mask grows; with history keep the width of a soft border."),
    TSR__END,
};

static tsr_status run_two_advanced(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_latent *latent = tsr__arg(call->in, "samples")->latent;
    tsr_two_advanced_options options = TSR_TWO_ADVANCED_OPTIONS_INIT;
    tsr_region_base base;
    tsr_region inside;
    tsr__sampler own[2];
    tsr_mask *mask = NULL;
    tsr_plan *plan = NULL;
    options.history = call->graph->history;
    options.steps = tsr__arg_int(call->in, "steps");
    options.seed = tsr__arg_seed(call->in, "seed");
    options.denoise = tsr__arg_float(call->in, "denoise");
    options.overlap_factor = tsr__arg_int(call->in, "overlap_factor");
    TSR_TRY(open_base(&base, &own[0], call->graph, tsr__arg(call->in, "base_sampler"), err));
    TSR_TRY(open_region(&inside, &own[1], call->graph, tsr__arg(call->in, "mask_sampler"), err));
    TSR_TRY(fit_mask(&mask, call->graph, tsr__arg(call->in, "mask"), latent, err));
    inside.mask = mask;
    TSR_TRY(tsr_two_advanced_plan(&plan, &base, &inside, &options, latent->shape, err));
    TSR_TRY(run_plan(call, plan, latent, err));
done:
    tsr_plan_free(plan);
    tsr_mask_free(mask);
    return status;
}

#define GIVES(type)                                                                                                    \
    {                                                                                                                  \
        { #type, TSR__V_##type }                                                                                       \
    }
#define PIPE_OUTPUTS                                                                                                   \
    { "model", TSR__V_MODEL }, { "clip", TSR__V_CLIP }, { "vae", TSR__V_VAE }, { "positive", TSR__V_CONDITIONING }, {  \
        "negative", TSR__V_CONDITIONING                                                                                \
    }
static const tsr__node rows[] = {
    { "ToBasicPipe", "ToBasicPipe", "ImpactPack/Pipe", pipe_inputs, GIVES(BASIC_PIPE), 0, tsr__run_record,
      "Model, text encoder, VAE and conditionings in one link." },
    { "FromBasicPipe",
      "FromBasicPipe",
      "ImpactPack/Pipe",
      from_pipe_inputs,
      { PIPE_OUTPUTS },
      0,
      run_from_pipe,
      "What a pipe holds." },
    { "FromBasicPipe_v2",
      "FromBasicPipe_v2",
      "ImpactPack/Pipe",
      from_pipe_inputs,
      { { "basic_pipe", TSR__V_BASIC_PIPE }, PIPE_OUTPUTS },
      0,
      run_from_pipe_v2,
      "A pipe and what it holds." },
    { "EditBasicPipe", "Edit BasicPipe", "ImpactPack/Pipe", edit_pipe_inputs, GIVES(BASIC_PIPE), 0, run_edit_pipe,
      "A pipe with parts replaced." },
    { "KSamplerProvider", "KSamplerProvider", "ImpactPack/Sampler", provider_inputs, GIVES(KSAMPLER), 0,
      tsr__run_record, "A whole sampling run, to be used by another node." },
    { "KSamplerAdvancedProvider", "KSamplerAdvancedProvider", "ImpactPack/Sampler", advanced_provider_inputs,
      GIVES(KSAMPLER_ADVANCED), 0, tsr__run_record, "A sampler that another node runs step by step." },
    { "RegionalPrompt", "RegionalPrompt", "ImpactPack/Regional", region_inputs, GIVES(REGIONAL_PROMPTS), 0, run_region,
      "A region: a mask, and how it is sampled." },
    { "CombineRegionalPrompts", "CombineRegionalPrompts", "ImpactPack/Regional", combine_inputs,
      GIVES(REGIONAL_PROMPTS), 0, run_combine, "Several regions in one link, in order." },
    { "RegionalSampler", "RegionalSampler", "ImpactPack/Regional", regional_inputs, GIVES(LATENT), 0, run_regional,
      "A base and regions, each with its own prompt, model, guidance and sampler, step by step." },
    { "RegionalSamplerAdvanced", "RegionalSamplerAdvanced", "ImpactPack/Regional", regional_advanced_inputs,
      GIVES(LATENT), 0, run_regional_advanced, "The same on a part of the steps, with noise variation per region." },
    { "TwoSamplersForMask", "TwoSamplersForMask", "ImpactPack/Sampler", two_inputs, GIVES(LATENT), 0, run_two,
      "A whole run outside a mask, then a whole run inside." },
    { "TwoAdvancedSamplersForMask", "TwoAdvancedSamplersForMask", "ImpactPack/Sampler", two_advanced_inputs,
      GIVES(LATENT), 0, run_two_advanced, "Two samplers that take turns every step, outside and inside a grown mask." },
};
const tsr__node_group tsr__nodes_impact = { rows, sizeof rows / sizeof *rows, "custom_nodes.ComfyUI-Impact-Pack" };
