/* test_nodes_samplers.c - what the nodes that give a sampler stand for; AddNoise against noise and the model's scale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "node_runner.h"
#include "tessera/noise.h"

typedef struct setting {
    const char *name, *json;
} setting;

static void samplers__carry_their_options(void **state) {
    static const struct {
        const char *class_type;
        setting set[4];
        const char *sampler;
        float eta, s_noise;
        int order;
        float r, power;
    } cases[] = {
        { "KSamplerSelect", { { "sampler_name", "\"heun\"" } }, "heun", 1, 1, 0, 0, 0 },
        { "SamplerEulerAncestral", { { "eta", "0.5" }, { "s_noise", "0" } }, "euler_ancestral", 0.5f, 0, 0, 0, 0 },
        { "SamplerEulerAncestralCFGPP", { { "eta", "0.5" } }, "euler_ancestral_cfg_pp", 0.5f, 1, 0, 0, 0 },
        { "SamplerLMS", { { "order", "3" } }, "lms", 1, 1, 3, 0, 0 },
        { "SamplerDPMPP_3M_SDE", { { "eta", "2" }, { "noise_device", "\"cpu\"" } }, "dpmpp_3m_sde", 2, 1, 0, 0, 0 },
        { "SamplerDPMPP_2M_SDE", { { "solver_type", "\"midpoint\"" } }, "dpmpp_2m_sde", 1, 1, 0, 0, 0 },
        { "SamplerDPMPP_2M_SDE", { { "solver_type", "\"heun\"" } }, "dpmpp_2m_sde_heun", 1, 1, 0, 0, 0 },
        { "SamplerDPMPP_SDE", { { "r", "0.25" }, { "s_noise", "2" } }, "dpmpp_sde", 1, 2, 0, 0.25f, 0 },
        { "SamplerDPMPP_2S_Ancestral", { { "eta", "0" } }, "dpmpp_2s_ancestral", 0, 1, 0, 0, 0 },
        { "SamplerER_SDE", { { "solver_type", "\"ER-SDE\"" }, { "eta", "7" } }, "er_sde", 1, 1, 3, 0, 0 },
        { "SamplerER_SDE",
          { { "solver_type", "\"Reverse-time SDE\"" }, { "eta", "0.5" }, { "max_stage", "2" } },
          "er_sde",
          0.5f,
          1,
          2,
          0,
          1.5f },
        { "SamplerER_SDE", { { "solver_type", "\"ODE\"" } }, "er_sde", 0, 0, 3, 0, 1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        tsr__sampler got;
        node_begin(&run, cases[i].class_type);
        for (int k = 0; k < 4 && cases[i].set[k].name; k++) node_set(&run, cases[i].set[k].name, cases[i].set[k].json);
        assert_int_equal(node_go(&run), TSR_OK);
        assert_int_equal(run.call.results[0]->type, TSR__V_SAMPLER);
        assert_int_equal(tsr__sampler_of(&got, run.call.results[0], NULL), TSR_OK);
        assert_string_equal(got.name, cases[i].sampler);
        if (got.options.eta != cases[i].eta || got.options.s_noise != cases[i].s_noise ||
            got.options.order != cases[i].order || got.options.r != cases[i].r || got.options.power != cases[i].power)
            fail_msg("case %d: %g %g %d %g %g", (int)i, (double)got.options.eta, (double)got.options.s_noise,
                     got.options.order, (double)got.options.r, (double)got.options.power);
        node_end(&run);
    }
}

static void samplers__refuse_what_cannot_run(void **state) {
    node_run run;
    (void)state;
    node_begin(&run, "SamplerLMS");
    node_set(&run, "order", "9");
    assert_int_equal(node_go(&run), TSR_UNSUPPORTED);
    assert_non_null(strstr(run.err.message, "order: 9"));
    node_end(&run);
    node_begin(&run, "SamplerDPMPP_SDE");
    node_set(&run, "r", "0.0");
    assert_int_equal(node_go(&run), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(run.err.message, "r: 0"));
    node_end(&run);
}

static tsr_latent *latent_of(tsr_graph *graph, const char *text) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    tsr_workflow_outputs *outputs = NULL;
    if (tsr_workflow_load_memory(&workflow, text, strlen(text), &err) != TSR_OK) fail_msg("%s", err.message);
    if (tsr_workflow_run(&outputs, graph, workflow, NULL, &err) != TSR_OK) fail_msg("%s", err.message);
    tsr_latent *latent = outputs->items[0].latent;
    outputs->items[0].latent = NULL;
    tsr_workflow_outputs_free(outputs);
    tsr_workflow_free(workflow);
    return latent;
}

#define LOAD  "{\"1\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"golden-sd1.safetensors\"}},"
#define EMPTY "\"4\":{\"class_type\":\"EmptyLatentImage\",\"inputs\":{\"width\":64,\"height\":64,\"batch_size\":1}},"
#define SAVE(id)                                                                                                       \
    "\"9\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"" id "\",0],\"filename_prefix\":\"x\"}}}"
#define SIGMAS(t) "\"5\":{\"class_type\":\"ManualSigmas\",\"inputs\":{\"sigmas\":\"" t "\"}},"
#define ADD(noise)                                                                                                     \
    "\"6\":" noise ",\"7\":{\"class_type\":\"AddNoise\",\"inputs\":{\"model\":[\"1\",0],\"noise\":[\"6\",0],"          \
    "\"sigmas\":[\"5\",0],\"latent_image\":[\"4\",0]}},"
#define RANDOM "{\"class_type\":\"RandomNoise\",\"inputs\":{\"noise_seed\":11}}"

static void add_noise__is_as_large_as_the_sigmas_say(void **state) {
    static const struct {
        const char *text;
        float size;
    } cases[] = { { LOAD EMPTY SIGMAS("8 4 1.5") ADD(RANDOM) SAVE("7"), 6.5f },
                  { LOAD EMPTY SIGMAS("3") ADD(RANDOM) SAVE("7"), 3.0f },
                  { LOAD EMPTY SIGMAS("none") ADD(RANDOM) SAVE("7"), 0.0f },
                  { LOAD EMPTY SIGMAS("3") ADD("{\"class_type\":\"DisableNoise\",\"inputs\":{}}") SAVE("7"), 0.0f } };
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_graph *graph = NULL;
    static float noise[4 * 8 * 8];
    int shape[4] = { 1, 4, 8, 8 };
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    assert_int_equal(tsr_graph_open(&graph, &options, NULL), TSR_OK);
    assert_int_equal(tsr_initial_noise(noise, shape, 11, NULL, NULL), TSR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tsr_latent *got = latent_of(graph, cases[i].text);
        for (int k = 0; k < 256; k++) assert_float_equal(got->values[k], noise[k] * cases[i].size / 0.18215f, 1e-4f);
        tsr_latent_free(got);
    }
    tsr_graph_close(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samplers__carry_their_options),
        cmocka_unit_test(samplers__refuse_what_cannot_run),
        cmocka_unit_test(add_noise__is_as_large_as_the_sigmas_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
