/* graph/nodes_sigmas.c - rows that make and cut SIGMAS. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "schedule/schedule_priv.h"

/* --- by a model's table ------------------------------------------------------------------------------------------------------ */
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
    const tsr__value *model = tsr__arg(call->in, "model");
    TSR_TRY(tsr__slot_engine(&engine, call->graph, model->slot, err));
    if (total > 0)
        TSR_TRY(tsr_schedule_sigmas(&sigmas, &n, tsr__model_table(model, engine), tsr__arg_text(call->in, "scheduler"),
                                    total, err));
    TSR_TRY(give_last(call, sigmas, n, tsr__arg_int(call->in, "steps"), err));
done:
    tsr_free(sigmas);
    return status;
}

static const tsr__input beta_inputs[] = {
    TSR__LINK("model", MODEL, "Whose sigmas."),
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__FLOAT("alpha", 0.6, 0.0, 50.0, 0.01, "Below 1: denser at large sigmas."),
    TSR__FLOAT("beta", 0.6, 0.0, 50.0, 0.01, "Below 1: denser at small sigmas."),
    TSR__END,
};

static tsr_status run_beta(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    float *values = NULL;
    int steps = tsr__arg_int(call->in, "steps");
    double alpha = tsr__arg_float(call->in, "alpha"), beta = tsr__arg_float(call->in, "beta");
    if (!(alpha > 0.0 && beta > 0.0))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "alpha %g, beta %g: both must be positive", alpha, beta);
    const tsr__value *model = tsr__arg(call->in, "model");
    TSR_TRY(tsr__slot_engine(&engine, call->graph, model->slot, err));
    TSR_ALLOC(err, values, steps + 1);
    int n = tsr__beta_sigmas(values, tsr__model_table(model, engine), alpha, beta, steps);
    status = tsr__value_take_sigmas(&call->results[0], values, n, err);
done:
    return status;
}

static const tsr__input turbo_inputs[] = {
    TSR__LINK("model", MODEL, "Whose sigmas."),
    TSR__INT("steps", 1, 1, 10, "Sampling steps."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "Below 1 the first tenths are left out."),
    TSR__END,
};

/* Every hundredth timestep from 999 down. */
static tsr_status run_turbo(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    float *values = NULL;
    int steps = tsr__arg_int(call->in, "steps"), n = 0;
    int first = 10 - (int)(10.0 * tsr__arg_float(call->in, "denoise"));
    const tsr__value *model = tsr__arg(call->in, "model");
    TSR_TRY(tsr__slot_engine(&engine, call->graph, model->slot, err));
    TSR_ALLOC(err, values, steps + 1);
    for (int i = first; i < 10 && i < first + steps; i++)
        values[n++] = tsr_sigma_of_timestep(tsr__model_table(model, engine), (float)(100 * (10 - i) - 1));
    values[n++] = 0.0f;
    status = tsr__value_take_sigmas(&call->results[0], values, n, err);
done:
    return status;
}

/* --- by formulas ------------------------------------------------------------------------------------------------------------- */
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
static const tsr__input poly_inputs[] = {
    RANGE_INPUTS,
    TSR__FLOAT("rho", 1.0, 0.0, 100.0, 0.01, "1: evenly by logarithm; more favours the small sigmas."),
    TSR__END,
};
static const tsr__input laplace_inputs[] = {
    RANGE_INPUTS,
    TSR__FLOAT("mu", 0.0, -10.0, 10.0, 0.1, "Logarithm of the sigma around which steps are dense."),
    TSR__FLOAT("beta", 0.5, 0.0, 10.0, 0.1, "How widely they scatter."),
    TSR__END,
};
static const tsr__input vp_inputs[] = {
    TSR__INT("steps", 20, 1, 10000, "Sampling steps."),
    TSR__FLOAT("beta_d", 19.9, 0.0, 5000.0, 0.01, "Slope of the variance-preserving process."),
    TSR__FLOAT("beta_min", 0.1, 0.0, 5000.0, 0.01, "Its start."),
    TSR__FLOAT("eps_s", 0.001, 0.0, 1.0, 0.0001, "Its last time before 0."),
    TSR__END,
};

/* Room for steps + 1 sigmas; the ends must fall and, where their logarithms are taken, be positive. */
static tsr_status begin_range(float **out, tsr__call *call, double *high, double *low, int by_log, tsr_error *err) {
    tsr_status status = TSR_OK;
    *high = tsr__arg_float(call->in, "sigma_max");
    *low = tsr__arg_float(call->in, "sigma_min");
    if (*low > *high || (by_log && !(*low > 0.0)))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigmas from %g to %g do not fall%s", *high, *low,
                 by_log ? ", or reach 0 too early" : "");
    TSR_ALLOC(err, *out, tsr__arg_int(call->in, "steps") + 1);
done:
    return status;
}

static tsr_status run_karras(tsr__call *call, tsr_error *err) {
    float *values = NULL;
    double high = 0.0, low = 0.0, rho = tsr__arg_float(call->in, "rho");
    if (!(rho > 0.0)) return tsr__fail(err, TSR_BAD_ARGUMENT, "rho: %g; it must be positive", rho);
    tsr_status status = begin_range(&values, call, &high, &low, 0, err);
    if (status != TSR_OK) return status;
    int n = tsr__karras_sigmas(values, low, high, rho, tsr__arg_int(call->in, "steps"));
    return tsr__value_take_sigmas(&call->results[0], values, n, err);
}

static tsr_status run_exponential(tsr__call *call, tsr_error *err) {
    float *values = NULL;
    double high = 0.0, low = 0.0;
    tsr_status status = begin_range(&values, call, &high, &low, 1, err);
    if (status != TSR_OK) return status;
    int n = tsr__exponential_sigmas(values, low, high, tsr__arg_int(call->in, "steps"));
    return tsr__value_take_sigmas(&call->results[0], values, n, err);
}

static tsr_status run_poly(tsr__call *call, tsr_error *err) {
    float *values = NULL;
    double high = 0.0, low = 0.0, rho = tsr__arg_float(call->in, "rho");
    int steps = tsr__arg_int(call->in, "steps");
    tsr_status status = begin_range(&values, call, &high, &low, 1, err);
    if (status != TSR_OK) return status;
    float range = (float)(log(high) - log(low)), start = (float)log(low);
    for (int i = 0; i < steps; i++)
        values[i] = expf((float)pow((double)tsr__linspace(1.0f, 0.0f, steps, i), rho) * range + start);
    values[steps] = 0.0f;
    return tsr__value_take_sigmas(&call->results[0], values, steps + 1, err);
}

/* The reference ends at sigma_min, not at 0. */
static tsr_status run_laplace(tsr__call *call, tsr_error *err) {
    float *values = NULL;
    double high = 0.0, low = 0.0;
    int steps = tsr__arg_int(call->in, "steps");
    float mu = (float)tsr__arg_float(call->in, "mu"), beta = (float)tsr__arg_float(call->in, "beta");
    tsr_status status = begin_range(&values, call, &high, &low, 0, err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < steps; i++) {
        float side = 0.5f - tsr__linspace(0.0f, 1.0f, steps, i);
        float sign = side > 0.0f ? 1.0f : side < 0.0f ? -1.0f : 0.0f;
        float sigma = expf(mu - beta * sign * logf(1.0f - 2.0f * fabsf(side) + 1e-5f));
        values[i] = fminf(fmaxf(sigma, (float)low), (float)high);
    }
    return tsr__value_take_sigmas(&call->results[0], values, steps, err);
}

static tsr_status run_vp(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    int steps = tsr__arg_int(call->in, "steps");
    float slope = (float)tsr__arg_float(call->in, "beta_d"), start = (float)tsr__arg_float(call->in, "beta_min");
    float last = (float)tsr__arg_float(call->in, "eps_s");
    TSR_ALLOC(err, values, steps + 1);
    for (int i = 0; i < steps; i++) {
        float t = tsr__linspace(1.0f, last, steps, i);
        values[i] = sqrtf(expm1f(slope * (t * t) / 2.0f + start * t));
        if (!isfinite(values[i]))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "beta_d %g and beta_min %g make a sigma that is not finite", (double)slope,
                     (double)start);
    }
    values[steps] = 0.0f;
    status = tsr__value_take_sigmas(&call->results[0], values, steps + 1, err);
    values = NULL;
done:
    free(values);
    return status;
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
    TSR_TRY(give_last(call, denoise > 0.0 ? sigmas : NULL, n, denoise < 1.0 ? (int)rint(steps * denoise) : steps, err));
done:
    tsr_sigma_table_free(table);
    tsr_free(sigmas);
    free(name);
    return status;
}

static const tsr__input manual_inputs[] = {
    TSR__STRING("sigmas", 0, "1, 0.5", "Numbers, apart by anything that is none."),
    TSR__END,
};

static tsr_status run_manual(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *text = tsr__arg_text(call->in, "sigmas");
    float *values = NULL;
    int n = 0;
    TSR_ALLOC(err, values, strlen(text) + 1);
    while (*text) {
        char *end = NULL;
        int begins = (*text >= '0' && *text <= '9') || *text == '-' || *text == '+' || *text == '.';
        double value = begins ? strtod(text, &end) : 0.0;
        if (!begins || end == text) {
            text++;
            continue;
        }
        values[n++] = (float)value;
        text = end;
    }
    status = tsr__value_take_sigmas(&call->results[0], values, n, err);
done:
    return status;
}

/* --- parts ------------------------------------------------------------------------------------------------------------------- */
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

static tsr_status run_split(tsr__call *call, tsr_error *err) {
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    int step = tsr__arg_int(call->in, "step");
    tsr_status status = part(&call->results[0], sigmas, 0, step + 1, err);
    return status == TSR_OK ? part(&call->results[1], sigmas, step, sigmas->n_sigmas, err) : status;
}

static const tsr__input split_denoise_inputs[] = {
    TSR__LINK("sigmas", SIGMAS, "The sigmas."),
    TSR__FLOAT("denoise", 1.0, 0.0, 1.0, 0.01, "Share of the steps in the second part."),
    TSR__END,
};

/* Of no steps in the second part the reference makes an empty first part: it cuts from the end, where 0 is no place. */
static tsr_status run_split_denoise(tsr__call *call, tsr_error *err) {
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    int n = sigmas->n_sigmas, low = (int)rint((n > 1 ? n - 1 : 0) * tsr__arg_float(call->in, "denoise"));
    tsr_status status = part(&call->results[0], sigmas, 0, low > 0 ? n - low : 0, err);
    return status == TSR_OK ? part(&call->results[1], sigmas, n - low - 1 > 0 ? n - low - 1 : 0, n, err) : status;
}

static const tsr__input one_sigmas[] = { TSR__LINK("sigmas", SIGMAS, "The sigmas."), TSR__END };

/* A copy to be changed, as the first result. */
static tsr_status copy(float **values, tsr__call *call, tsr_error *err) {
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    tsr_status status = part(&call->results[0], sigmas, 0, sigmas->n_sigmas, err);
    *values = status == TSR_OK ? call->results[0]->sigmas : NULL;
    return status;
}

/* Backwards, for a sampler that walks towards noise; a leading 0 is lifted a little. */
static tsr_status run_flip(tsr__call *call, tsr_error *err) {
    float *values = NULL;
    tsr_status status = copy(&values, call, err);
    int n = status == TSR_OK ? call->results[0]->n_sigmas : 0;
    for (int i = 0; i < n / 2; i++) {
        float held = values[i];
        values[i] = values[n - 1 - i];
        values[n - 1 - i] = held;
    }
    if (n > 0 && values[0] == 0.0f) values[0] = 0.0001f;
    return status;
}

static const tsr__input first_inputs[] = {
    TSR__LINK("sigmas", SIGMAS, "The sigmas."),
    TSR__FLOAT("sigma", 136.0, 0.0, 20000.0, 0.001, "In place of the first."),
    TSR__END,
};

static tsr_status run_first(tsr__call *call, tsr_error *err) {
    float *values = NULL;
    tsr_status status = copy(&values, call, err);
    if (status == TSR_OK && call->results[0]->n_sigmas > 0) values[0] = (float)tsr__arg_float(call->in, "sigma");
    return status;
}

#define GIVES_SIGMAS                                                                                                   \
    {                                                                                                                  \
        { "SIGMAS", TSR__V_SIGMAS }                                                                                    \
    }
#define GIVES_PARTS                                                                                                    \
    {                                                                                                                  \
        { "high_sigmas", TSR__V_SIGMAS }, {                                                                            \
            "low_sigmas", TSR__V_SIGMAS                                                                                \
        }                                                                                                              \
    }
#define SCHEDULERS "sampling/custom_sampling/schedulers"
#define SIGMAS     "sampling/custom_sampling/sigmas"
static const tsr__node rows[] = {
    { "BasicScheduler", "BasicScheduler", SCHEDULERS, basic_inputs, GIVES_SIGMAS, 0, run_basic,
      "Sigmas by a scheduler's name." },
    { "KarrasScheduler", "KarrasScheduler", SCHEDULERS, karras_inputs, GIVES_SIGMAS, 0, run_karras,
      "Sigmas by Karras's formula." },
    { "ExponentialScheduler", "ExponentialScheduler", SCHEDULERS, exponential_inputs, GIVES_SIGMAS, 0, run_exponential,
      "Sigmas evenly spaced by logarithm." },
    { "PolyexponentialScheduler", "PolyexponentialScheduler", SCHEDULERS, poly_inputs, GIVES_SIGMAS, 0, run_poly,
      "Sigmas spaced by a power of the logarithm." },
    { "LaplaceScheduler", "LaplaceScheduler", SCHEDULERS, laplace_inputs, GIVES_SIGMAS, 0, run_laplace,
      "Sigmas dense around a middle." },
    { "VPScheduler", "VPScheduler", SCHEDULERS, vp_inputs, GIVES_SIGMAS, 0, run_vp,
      "Sigmas of the variance-preserving process." },
    { "BetaSamplingScheduler", "BetaSamplingScheduler", SCHEDULERS, beta_inputs, GIVES_SIGMAS, 0, run_beta,
      "Sigmas spaced by the beta distribution." },
    { "SDTurboScheduler", "SDTurboScheduler", SCHEDULERS, turbo_inputs, GIVES_SIGMAS, 0, run_turbo,
      "The few sigmas that turbo models were made for." },
    { "AlignYourStepsScheduler", "AlignYourStepsScheduler", SCHEDULERS, ays_inputs, GIVES_SIGMAS, 0, run_ays,
      "Sigmas of the Align Your Steps tables." },
    { "ManualSigmas", "ManualSigmas", SCHEDULERS, manual_inputs, GIVES_SIGMAS, 0, run_manual, "Sigmas typed in." },
    { "SplitSigmas", "SplitSigmas", SIGMAS, split_inputs, GIVES_PARTS, 0, run_split, "Sigmas in two parts at a step." },
    { "SplitSigmasDenoise", "SplitSigmasDenoise", SIGMAS, split_denoise_inputs, GIVES_PARTS, 0, run_split_denoise,
      "Sigmas in two parts by a share." },
    { "FlipSigmas", "FlipSigmas", SIGMAS, one_sigmas, GIVES_SIGMAS, 0, run_flip,
      "Sigmas backwards, to walk from a picture to noise." },
    { "SetFirstSigma", "SetFirstSigma", SIGMAS, first_inputs, GIVES_SIGMAS, 0, run_first,
      "Sigmas with another first one." },
};
const tsr__node_group tsr__nodes_sigmas = { rows, sizeof rows / sizeof *rows, "nodes" };
