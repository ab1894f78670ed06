/* graph/nodes_differential.c - the row that makes a noise mask a change map for everything sampled with a model.
 *
 * The rule itself is in sample/differential.h. */
#include "graph/graph_priv.h"

static const tsr__input inputs[] = {
    TSR__LINK("model", MODEL, "The network."),
    TSR__FLOAT_OPT(
        "strength", 1.0, 0.0, 1.0, 0.01,
        "1: grey says when a pixel starts to be painted; less: grey also counts as itself. 0 is 1, as there."),
    TSR__END,
};

static tsr_status run(tsr__call *call, tsr_error *err) {
    const tsr__value *model = tsr__arg(call->in, "model");
    double strength = tsr__arg_float(call->in, "strength");
    tsr_status status = tsr__value_patched(&call->results[0], model, err);
    if (status != TSR_OK) return status;
    call->results[0]->differential = strength > 0.0 ? strength : 1.0;
    return TSR_OK;
}

static const tsr__node rows[] = {
    { "DifferentialDiffusion",
      "Differential Diffusion",
      "_for_testing",
      inputs,
      { { "MODEL", TSR__V_MODEL } },
      0,
      run,
      "A model that paints each pixel from the step on that its grey in the noise mask stands for." },
};
const tsr__node_group tsr__nodes_differential = { rows, sizeof rows / sizeof *rows, "nodes" };
