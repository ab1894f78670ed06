/* graph/nodes_sampling.c - KSampler and KSamplerAdvanced. */
#include <string.h>

#include "graph/graph_priv.h"

#define CFG_DOC       "Guidance: 1 follows the prompt only, more exaggerates it against the negative."
#define SAMPLER_DOC   "`tessera samplers` lists them."
#define SCHEDULER_DOC "`tessera schedulers` lists them."

static const tsr__input ksampler_inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, CFG_DOC),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", SAMPLER_DOC),
    TSR__COMBO_FROM("scheduler", tsr__choices_schedulers, "normal", SCHEDULER_DOC),
    TSR__LINK("positive", CONDITIONING, "What shall be seen."),
    TSR__LINK("negative", CONDITIONING, "What shall not be seen."),
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "How much of the start is replaced: 1 = all of it."),
    TSR__END,
};

static tsr_status guide_of(tsr_guide *out, tsr__call *call, tsr_error *err) {
    return tsr__slot_guide(out, call->graph, tsr__arg(call->in, "model"), tsr__arg(call->in, "positive"),
                           tsr__arg(call->in, "negative"), tsr__arg_float(call->in, "cfg"), err);
}

static tsr_status run_ksampler(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_guide guide;
    tsr_latent *result = NULL;
    TSR_TRY(guide_of(&guide, call, err));
    options.sampler = tsr__arg_text(call->in, "sampler_name");
    options.scheduler = tsr__arg_text(call->in, "scheduler");
    options.steps = tsr__arg_int(call->in, "steps");
    options.denoise = tsr__arg_float(call->in, "denoise");
    options.seed = tsr__arg_seed(call->in, "seed");
    options.hooks = call->hooks;
    TSR_TRY(tsr_ksampler(&result, tsr__arg(call->in, "latent_image")->latent, &guide, &options, err));
    TSR_TRY(tsr__value_take_latent(&call->results[0], result, err));
done:
    return status;
}

static const char *const switches[] = { "enable", "disable", NULL };
static const char *const returns[] = { "disable", "enable", NULL };
static const tsr__input advanced_inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__COMBO("add_noise", switches, NULL, "disable: the latent carries its noise already."),
    TSR__SEED("noise_seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Steps of the whole schedule."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, CFG_DOC),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", SAMPLER_DOC),
    TSR__COMBO_FROM("scheduler", tsr__choices_schedulers, "normal", SCHEDULER_DOC),
    TSR__LINK("positive", CONDITIONING, "What shall be seen."),
    TSR__LINK("negative", CONDITIONING, "What shall not be seen."),
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__INT("start_at_step", 0, 0, 10000, "The first step that is taken, from 0."),
    TSR__INT("end_at_step", 10000, 0, 10000, "The step before which sampling ends."),
    TSR__COMBO("return_with_leftover_noise", returns, NULL, "disable: the last step removes all noise."),
    TSR__END,
};

static int is_enabled(tsr__call *call, const char *name) {
    return strcmp(tsr__arg_text(call->in, name), "enable") == 0;
}

static tsr_status run_advanced(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_ksampler_advanced_options options = TSR_KSAMPLER_ADVANCED_OPTIONS_INIT;
    tsr_guide guide;
    tsr_latent *result = NULL;
    TSR_TRY(guide_of(&guide, call, err));
    options.sampler = tsr__arg_text(call->in, "sampler_name");
    options.scheduler = tsr__arg_text(call->in, "scheduler");
    options.steps = tsr__arg_int(call->in, "steps");
    options.start_step = tsr__arg_int(call->in, "start_at_step");
    options.end_step = tsr__arg_int(call->in, "end_at_step");
    options.seed = tsr__arg_seed(call->in, "noise_seed");
    options.add_noise = is_enabled(call, "add_noise");
    options.leftover_noise = is_enabled(call, "return_with_leftover_noise");
    options.hooks = call->hooks;
    TSR_TRY(tsr_ksampler_advanced(&result, tsr__arg(call->in, "latent_image")->latent, &guide, &options, err));
    TSR_TRY(tsr__value_take_latent(&call->results[0], result, err));
done:
    return status;
}

static const tsr__node rows[] = {
    { "KSampler",
      "KSampler",
      "sampling",
      ksampler_inputs,
      { { "LATENT", TSR__V_LATENT } },
      0,
      run_ksampler,
      "Samples a latent: the plain run." },
    { "KSamplerAdvanced",
      "KSampler (Advanced)",
      "sampling",
      advanced_inputs,
      { { "LATENT", TSR__V_LATENT } },
      0,
      run_advanced,
      "Samples a part of the steps." },
};
const tsr__node_group tsr__nodes_sampling = { rows, sizeof rows / sizeof *rows, "nodes" };
