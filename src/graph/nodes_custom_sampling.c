/* graph/nodes_custom_sampling.c - ComfyUI's sampler in parts: sigmas, noise, sampler, guider, and what runs them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* --- sigmas ------------------------------------------------------------------------------------------------------------------ */
static const tsr__input basic_inputs[] = {
    TSR__LINK("model", MODEL, "Whose sigmas."),
    TSR__COMBO_FROM("scheduler", tsr__choices_schedulers, "normal", "The scheduler."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "Only the last steps of int(steps / denoise)."),
    TSR__END,
};

/* Takes the last steps + 1 of n sigmas. */
static tsr_status give_last(tsr__call *call, const float *sigmas, int n, int steps, tsr_error *err) {
    tsr_status status = TSR_OK;
    int kept = !sigmas ? 0 : n < steps + 1 ? n : steps + 1;
    float *values = NULL;
    TSR_ALLOC(err, values, kept + 1);
    if (kept) memcpy(values, sigmas + (n - kept), (size_t)kept * sizeof *values);
    status = tsr__value_take_sigmas(&call->results[0], values, kept, err);
done:
    return status;
}

/* Denoise 0 asks for no sigmas at all. */
static tsr_status total_steps(int *out, tsr__call *call, tsr_error *err) {
    double denoise = tsr__arg_float(call->in, "denoise");
    int steps = tsr__arg_int(call->in, "steps");
    double total = denoise > 0.0 ? trunc(steps / denoise) : 0.0;
    *out = total <= 100000.0 ? (int)total : 0;
    if (total > 100000.0)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "denoise: %g makes a schedule of more than 100000 steps", denoise);
    return TSR_OK;
}

static tsr_status run_basic(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    float *sigmas = NULL;
    int n = 0, total = 0;
    TSR_TRY(total_steps(&total, call, err));
    TSR_TRY(tsr__slot_engine(&engine, call->graph, tsr__arg(call->in, "model")->slot, err));
    if (total > 0)
        TSR_TRY(tsr_schedule_sigmas(&sigmas, &n, engine->table, tsr__arg_text(call->in, "scheduler"), total, err));
    TSR_TRY(give_last(call, sigmas, n, tsr__arg_int(call->in, "steps"), err));
done:
    tsr_free(sigmas);
    return status;
}

#define RANGE_INPUTS                                                                                                   \
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),                                                                \
        TSR__FLOAT("sigma_max", 14.614642, 0.0, 5000.0, 0.01, "The first sigma."),                                     \
        TSR__FLOAT("sigma_min", 0.0291675, 0.0, 5000.0, 0.01, "The last sigma before 0.")
static const tsr__input karras_inputs[] = {
    RANGE_INPUTS,
    TSR__FLOAT("rho", 7.0, 0.0, 100.0, 0.01, "How much the small sigmas are favoured."),
    TSR__END,
};
static const tsr__input exponential_inputs[] = { RANGE_INPUTS, TSR__END };

/* at(i / (steps - 1)) from sigma_max to sigma_min, then 0. */
static tsr_status give_ramp(tsr__call *call, int exponential, tsr_error *err) {
    tsr_status status = TSR_OK;
    int steps = tsr__arg_int(call->in, "steps");
    double high = tsr__arg_float(call->in, "sigma_max"), low = tsr__arg_float(call->in, "sigma_min");
    double rho = exponential ? 1.0 : tsr__arg_float(call->in, "rho");
    float *values = NULL;
    if (low > high || (exponential && low <= 0.0) || rho <= 0.0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigmas from %g to %g%s", high, low,
                 rho <= 0.0 ? " with rho 0; rho must be positive" : " do not fall");
    TSR_ALLOC(err, values, steps + 1);
    for (int i = 0; i < steps; i++) {
        double t = steps > 1 ? (double)i / (steps - 1) : 0.0;
        double a = exponential ? log(high) : pow(high, 1.0 / rho), b = exponential ? log(low) : pow(low, 1.0 / rho);
        values[i] = (float)(exponential ? exp(a + t * (b - a)) : pow(a + t * (b - a), rho));
    }
    values[steps] = 0.0f;
    status = tsr__value_take_sigmas(&call->results[0], values, steps + 1, err);
done:
    return status;
}

static tsr_status run_karras(tsr__call *call, tsr_error *err) {
    return give_ramp(call, 0, err);
}

static tsr_status run_exponential(tsr__call *call, tsr_error *err) {
    return give_ramp(call, 1, err);
}

static const char *const ays_models[] = { "SD1", "SDXL", "SVD", NULL };
static const tsr__input ays_inputs[] = {
    TSR__COMBO("model_type", ays_models, NULL, "For which kind of model the sigmas were found."),
    TSR__INT("steps", 10, 1, 10000, "Sampling steps."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "Only the last share of the steps."),
    TSR__END,
};

static tsr_status run_ays(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    int steps = tsr__arg_int(call->in, "steps"), n = 0;
    double denoise = tsr__arg_float(call->in, "denoise");
    tsr_sigma_table *table = NULL; /* which these schedulers do not look at */
    char *name = tsr__format("AYS %s", tsr__arg_text(call->in, "model_type"));
    float *sigmas = NULL;
    if (!name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, err));
    TSR_TRY(tsr_schedule_sigmas(&sigmas, &n, table, name, steps, err));
    /* Nothing to do at denoise 0; else the last of them. */
    TSR_TRY(give_last(call, sigmas, denoise > 0.0 ? n : 0, denoise < 1.0 ? (int)rint(steps * denoise) : steps, err));
done:
    tsr_sigma_table_free(table);
    tsr_free(sigmas);
    free(name);
    return status;
}

static const tsr__input split_inputs[] = {
    TSR__LINK("sigmas", SIGMAS, "The sigmas."),
    TSR__INT("step", 0, 0, 10000, "Steps of the first part."),
    TSR__END,
};

static tsr_status part(tsr__value **out, const tsr__value *from, int first, int end, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    if (end > from->n_sigmas) end = from->n_sigmas;
    int n = first < end ? end - first : 0;
    *out = NULL;
    TSR_ALLOC(err, values, n + 1);
    if (n) memcpy(values, from->sigmas + first, (size_t)n * sizeof *values);
    status = tsr__value_take_sigmas(out, values, n, err);
done:
    return status;
}

static tsr_status split(tsr__call *call, int step, tsr_error *err) {
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    tsr_status status = part(&call->results[0], sigmas, 0, step + 1, err);
    return status == TSR_OK ? part(&call->results[1], sigmas, step, sigmas->n_sigmas, err) : status;
}

static tsr_status run_split(tsr__call *call, tsr_error *err) {
    return split(call, tsr__arg_int(call->in, "step"), err);
}

static const tsr__input split_denoise_inputs[] = {
    TSR__LINK("sigmas", SIGMAS, "The sigmas."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "Share of the steps in the second part."),
    TSR__END,
};

static tsr_status run_split_denoise(tsr__call *call, tsr_error *err) {
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    int steps = sigmas->n_sigmas > 1 ? sigmas->n_sigmas - 1 : 0;
    return split(call, steps - (int)rint(steps * tsr__arg_float(call->in, "denoise")), err);
}

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
} watch;

static int on_progress(void *user, const tsr_progress *progress) {
    watch *w = user;
    if (progress->x0 && progress->event == TSR_PROGRESS_STEP)
        memcpy(w->x0->values, progress->x0, tsr_latent_count(w->x0) * sizeof *w->x0->values);
    return w->next->progress(w->next->user, progress);
}

static tsr_status sample(tsr__call *call, const tsr_guide *guide, const tsr_latent *latent, uint64_t seed,
                         int add_noise, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sample_options options = TSR_SAMPLE_OPTIONS_INIT;
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    watch w = { call->hooks, NULL };
    tsr_latent *result = NULL;
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    TSR_TRY(tsr_latent_copy(&w.x0, latent, err));
    hooks.user = &w;
    hooks.progress = on_progress;
    options.sampler = tsr__arg_text(tsr__record(tsr__arg(call->in, "sampler")), "sampler_name");
    options.sigmas = sigmas->sigmas;
    options.n_sigmas = sigmas->n_sigmas;
    options.seed = seed;
    options.add_noise = add_noise;
    options.hooks = &hooks;
    TSR_TRY(tsr_sample(&result, latent, guide, &options, err));
    TSR_TRY(tsr__value_take_latent(&call->results[0], result, err));
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
#define GIVES_PARTS                                                                                                    \
    {                                                                                                                  \
        { "high_sigmas", TSR__V_SIGMAS }, {                                                                            \
            "low_sigmas", TSR__V_SIGMAS                                                                                \
        }                                                                                                              \
    }
#define GIVES_RUN                                                                                                      \
    {                                                                                                                  \
        { "output", TSR__V_LATENT }, {                                                                                 \
            "denoised_output", TSR__V_LATENT                                                                           \
        }                                                                                                              \
    }
#define SCHEDULERS "sampling/custom_sampling/schedulers"
static const tsr__node rows[] = {
    { "BasicScheduler", "BasicScheduler", SCHEDULERS, basic_inputs, GIVES(SIGMAS), 0, run_basic,
      "Sigmas by a scheduler's name." },
    { "KarrasScheduler", "KarrasScheduler", SCHEDULERS, karras_inputs, GIVES(SIGMAS), 0, run_karras,
      "Sigmas by Karras's formula." },
    { "ExponentialScheduler", "ExponentialScheduler", SCHEDULERS, exponential_inputs, GIVES(SIGMAS), 0, run_exponential,
      "Sigmas evenly spaced by logarithm." },
    { "AlignYourStepsScheduler", "AlignYourStepsScheduler", SCHEDULERS, ays_inputs, GIVES(SIGMAS), 0, run_ays,
      "Sigmas of the Align Your Steps tables." },
    { "SplitSigmas", "SplitSigmas", "sampling/custom_sampling/sigmas", split_inputs, GIVES_PARTS, 0, run_split,
      "Sigmas in two parts at a step." },
    { "SplitSigmasDenoise", "SplitSigmasDenoise", "sampling/custom_sampling/sigmas", split_denoise_inputs, GIVES_PARTS,
      0, run_split_denoise, "Sigmas in two parts by a share." },
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
