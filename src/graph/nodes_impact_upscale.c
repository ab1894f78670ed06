/* graph/nodes_impact_upscale.c - the Impact Pack's iterative upscale: upscaler providers, hooks, and what runs them.
 *
 * Providers keep their inputs; only the iterative nodes make upscale/'s structures of them, for the time of one run. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "upscale/masked_upscaler.h"

/* --- hooks ------------------------------------------------------------------------------------------------------------------ */
static const char *const schedules[] = { "simple", NULL };
#define SCHEDULE TSR__COMBO("schedule_for_iteration", schedules, NULL, "How it moves: evenly.")

static const tsr__input cfg_hook_inputs[] = {
    SCHEDULE,
    TSR__FLOAT("target_cfg", 3.0, 0.0, 100.0, 0.1, "Guidance of the last upscale step."),
    TSR__END,
};
static const tsr__input denoise_hook_inputs[] = {
    SCHEDULE,
    TSR__FLOAT("target_denoise", 0.2, 0.0, 1.0, 0.01, "Denoise of the last upscale step."),
    TSR__END,
};
static const tsr__input steps_hook_inputs[] = {
    SCHEDULE,
    TSR__INT("target_steps", 20, 1, 10000, "Sampling steps of the last upscale step."),
    TSR__END,
};

static const char *const noise_sources[] = { "CPU", "GPU", NULL };
static const tsr__input noise_hook_inputs[] = {
    SCHEDULE,
    TSR__COMBO("source", noise_sources, NULL, "Whose random numbers; the GPU's are not to be had here."),
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__FLOAT("start_strength", 2.0, 0.0, 200.0, 0.01, "In the first upscale step."),
    TSR__FLOAT("end_strength", 1.0, 0.0, 200.0, 0.01, "In the last upscale step."),
    TSR__END,
};

static const char *const switches[] = { "disable", "enable", NULL };
static const tsr__input unsampler_hook_inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__INT("steps", 25, 1, 10000, "Steps of the schedule that is walked backwards."),
    TSR__INT("start_end_at_step", 21, 0, 10000, "Where it ends in the first upscale step."),
    TSR__INT("end_end_at_step", 24, 0, 10000, "Where it ends in the last one."),
    TSR__FLOAT("cfg", 1.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "A sampler that adds no noise."),
    TSR__COMBO_FROM("scheduler", tsr__choices_schedulers, "normal", "The scheduler."),
    TSR__COMBO("normalize", switches, NULL, "enable: the result gets mean 0 and deviation 1."),
    TSR__LINK("positive", CONDITIONING, "What the picture shows."),
    TSR__LINK("negative", CONDITIONING, "What it does not show."),
    SCHEDULE,
    TSR__END,
};

static const tsr__input combine_hook_inputs[] = {
    TSR__LINK("hook1", PK_HOOK, "Acts first."),
    TSR__LINK("hook2", PK_HOOK, "Acts on what the first left."),
    TSR__END,
};

enum { MAX_HOOKS = 64 };

/* Everything one iterative run is made of. */
typedef struct built {
    tsr_graph *graph;
    const tsr__value *vae_value;
    tsr__vae_table vae;
    tsr__pixel_model_table model;
    tsr__upscale_model *network;
    tsr__hook hooks[MAX_HOOKS];
    int n_hooks;
    tsr_ksampler_provider full;
    tsr__pixel_upscaler pixel;
    tsr__masked_upscaler masked;
    tsr__upscaler table;
} built;

static tsr_status fill_unsampler(tsr__hook *hook, built *b, tsr__args in, tsr_error *err) {
    hook->kind = TSR__HOOK_UNSAMPLE;
    hook->unsample.sampler = tsr__arg_text(in, "sampler_name");
    hook->unsample.scheduler = tsr__arg_text(in, "scheduler");
    hook->unsample.steps = tsr__arg_int(in, "steps");
    hook->unsample.start_end_at_step = tsr__arg_int(in, "start_end_at_step");
    hook->unsample.end_end_at_step = tsr__arg_int(in, "end_end_at_step");
    hook->unsample.normalize = strcmp(tsr__arg_text(in, "normalize"), "enable") == 0;
    return tsr__slot_guide(&hook->unsample.guide, b->graph, tsr__arg(in, "model"), tsr__arg(in, "positive"),
                           tsr__arg(in, "negative"), tsr__arg_float(in, "cfg"), err);
}

static void fill_noise(tsr__hook *hook, tsr__args in) {
    hook->kind = TSR__HOOK_NOISE;
    hook->noise.source = tsr__arg_text(in, "source");
    hook->noise.seed = tsr__arg_seed(in, "seed");
    hook->noise.start_strength = tsr__arg_float(in, "start_strength");
    hook->noise.end_strength = tsr__arg_float(in, "end_strength");
}

static void fill_target(tsr__hook *hook, tsr__hook_kind kind, double target) {
    hook->kind = kind;
    hook->target = target;
}

static tsr_status build_hook(const tsr__hook **out, built *b, const tsr__value *value, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    if (!value) return TSR_OK;
    if (b->n_hooks == MAX_HOOKS) return tsr__fail(err, TSR_TOO_LARGE, "more than %d hooks are combined", MAX_HOOKS);
    tsr__hook *hook = &b->hooks[b->n_hooks++];
    tsr__args in = tsr__record(value);
    if (in.row->inputs == combine_hook_inputs) {
        hook->kind = TSR__HOOK_COMBINE;
        TSR_TRY(build_hook(&hook->first, b, tsr__arg(in, "hook1"), err));
        TSR_TRY(build_hook(&hook->second, b, tsr__arg(in, "hook2"), err));
    } else if (in.row->inputs == unsampler_hook_inputs) {
        TSR_TRY(fill_unsampler(hook, b, in, err));
    } else if (in.row->inputs == noise_hook_inputs) {
        fill_noise(hook, in);
    } else if (in.row->inputs == cfg_hook_inputs) {
        fill_target(hook, TSR__HOOK_CFG, tsr__arg_float(in, "target_cfg"));
    } else if (in.row->inputs == denoise_hook_inputs) {
        fill_target(hook, TSR__HOOK_DENOISE, tsr__arg_float(in, "target_denoise"));
    } else {
        fill_target(hook, TSR__HOOK_STEPS, tsr__arg_int(in, "target_steps"));
    }
    TSR_TRY(tsr__hook_check(hook, err));
    *out = hook;
done:
    return status;
}

/* --- providers ---------------------------------------------------------------------------------------------------------------- */
static const char *const methods[] = { "nearest-exact", "bilinear", "lanczos", "area", NULL };
static const char *const full_schedules[] = {
    "none",  "interleave1",       "interleave2",       "interleave3",       "last1",
    "last2", "interleave1+last1", "interleave2+last1", "interleave3+last1", NULL
};
#define TILE_SIZE     TSR__INT_STEP("tile_size", 512, 320, 4096, 64, "Side of a tile in pixels.")
#define USE_TILED_VAE TSR__BOOL("use_tiled_vae", 0, "Decode and encode tile by tile, in less memory.")
#define MODEL_OPT     TSR__LINK_OPT("upscale_model_opt", UPSCALE_MODEL, "Enlarges the pixels before they are scaled down.")

static const tsr__input pixel_inputs[] = {
    TSR__COMBO("scale_method", methods, NULL, "How pixels between are found."),
    TSR__LINK("model", MODEL, "The network."),
    TSR__LINK("vae", VAE, "The VAE."),
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps of each upscale step."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),
    TSR__COMBO_FROM("scheduler", tsr__choices_impact_schedulers, "normal", "The scheduler."),
    TSR__LINK("positive", CONDITIONING, "What shall be seen."),
    TSR__LINK("negative", CONDITIONING, "What shall not be seen."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "How much of the picture is replaced."),
    USE_TILED_VAE,
    TILE_SIZE,
    MODEL_OPT,
    TSR__LINK_OPT("pk_hook_opt", PK_HOOK, "Changes settings from step to step."),
    TSR__END,
};

static const tsr__input pixel_pipe_inputs[] = {
    TSR__COMBO("scale_method", methods, NULL, "How pixels between are found."),
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps of each upscale step."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),
    TSR__COMBO_FROM("scheduler", tsr__choices_impact_schedulers, "normal", "The scheduler."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "How much of the picture is replaced."),
    USE_TILED_VAE,
    TSR__LINK("basic_pipe", BASIC_PIPE, "Model, VAE and conditionings."),
    TILE_SIZE,
    MODEL_OPT,
    TSR__LINK_OPT("pk_hook_opt", PK_HOOK, "Changes settings from step to step."),
    TSR__END,
};

#define MASKED_INPUTS(source)                                                                                          \
    TSR__COMBO("scale_method", methods, NULL, "How pixels between are found."),                                        \
        TSR__COMBO("full_sample_schedule", full_schedules, NULL,                                                       \
                   "In which upscale steps everything is sampled once."),                                              \
        USE_TILED_VAE, TSR__LINK("base_sampler", KSAMPLER, "What samples where the mask is not 1."),                   \
        TSR__LINK("mask_sampler", KSAMPLER, "What samples under the mask."),                                           \
        TSR__LINK("mask", MASK, "Where the second sampler paints."), source, TILE_SIZE,                                \
        TSR__LINK_OPT("full_sampler_opt", KSAMPLER, "What samples everything; without it base_sampler."), MODEL_OPT,   \
        TSR__LINK_OPT("pk_hook_base_opt", PK_HOOK, "Changes base_sampler from step to step."),                         \
        TSR__LINK_OPT("pk_hook_mask_opt", PK_HOOK, "Changes mask_sampler from step to step."),                         \
        TSR__LINK_OPT("pk_hook_full_opt", PK_HOOK, "Changes full_sampler_opt from step to step.")
static const tsr__input masked_inputs[] = { MASKED_INPUTS(TSR__LINK("vae", VAE, "The VAE.")), TSR__END };
static const tsr__input masked_pipe_inputs[] = {
    MASKED_INPUTS(TSR__LINK("basic_pipe", BASIC_PIPE, "Whose VAE is taken.")),
    TSR__END,
};

static int has_pipe(tsr__args in) {
    return in.row->inputs == pixel_pipe_inputs || in.row->inputs == masked_pipe_inputs;
}

static tsr__value *vae_of(tsr__args in) {
    return has_pipe(in) ? tsr__arg(tsr__record(tsr__arg(in, "basic_pipe")), "vae") : tsr__arg(in, "vae");
}

/* --- from providers to upscale/ ------------------------------------------------------------------------------------------------ */
static tsr_status decode(void *user, float *rgb, const float *latent, int n, int h, int w, int tile_px,
                         tsr_error *err) {
    const built *b = user;
    tsr_latent *whole = NULL;
    tsr__value *pictures = NULL;
    tsr_status status = tsr_latent_new(&whole, n, b->vae.channels, h, w, err);
    if (status == TSR_OK) {
        memcpy(whole->values, latent, tsr_latent_count(whole) * sizeof *latent);
        status = tsr__decode(&pictures, b->graph, b->vae_value, whole, tile_px, err);
    }
    if (status == TSR_OK) {
        const tsr__pictures *p = &pictures->pictures;
        memcpy(rgb, p->values, (size_t)p->n * (size_t)p->h * (size_t)p->w * 3 * sizeof *rgb);
    }
    tsr_latent_free(whole);
    tsr__value_unref(pictures);
    return status;
}

static tsr_status encode(void *user, float *latent, const float *rgb, int n, int height, int width, int tile_px,
                         tsr_error *err) {
    const built *b = user;
    tsr_latent *whole = NULL;
    const tsr__pictures pictures = { n, height, width, 3, (float *)(uintptr_t)rgb };
    tsr_status status = tsr__encode(&whole, b->graph, b->vae_value, &pictures, tile_px, err);
    if (status == TSR_OK) memcpy(latent, whole->values, tsr_latent_count(whole) * sizeof *latent);
    tsr_latent_free(whole);
    return status;
}

static tsr_status enlarge(void *user, float *out, const float *rgb, int n, int height, int width, tsr_error *err) {
    const built *b = user;
    return tsr__upscale_pictures(b->network, b->graph, out, rgb, n, height, width, err);
}

static tsr_status build_path(tsr__pixel_path *path, built *b, tsr__args in, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    const tsr__value *model = tsr__arg(in, "upscale_model_opt");
    b->vae_value = vae_of(in);
    TSR_TRY(tsr__slot_engine(&engine, b->graph, b->vae_value->slot, err));
    TSR_TRY(tsr__engine_need_vae(engine, err));
    tsr__vae_table vae = { b, tsr__vae_latent_channels(engine->vae), decode, encode };
    b->vae = vae;
    path->vae = &b->vae;
    if (model) {
        b->network = tsr__value_upscale_model(model);
        tsr__pixel_model_table table = { b, tsr__upscale_model_scale(b->network), enlarge };
        b->model = table;
        path->model = &b->model;
    }
    path->tile_px = tsr__arg_bool(in, "use_tiled_vae") ? tsr__arg_int(in, "tile_size") : 0;
    TSR_TRY(tsr_resize_method_parse(&path->method, tsr__arg_text(in, "scale_method"), err));
done:
    return status;
}

static tsr_status build_pixel(built *b, tsr__args in, tsr_error *err) {
    tsr_status status = TSR_OK;
    static const tsr_ksampler_provider defaults = TSR_KSAMPLER_PROVIDER_INIT;
    tsr_ksampler_provider *sampler = &b->pixel.sampler;
    tsr__args parts = has_pipe(in) ? tsr__record(tsr__arg(in, "basic_pipe")) : in;
    *sampler = defaults;
    sampler->sampler = tsr__arg_text(in, "sampler_name");
    sampler->scheduler = tsr__arg_text(in, "scheduler");
    sampler->seed = tsr__arg_seed(in, "seed");
    sampler->steps = tsr__arg_int(in, "steps");
    sampler->denoise = tsr__arg_float(in, "denoise");
    TSR_TRY(tsr__slot_guide(&sampler->guide, b->graph, tsr__arg(parts, "model"), tsr__arg(parts, "positive"),
                            tsr__arg(parts, "negative"), tsr__arg_float(in, "cfg"), err));
    TSR_TRY(build_path(&b->pixel.path, b, in, err));
    TSR_TRY(build_hook(&b->pixel.hook, b, tsr__arg(in, "pk_hook_opt"), err));
    tsr__pixel_upscaler_table(&b->table, &b->pixel);
done:
    return status;
}

static tsr_status build_masked(built *b, tsr__args in, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__masked_upscaler *m = &b->masked;
    const tsr__value *full = tsr__arg(in, "full_sampler_opt");
    m->keep = b->graph->history == TSR_HISTORY_KEEP;
    m->schedule = (tsr__full_schedule)tsr__full_schedule_find(tsr__arg_text(in, "full_sample_schedule"));
    TSR_TRY(tsr__provider(&m->base, b->graph, tsr__arg(in, "base_sampler"), err));
    TSR_TRY(tsr__provider(&m->inside, b->graph, tsr__arg(in, "mask_sampler"), err));
    if (full) {
        TSR_TRY(tsr__provider(&b->full, b->graph, full, err));
        m->full = &b->full;
    }
    TSR_TRY(tsr__one_mask(&m->mask, tsr__arg(in, "mask"), "mask", err));
    TSR_TRY(build_path(&m->path, b, in, err));
    TSR_TRY(build_hook(&m->hook_base, b, tsr__arg(in, "pk_hook_base_opt"), err));
    TSR_TRY(build_hook(&m->hook_mask, b, tsr__arg(in, "pk_hook_mask_opt"), err));
    TSR_TRY(build_hook(&m->hook_full, b, tsr__arg(in, "pk_hook_full_opt"), err));
    tsr__masked_upscaler_table(&b->table, m);
done:
    return status;
}

static tsr_status build(built **out, tsr_graph *graph, const tsr__value *upscaler, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__args in = tsr__record(upscaler);
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, 1);
    (*out)->graph = graph;
    int pixel = in.row->inputs == pixel_inputs || in.row->inputs == pixel_pipe_inputs;
    TSR_TRY(pixel ? build_pixel(*out, in, err) : build_masked(*out, in, err));
done:
    return status;
}

/* --- the runs ----------------------------------------------------------------------------------------------------------------- */
static const char *const step_modes[] = { "simple", "geometric", NULL };
#define ITERATIVE_INPUTS                                                                                               \
    TSR__FLOAT("upscale_factor", 1.5, 1.0, 10000.0, 0.1, "Of both sides, in the end."),                                \
        TSR__INT("steps", 3, 1, 10000, "Upscale steps."), TSR__STRING("temp_prefix", 0, "", "Not read."),              \
        TSR__LINK("upscaler", UPSCALER, "What makes each step.")
#define STEP_MODE TSR__COMBO("step_mode", step_modes, "simple", "simple: equal sums; geometric: equal factors.")

static const tsr__input latent_inputs[] = {
    TSR__LINK("samples", LATENT, "The latent."),
    ITERATIVE_INPUTS,
    STEP_MODE,
    TSR__END,
};

static tsr__iterative_options options_of(tsr__call *call) {
    tsr__iterative_options options = { tsr__arg_float(call->in, "upscale_factor"), tsr__arg_int(call->in, "steps"),
                                       strcmp(tsr__arg_text(call->in, "step_mode"), "geometric") == 0, call->hooks };
    return options;
}

static tsr_status run_latent(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__value *upscaler = tsr__arg(call->in, "upscaler");
    tsr__iterative_options options = options_of(call);
    tsr_latent *result = NULL;
    built *b = NULL;
    TSR_TRY(build(&b, call->graph, upscaler, err));
    TSR_TRY(tsr__iterative_latent(&result, tsr__arg(call->in, "samples")->latent, &b->table, &options, err));
    TSR_TRY(tsr__value_take_latent(&call->results[0], result, err));
    call->results[1] = tsr__value_ref(vae_of(tsr__record(upscaler)));
done:
    free(b);
    return status;
}

static const tsr__input image_inputs[] = {
    TSR__LINK("pixels", IMAGE, "The pictures."),
    ITERATIVE_INPUTS,
    TSR__LINK("vae", VAE, "Encodes the pictures first and decodes them last."),
    STEP_MODE,
    TSR__END,
};

static tsr_status run_image(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *p = &tsr__arg(call->in, "pixels")->pictures;
    tsr__iterative_options options = options_of(call);
    built *b = NULL, *ends = NULL;
    float *rgb = NULL;
    int width = 0, height = 0;
    tsr_engine *engine = NULL;
    TSR_TRY(build(&b, call->graph, tsr__arg(call->in, "upscaler"), err));
    TSR_ALLOC_ZERO(err, ends, 1);
    ends->graph = call->graph;
    ends->vae_value = tsr__arg(call->in, "vae");
    TSR_TRY(tsr__slot_engine(&engine, call->graph, ends->vae_value->slot, err));
    TSR_TRY(tsr__engine_need_vae(engine, err));
    tsr__vae_table vae = { ends, tsr__vae_latent_channels(engine->vae), decode, encode };
    ends->vae = vae;
    if (p->c != 3) TSR_FAIL(err, TSR_BAD_ARGUMENT, "pixels: %d channels; 3 are wanted", p->c);
    TSR_TRY(
        tsr__iterative_image(&rgb, &width, &height, p->values, p->n, p->w, p->h, &ends->vae, &b->table, &options, err));
    TSR_TRY(tsr__value_pictures(&call->results[0], p->n, height, width, 3, err));
    memcpy(call->results[0]->pictures.values, rgb, (size_t)p->n * (size_t)height * (size_t)width * 3 * sizeof *rgb);
done:
    free(rgb);
    free(b);
    free(ends);
    return status;
}

#define GIVES(type)                                                                                                    \
    {                                                                                                                  \
        { #type, TSR__V_##type }                                                                                       \
    }
static const tsr__node rows[] = {
    { "PixelKSampleUpscalerProvider", "PixelKSampleUpscalerProvider", "ImpactPack/Upscale", pixel_inputs,
      GIVES(UPSCALER), 0, tsr__run_record, "An upscale step with one sampler." },
    { "PixelKSampleUpscalerProviderPipe", "PixelKSampleUpscalerProviderPipe", "ImpactPack/Upscale", pixel_pipe_inputs,
      GIVES(UPSCALER), 0, tsr__run_record, "An upscale step with one sampler, from a pipe." },
    { "TwoSamplersForMaskUpscalerProvider", "TwoSamplersForMask Upscaler Provider", "ImpactPack/Upscale", masked_inputs,
      GIVES(UPSCALER), 0, tsr__run_record, "An upscale step with one sampler outside a mask and one inside." },
    { "TwoSamplersForMaskUpscalerProviderPipe", "TwoSamplersForMask Upscaler Provider (pipe)", "ImpactPack/Upscale",
      masked_pipe_inputs, GIVES(UPSCALER), 0, tsr__run_record,
      "An upscale step with one sampler outside a mask and one inside, from a pipe." },
    { "IterativeLatentUpscale",
      "Iterative Upscale (Latent/on Pixel Space)",
      "ImpactPack/Upscale",
      latent_inputs,
      { { "latent", TSR__V_LATENT }, { "vae", TSR__V_VAE } },
      0,
      run_latent,
      "Makes a latent larger in several steps, each of which samples it again." },
    { "IterativeImageUpscale",
      "Iterative Upscale (Image)",
      "ImpactPack/Upscale",
      image_inputs,
      { { "image", TSR__V_IMAGE } },
      0,
      run_image,
      "Makes pictures larger in several steps, each of which samples them again." },
    { "CfgScheduleHookProvider", "CfgScheduleHookProvider", "ImpactPack/Upscale", cfg_hook_inputs, GIVES(PK_HOOK), 0,
      tsr__run_record, "Moves the guidance from step to step." },
    { "DenoiseScheduleHookProvider", "DenoiseScheduleHookProvider", "ImpactPack/Upscale", denoise_hook_inputs,
      GIVES(PK_HOOK), 0, tsr__run_record, "Moves the denoise from step to step." },
    { "StepsScheduleHookProvider", "StepsScheduleHookProvider", "ImpactPack/Upscale", steps_hook_inputs, GIVES(PK_HOOK),
      0, tsr__run_record, "Moves the number of sampling steps from step to step." },
    { "NoiseInjectionHookProvider", "NoiseInjectionHookProvider", "ImpactPack/Upscale", noise_hook_inputs,
      GIVES(PK_HOOK), 0, tsr__run_record, "Adds noise before each sampling." },
    { "UnsamplerHookProvider", "UnsamplerHookProvider", "ImpactPack/Upscale", unsampler_hook_inputs, GIVES(PK_HOOK), 0,
      tsr__run_record, "Walks back towards noise before each sampling." },
    { "PixelKSampleHookCombine", "PixelKSampleHookCombine", "ImpactPack/Upscale", combine_hook_inputs, GIVES(PK_HOOK),
      0, tsr__run_record, "Two hooks, one after the other." },
};
const tsr__node_group tsr__nodes_impact_upscale = { rows, sizeof rows / sizeof *rows,
                                                    "custom_nodes.ComfyUI-Impact-Pack" };
