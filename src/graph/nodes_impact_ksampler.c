/* graph/nodes_impact_ksampler.c - the Impact Pack's KSamplers that take a pipe: plain calls by its own rules (its schedulers, the
 * last prediction as the result). */
#include <math.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "sample/impact.h"

static const tsr__input plain_inputs[] = {
    TSR__LINK("basic_pipe", BASIC_PIPE, "Model and conditionings."),
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),
    TSR__COMBO_FROM("scheduler", tsr__choices_impact_schedulers, "normal", "The scheduler."),
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "How much of the start is replaced."),
    TSR__END,
};
static const tsr__input advanced_inputs[] = {
    TSR__LINK("basic_pipe", BASIC_PIPE, "Model and conditionings."),
    TSR__BOOL("add_noise", 1, "Off: the latent carries its noise already."),
    TSR__SEED("noise_seed", TSR__IN_CONTROL, "Of the noise."),
    TSR__INT("steps", 20, 1, 10000, "Steps of the whole schedule."),
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),
    TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),
    TSR__COMBO_FROM("scheduler", tsr__choices_impact_schedulers, "normal", "The scheduler."),
    TSR__LINK("latent_image", LATENT, "Where sampling starts."),
    TSR__INT("start_at_step", 0, 0, 10000, "The first step that is taken, from 0."),
    TSR__INT("end_at_step", 10000, 0, 10000, "The step before which sampling ends."),
    TSR__BOOL("return_with_leftover_noise", 0, "Off: the last step removes all noise."),
    TSR__END,
};

/* Samples with what `asked` lacks taken from the node; gives pipe, latent and VAE. */
static tsr_status sample(tsr__call *call, tsr__impact_call asked, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *pipe = tsr__arg(call->in, "basic_pipe");
    const tsr_latent *latent = tsr__arg(call->in, "latent_image")->latent;
    tsr_latent *result = NULL;
    tsr__impact_passes passes = { 0 };
    int64_t cost[2] = { 0, 0 };
    tsr_guide guide;
    tsr__run run = { 0 };
    TSR_TRY(tsr__pipe_guide(&guide, call->graph, pipe, tsr__arg_float(call->in, "cfg"), err));
    asked.guide = &guide;
    asked.sampler = tsr__arg_text(call->in, "sampler_name");
    asked.scheduler = tsr__arg_text(call->in, "scheduler");
    asked.sigma_factor = 1.0;
    TSR_TRY(tsr__impact_passes_init(&passes, &asked, err));
    TSR_TRY(tsr__impact_count(cost, &passes, &guide, err));
    tsr__run_init(&run, call->hooks, latent->shape, guide.denoiser->latent_scale);
    run.region = 0;
    run.steps = passes.pass[0].n_sigmas > 1 ? passes.pass[0].n_sigmas - 1 : 0;
    run.evaluations_total = cost[0];
    TSR_TRY(tsr__impact_run(&result, latent, &asked, &run, err));
    TSR_TRY(tsr__value_take_latent(&call->results[1], result, err));
    call->results[0] = tsr__value_ref(pipe);
    call->results[2] = tsr__value_ref(tsr__arg(tsr__record(pipe), "vae"));
done:
    tsr__impact_passes_clear(&passes);
    tsr__run_clear(&run);
    return status;
}

static tsr_status run_plain(tsr__call *call, tsr_error *err) {
    tsr__impact_call asked = { .add_noise = 1, .seed = tsr__arg_seed(call->in, "seed") };
    double denoise = tsr__arg_float(call->in, "denoise");
    int steps = tsr__arg_int(call->in, "steps");
    if (!(denoise > 0.0) || steps / denoise > 1e6)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "denoise is %g; give more than 0, up to 1", denoise);
    asked.steps = asked.end = (int)floor(steps / denoise);
    asked.start = asked.steps - steps;
    return sample(call, asked, err);
}

static tsr_status run_advanced(tsr__call *call, tsr_error *err) {
    tsr__impact_call asked = { .add_noise = tsr__arg_bool(call->in, "add_noise"),
                               .seed = tsr__arg_seed(call->in, "noise_seed"),
                               .steps = tsr__arg_int(call->in, "steps"),
                               .start = tsr__arg_int(call->in, "start_at_step"),
                               .end = tsr__arg_int(call->in, "end_at_step"),
                               .leftover = tsr__arg_bool(call->in, "return_with_leftover_noise") };
    return sample(call, asked, err);
}

#define GIVES_PIPE                                                                                                     \
    {                                                                                                                  \
        { "BASIC_PIPE", TSR__V_BASIC_PIPE }, { "LATENT", TSR__V_LATENT }, {                                            \
            "VAE", TSR__V_VAE                                                                                          \
        }                                                                                                              \
    }
static const tsr__node rows[] = {
    { "ImpactKSamplerBasicPipe", "KSampler (pipe)", "ImpactPack/sampling", plain_inputs, GIVES_PIPE, 0, run_plain,
      "Samples a latent with what a pipe holds." },
    { "ImpactKSamplerAdvancedBasicPipe", "KSampler (Advanced/pipe)", "ImpactPack/sampling", advanced_inputs, GIVES_PIPE,
      0, run_advanced, "Samples a part of the steps with what a pipe holds." },
};
const tsr__node_group tsr__nodes_impact_ksampler = { rows, sizeof rows / sizeof *rows,
                                                     "custom_nodes.ComfyUI-Impact-Pack" };
