/* graph/nodes_custom_sampling.c - ComfyUI's sampler in parts: noise, sampler, guider, and what runs them. The sigmas are
 * nodes_sigmas.c's. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* --- parts -------------------------------------------------------------------------------------------------------------------- */
static const tsr__input select_inputs[] = {
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),
    TSR__END,
};
static const tsr__input noise_inputs[] = {
    TSR__SEED("noise_seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__END,
};
static const tsr__input no_inputs[] = { TSR__END };
static const tsr__input guider_inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__LINK("positive", CONDITIONING, "What shall be seen."),
    TSR__LINK("negative", CONDITIONING, "What shall not be seen."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__END,
};
static const tsr__input basic_guider_inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__LINK("conditioning", CONDITIONING, "What shall be seen."),
    TSR__END,
};

/* --- runs --------------------------------------------------------------------------------------------------------------------- */
/* Keeps the newest prediction of the clean latent on its way to the caller's hooks. */
typedef struct watch {
    const tsr_run_hooks *next;
    tsr_latent *x0;
    int seen;
} watch;

static int on_progress(void *user, const tsr_progress *progress) {
    watch *w = user;
    if (progress->x0 && progress->event == TSR_PROGRESS_STEP) {
        w->seen = 1;
        memcpy(w->x0->values, progress->x0, tsr_latent_count(w->x0) * sizeof *w->x0->values);
    }
    return w->next->progress(w->next->user, progress);
}

static tsr_status sample(tsr__call *call, const tsr_guide *guide, const tsr_latent *latent, uint64_t seed,
                         int add_noise, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sample_options options = TSR_SAMPLE_OPTIONS_INIT;
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    watch w = { call->hooks, NULL, 0 };
    tsr_latent *result = NULL;
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    tsr__sampler sampler;
    TSR_TRY(tsr__sampler_of(&sampler, tsr__arg(call->in, "sampler"), err));
    TSR_TRY(tsr_latent_copy(&w.x0, latent, err));
    hooks.user = &w;
    hooks.progress = on_progress;
    options.sampler = sampler.name;
    options.solver = &sampler.options;
    options.sigmas = sigmas->sigmas;
    options.n_sigmas = sigmas->n_sigmas;
    options.seed = seed;
    options.add_noise = add_noise;
    options.hooks = &hooks;
    TSR_TRY(tsr_sample(&result, latent, guide, &options, err));
    TSR_TRY(tsr__value_take_latent(&call->results[0], result, err));
    if (!w.seen) { /* no step: nothing was predicted */
        status = tsr__give(call, 1, tsr__value_ref(call->results[0]), TSR_OK);
        goto done;
    }
    status = tsr__value_take_latent(&call->results[1], w.x0, err);
    w.x0 = NULL;
done:
    tsr_latent_free(w.x0);
    return status;
}

static const tsr__input custom_inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__BOOL("add_noise", 1, "Off: the latent carries its noise already."),
    TSR__SEED("noise_seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__LINK("positive", CONDITIONING, "What shall be seen."),
    TSR__LINK("negative", CONDITIONING, "What shall not be seen."),
    TSR__LINK("sampler", SAMPLER, "The sampler."),
    TSR__LINK("sigmas", SIGMAS, "The sigmas."),
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__END,
};

static tsr_status run_custom(tsr__call *call, tsr_error *err) {
    tsr_guide guide;
    tsr_status status =
        tsr__slot_guide(&guide, call->graph, tsr__arg(call->in, "model"), tsr__arg(call->in, "positive"),
                        tsr__arg(call->in, "negative"), tsr__arg_float(call->in, "cfg"), err);
    if (status != TSR_OK) return status;
    return sample(call, &guide, tsr__arg(call->in, "latent_image")->latent, tsr__arg_seed(call->in, "noise_seed"),
                  tsr__arg_bool(call->in, "add_noise"), err);
}

static const tsr__input custom_advanced_inputs[] = {
    TSR__LINK("noise", NOISE, "The noise."),
    TSR__LINK("guider", GUIDER, "Model and conditionings."),
    TSR__LINK("sampler", SAMPLER, "The sampler."),
    TSR__LINK("sigmas", SIGMAS, "The sigmas."),
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__END,
};

static tsr_status guide_of(tsr_guide *out, tsr_graph *graph, const tsr__value *guider, tsr_error *err) {
    tsr__args in = tsr__record(guider);
    if (in.row->inputs == basic_guider_inputs)
        return tsr__slot_guide(out, graph, tsr__arg(in, "model"), tsr__arg(in, "conditioning"), NULL, 1.0, err);
    return tsr__slot_guide(out, graph, tsr__arg(in, "model"), tsr__arg(in, "positive"), tsr__arg(in, "negative"),
                           tsr__arg_float(in, "cfg"), err);
}

static tsr_status run_custom_advanced(tsr__call *call, tsr_error *err) {
    tsr__args noise = tsr__record(tsr__arg(call->in, "noise"));
    int add_noise = noise.row->inputs == noise_inputs;
    tsr_guide guide;
    tsr_status status = guide_of(&guide, call->graph, tsr__arg(call->in, "guider"), err);
    if (status != TSR_OK) return status;
    return sample(call, &guide, tsr__arg(call->in, "latent_image")->latent,
                  add_noise ? tsr__arg_seed(noise, "noise_seed") : 0, add_noise, err);
}

#define GIVES(type)                                                                                                    \
    {                                                                                                                  \
        { #type, TSR__V_##type }                                                                                       \
    }
#define GIVES_RUN                                                                                                      \
    {                                                                                                                  \
        { "output", TSR__V_LATENT }, {                                                                                 \
            "denoised_output", TSR__V_LATENT                                                                           \
        }                                                                                                              \
    }
static const tsr__node rows[] = {
    { "KSamplerSelect", "KSamplerSelect", "sampling/custom_sampling/samplers", select_inputs, GIVES(SAMPLER), 0,
      tsr__run_record, "A sampler by name." },
    { "RandomNoise", "RandomNoise", "sampling/custom_sampling/noise", noise_inputs, GIVES(NOISE), 0, tsr__run_record,
      "Noise of a seed." },
    { "DisableNoise", "DisableNoise", "sampling/custom_sampling/noise", no_inputs, GIVES(NOISE), 0, tsr__run_record,
      "No noise." },
    { "CFGGuider", "CFGGuider", "sampling/custom_sampling/guiders", guider_inputs, GIVES(GUIDER), 0, tsr__run_record,
      "Guidance by a positive and a negative." },
    { "BasicGuider", "BasicGuider", "sampling/custom_sampling/guiders", basic_guider_inputs, GIVES(GUIDER), 0,
      tsr__run_record, "One conditioning alone." },
    { "SamplerCustom", "SamplerCustom", "sampling/custom_sampling", custom_inputs, GIVES_RUN, 0, run_custom,
      "Samples along given sigmas." },
    { "SamplerCustomAdvanced", "SamplerCustomAdvanced", "sampling/custom_sampling", custom_advanced_inputs, GIVES_RUN,
      0, run_custom_advanced, "Samples with noise, guider, sampler and sigmas from other nodes." },
};
const tsr__node_group tsr__nodes_custom_sampling = { rows, sizeof rows / sizeof *rows, "nodes" };
