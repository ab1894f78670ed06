/* graph/nodes_model_sampling.c - rows that say what a model's output means, between which noise levels, and how it is guided.
 *
 * The rules themselves are in engine/engine_sampling.h and sample/rescale.h. */
#include <math.h>
#include <string.h>

#include "graph/graph_priv.h"

static const char MODEL_DOC[] = "The network.";

/* Takes sampling over, also when it fails. */
static tsr_status give_sampled(tsr__call *call, tsr__model_sampling *sampling, tsr_error *err) {
    tsr_status status = tsr__value_patched(&call->results[0], tsr__arg(call->in, "model"), err);
    if (status != TSR_OK) {
        tsr__model_sampling_unref(sampling);
        return status;
    }
    tsr__model_sampling_unref(call->results[0]->sampling);
    call->results[0]->sampling = sampling;
    return TSR_OK;
}

/* --- discrete ------------------------------------------------------------------------------------------------------------- */
static const char *const discrete_kinds[] = { "eps", "v_prediction", "lcm", "x0", "img_to_img", NULL };
static const tsr__output_rule discrete_rules[] = { TSR__OUTPUT_EPS, TSR__OUTPUT_V, TSR__OUTPUT_LCM, TSR__OUTPUT_X0,
                                                   TSR__OUTPUT_IMAGE };
static const tsr__input discrete_inputs[] = {
    TSR__LINK("model", MODEL, MODEL_DOC),
    TSR__COMBO(
        "sampling", discrete_kinds, NULL,
        "What it gives: the noise; v; the noise of a latent consistency model (sampler lcm, few steps); the clean "
        "latent; the clean latent of an input that is not scaled."),
    TSR__BOOL("zsnr", 0, "The noise levels end at pure noise (zero terminal SNR)."),
    TSR__END,
};

/* The checker has let one of the names through. */
static int index_of(const char *const *names, const char *name) {
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) return i;
    return 0;
}

static tsr_status run_discrete(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *name = tsr__arg_text(call->in, "sampling");
    tsr__output_rule rule = discrete_rules[index_of(discrete_kinds, name)];
    int zero = tsr__arg_bool(call->in, "zsnr");
    tsr__model_sampling *sampling = NULL;
    tsr_sigma_table *table = NULL;
    char key[64];
    snprintf(key, sizeof key, "discrete %s %d", name, zero);
    TSR_TRY(tsr__engine_new_table(&table, rule == TSR__OUTPUT_LCM, zero, err));
    TSR_TRY(tsr__model_sampling_new(&sampling, rule, 1.0, table, key, err));
    TSR_TRY(give_sampled(call, sampling, err));
done:
    return status;
}

/* --- continuous ----------------------------------------------------------------------------------------------------------- */
static const char *const edm_kinds[] = { "v_prediction", "edm", "eps", NULL };
static const tsr__output_rule edm_rules[] = { TSR__OUTPUT_V, TSR__OUTPUT_EDM, TSR__OUTPUT_EPS };
static const char *const v_kinds[] = { "v_prediction", NULL };
#define RANGE(high, low)                                                                                               \
    TSR__FLOAT("sigma_max", high, 0.0, 1000.0, 0.001, "The first noise level."),                                       \
        TSR__FLOAT("sigma_min", low, 0.0, 1000.0, 0.001, "The last one; above 0.")
static const tsr__input edm_inputs[] = {
    TSR__LINK("model", MODEL, MODEL_DOC),
    TSR__COMBO("sampling", edm_kinds, NULL,
               "What it gives: v; v with the other sign, for latents of spread 0.5; the noise."),
    RANGE(120.0, 0.002),
    TSR__END,
};
static const tsr__input v_inputs[] = {
    TSR__LINK("model", MODEL, MODEL_DOC),
    TSR__COMBO("sampling", v_kinds, NULL, "What it gives: v."),
    RANGE(500.0, 0.03),
    TSR__END,
};

static tsr_status give_continuous(tsr__call *call, tsr__output_rule rule, tsr_continuous kind, tsr_error *err) {
    tsr_status status = TSR_OK;
    double high = tsr__arg_float(call->in, "sigma_max"), low = tsr__arg_float(call->in, "sigma_min");
    tsr__model_sampling *sampling = NULL;
    tsr_sigma_table *table = NULL;
    char key[96];
    if (!(low > 0.0 && low < high))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "sigma_min %g, sigma_max %g: they must rise from above 0", low, high);
    snprintf(key, sizeof key, "continuous %d %d %.17g %.17g", (int)rule, (int)kind, low, high);
    TSR_TRY(tsr_sigma_table_new_continuous(&table, low, high, kind, err));
    TSR_TRY(tsr__model_sampling_new(&sampling, rule, rule == TSR__OUTPUT_EDM ? 0.5 : 1.0, table, key, err));
    TSR_TRY(give_sampled(call, sampling, err));
done:
    return status;
}

static tsr_status run_edm(tsr__call *call, tsr_error *err) {
    return give_continuous(call, edm_rules[index_of(edm_kinds, tsr__arg_text(call->in, "sampling"))],
                           TSR_CONTINUOUS_EDM, err);
}

static tsr_status run_v(tsr__call *call, tsr_error *err) {
    return give_continuous(call, TSR__OUTPUT_V, TSR_CONTINUOUS_V, err);
}

/* --- guidance ------------------------------------------------------------------------------------------------------------- */
static const tsr__input rescale_inputs[] = {
    TSR__LINK("model", MODEL, MODEL_DOC),
    TSR__FLOAT("multiplier", 0.7, 0.0, 1.0, 0.01, "How much of the guided prediction is scaled back; 0: nothing."),
    TSR__END,
};

static tsr_status run_rescale(tsr__call *call, tsr_error *err) {
    tsr_status status = tsr__value_patched(&call->results[0], tsr__arg(call->in, "model"), err);
    if (status == TSR_OK) call->results[0]->rescale = tsr__arg_float(call->in, "multiplier");
    return status;
}

static const tsr__node rows[] = {
    { "ModelSamplingDiscrete",
      "ModelSamplingDiscrete",
      "advanced/model",
      discrete_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_discrete,
      "Says what a model's output means, with the noise levels of Stable Diffusion's training." },
    { "ModelSamplingContinuousEDM",
      "ModelSamplingContinuousEDM",
      "advanced/model",
      edm_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_edm,
      "Says what a model's output means that was trained on all noise levels (EDM)." },
    { "ModelSamplingContinuousV",
      "ModelSamplingContinuousV",
      "advanced/model",
      v_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_v,
      "The same for v-prediction with timesteps by the arc tangent." },
    { "RescaleCFG",
      "RescaleCFG",
      "advanced/model",
      rescale_inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run_rescale,
      "Keeps the spread of the positive prediction under guidance, so that a high cfg does not burn the picture." },
};
const tsr__node_group tsr__nodes_model_sampling = { rows, sizeof rows / sizeof *rows, "nodes" };
