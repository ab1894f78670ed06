/* graph/nodes_samplers.c - ComfyUI's nodes that give one sampler with its options, what a SAMPLER stands for, and AddNoise. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"
#include "tessera/noise.h"

#define ETA     TSR__FLOAT("eta", 1.0, 0.0, 100.0, 0.01, "Amount of fresh noise; 0: none.")
#define S_NOISE TSR__FLOAT("s_noise", 1.0, 0.0, 100.0, 0.01, "Multiplies that noise.")
#define DEVICE  TSR__COMBO("noise_device", devices, NULL, "Without effect: Tessera has one noise stream.")
static const char *const devices[] = { "gpu", "cpu", NULL };
static const char *const sde_forms[] = { "midpoint", "heun", NULL };
static const char *const er_forms[] = { "ER-SDE", "Reverse-time SDE", "ODE", NULL };

static const tsr__input ancestral_inputs[] = { ETA, S_NOISE, TSR__END };
static const tsr__input ancestral_pp_inputs[] = {
    TSR__FLOAT("eta", 1.0, 0.0, 1.0, 0.01, "Amount of fresh noise; 0: none."),
    TSR__FLOAT("s_noise", 1.0, 0.0, 10.0, 0.01, "Multiplies that noise."),
    TSR__END,
};
static const tsr__input lms_inputs[] = {
    TSR__INT("order", 4, 1, 100, "How many slopes count; Tessera knows 1 to 4."),
    TSR__END,
};
static const tsr__input sde_3m_inputs[] = { ETA, S_NOISE, DEVICE, TSR__END };
static const tsr__input sde_2m_inputs[] = {
    TSR__COMBO("solver_type", sde_forms, NULL, "Its form."), ETA, S_NOISE, DEVICE, TSR__END,
};
static const tsr__input sde_inputs[] = {
    ETA,
    S_NOISE,
    TSR__FLOAT("r", 0.5, 0.0, 100.0, 0.01, "Where between two sigmas it evaluates once more, by logarithm; not 0."),
    DEVICE,
    TSR__END,
};
static const tsr__input er_inputs[] = {
    TSR__COMBO("solver_type", er_forms, NULL, "Its noise scale: the paper's, a power of sigma, or no noise."),
    TSR__INT("max_stage", 3, 1, 3, "Its order."),
    TSR__FLOAT("eta", 1.0, 0.0, 100.0, 0.01, "Amount of noise of the Reverse-time SDE."),
    S_NOISE,
    TSR__END,
};

/* --- what a SAMPLER stands for ------------------------------------------------------------------------------------------------ */
static const struct {
    const char *class_type, *sampler;
} named[] = {
    { "SamplerEulerAncestral", "euler_ancestral" },
    { "SamplerEulerAncestralCFGPP", "euler_ancestral_cfg_pp" },
    { "SamplerLMS", "lms" },
    { "SamplerDPMPP_3M_SDE", "dpmpp_3m_sde" },
    { "SamplerDPMPP_2M_SDE", "dpmpp_2m_sde" },
    { "SamplerDPMPP_SDE", "dpmpp_sde" },
    { "SamplerDPMPP_2S_Ancestral", "dpmpp_2s_ancestral" },
    { "SamplerER_SDE", "er_sde" },
};

static int has(tsr__args in, const char *name) {
    return tsr__node_input_find(in.row, name) >= 0;
}

static void set_er(tsr_solver_options *o, tsr__args in) {
    const char *form = tsr__arg_text(in, "solver_type");
    o->order = tsr__arg_int(in, "max_stage");
    if (strcmp(form, "ER-SDE") == 0) o->eta = 1.0f; /* which it has none of */
    else if (strcmp(form, "ODE") == 0) o->eta = 0.0f;
    if (strcmp(form, "ER-SDE") != 0) o->power = o->eta + 1.0f;
    if (o->eta <= 0.0f) o->s_noise = 0.0f;
}

tsr_status tsr__sampler_of(tsr__sampler *out, const tsr__value *sampler, tsr_error *err) {
    static const tsr_solver_options usual = TSR_SOLVER_OPTIONS_INIT;
    tsr__args in = tsr__record(sampler);
    tsr_solver_options *o = &out->options;
    *o = usual;
    out->name = has(in, "sampler_name") ? tsr__arg_text(in, "sampler_name") : NULL;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (strcmp(in.row->name, named[i].class_type) == 0) out->name = named[i].sampler;
    if (has(in, "eta")) o->eta = (float)tsr__arg_float(in, "eta");
    if (has(in, "s_noise")) o->s_noise = (float)tsr__arg_float(in, "s_noise");
    if (has(in, "order")) o->order = tsr__arg_int(in, "order");
    if (has(in, "r")) o->r = (float)tsr__arg_float(in, "r");
    if (in.row->inputs == sde_2m_inputs && strcmp(tsr__arg_text(in, "solver_type"), "heun") == 0)
        out->name = "dpmpp_2m_sde_heun";
    if (in.row->inputs == er_inputs) set_er(o, in);
    if (o->order > 4) return tsr__fail(err, TSR_UNSUPPORTED, "order: %d; lms is known up to order 4", o->order);
    if (in.row->inputs == sde_inputs && !(o->r > 0.0f))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "r: 0; dpmpp_sde divides by it, give more");
    return TSR_OK;
}

/* Kept for later, but what cannot run is told here. */
static tsr_status run_sampler(tsr__call *call, tsr_error *err) {
    tsr__sampler checked;
    tsr_status status = tsr__run_record(call, err);
    return status == TSR_OK ? tsr__sampler_of(&checked, call->results[0], err) : status;
}

/* --- AddNoise -------------------------------------------------------------------------------------------------------------------- */
static const tsr__input add_inputs[] = {
    TSR__LINK("model", MODEL, "Whose scale the noise has."),
    TSR__LINK("noise", NOISE, "The noise."),
    TSR__LINK("sigmas", SIGMAS, "The noise's size is the difference of the first and the last; of one sigma, that."),
    TSR__LINK("latent_image", LATENT, "What is made noisy."),
    TSR__END,
};

/* Noise is as large as the sigma in the network's latents, so less in those handed around. What is not finite becomes 0. */
static tsr_status run_add(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__value *sigmas = tsr__arg(call->in, "sigmas");
    tsr__args noise = tsr__record(tsr__arg(call->in, "noise"));
    const tsr_latent *from = tsr__arg(call->in, "latent_image")->latent;
    const tsr_denoiser *denoiser = NULL;
    tsr_engine *engine = NULL;
    tsr_latent *made = NULL;
    float *values = NULL;
    size_t count = tsr_latent_count(from);
    TSR_TRY(tsr_latent_copy(&made, from, err));
    if (sigmas->n_sigmas > 0) {
        TSR_TRY(tsr__slot_engine(&engine, call->graph, tsr__arg(call->in, "model")->slot, err));
        denoiser = &engine->denoiser;
        float size =
            sigmas->n_sigmas > 1 ? fabsf(sigmas->sigmas[0] - sigmas->sigmas[sigmas->n_sigmas - 1]) : sigmas->sigmas[0];
        TSR_ALLOC_ZERO(err, values, count);
        if (tsr__node_input_find(noise.row, "noise_seed") >= 0)
            TSR_TRY(tsr_initial_noise(values, from->shape, tsr__arg_seed(noise, "noise_seed"), from->batch_index, err));
        for (size_t i = 0; i < count; i++) {
            float value = (values[i] * size + from->values[i] * denoiser->latent_scale) / denoiser->latent_scale;
            made->values[i] = isfinite(value) ? value : 0.0f;
        }
    }
    status = tsr__value_take_latent(&call->results[0], made, err);
    made = NULL;
done:
    free(values);
    tsr_latent_free(made);
    return status;
}

#define GIVES_SAMPLER                                                                                                  \
    {                                                                                                                  \
        { "SAMPLER", TSR__V_SAMPLER }                                                                                  \
    }
#define SAMPLERS "sampling/custom_sampling/samplers"
static const tsr__node rows[] = {
    { "SamplerEulerAncestral", "SamplerEulerAncestral", SAMPLERS, ancestral_inputs, GIVES_SAMPLER, 0, run_sampler,
      "euler_ancestral with its options." },
    { "SamplerEulerAncestralCFGPP", "SamplerEulerAncestralCFG++", SAMPLERS, ancestral_pp_inputs, GIVES_SAMPLER, 0,
      run_sampler, "euler_ancestral_cfg_pp with its options." },
    { "SamplerLMS", "SamplerLMS", SAMPLERS, lms_inputs, GIVES_SAMPLER, 0, run_sampler, "lms with its order." },
    { "SamplerDPMPP_3M_SDE", "SamplerDPMPP_3M_SDE", SAMPLERS, sde_3m_inputs, GIVES_SAMPLER, 0, run_sampler,
      "dpmpp_3m_sde with its options." },
    { "SamplerDPMPP_2M_SDE", "SamplerDPMPP_2M_SDE", SAMPLERS, sde_2m_inputs, GIVES_SAMPLER, 0, run_sampler,
      "dpmpp_2m_sde with its options." },
    { "SamplerDPMPP_SDE", "SamplerDPMPP_SDE", SAMPLERS, sde_inputs, GIVES_SAMPLER, 0, run_sampler,
      "dpmpp_sde with its options." },
    { "SamplerDPMPP_2S_Ancestral", "SamplerDPMPP_2S_Ancestral", SAMPLERS, ancestral_inputs, GIVES_SAMPLER, 0,
      run_sampler, "dpmpp_2s_ancestral with its options." },
    { "SamplerER_SDE", "SamplerER_SDE", SAMPLERS, er_inputs, GIVES_SAMPLER, 0, run_sampler,
      "er_sde with its options." },
    { "AddNoise",
      "AddNoise",
      "_for_testing/custom_sampling/noise",
      add_inputs,
      { { "LATENT", TSR__V_LATENT } },
      0,
      run_add,
      "Adds noise of a sigma's size to a latent." },
};
const tsr__node_group tsr__nodes_samplers = { rows, sizeof rows / sizeof *rows, "nodes" };
