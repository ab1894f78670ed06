/* SD2 and SDXL checkpoints in a workflow: loader, two texts, KSampler, SaveLatent, against the reference's sampler runs. The
 * pooled text has to find its way through the nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "tessera/graph.h"

static const char WORKFLOW[] =
    "{\"1\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"tiny-%s.safetensors\"}},"
    "\"2\":{\"class_type\":\"CLIPTextEncode\",\"inputs\":{\"clip\":[\"1\",1],\"text\":\"%s\"}},"
    "\"3\":{\"class_type\":\"CLIPTextEncode\",\"inputs\":{\"clip\":[\"1\",1],\"text\":\"\"}},"
    "\"8\":{\"class_type\":\"CLIPTextEncode\",\"inputs\":{\"clip\":[\"1\",1],\"text\":\"tree and river\"}},"
    "\"9\":{\"class_type\":\"ConditioningAverage\",\"inputs\":{\"conditioning_to\":[\"2\",0],"
    "\"conditioning_from\":[\"8\",0],\"conditioning_to_strength\":1.0}},"
    "\"4\":{\"class_type\":\"EmptyLatentImage\",\"inputs\":{\"width\":192,\"height\":128,\"batch_size\":1}},"
    "\"5\":{\"class_type\":\"KSampler\",\"inputs\":{\"model\":[\"1\",0],\"positive\":[\"9\",0],\"negative\":[\"3\",0],"
    "\"latent_image\":[\"4\",0],\"seed\":17,\"steps\":5,\"cfg\":4.0,\"sampler_name\":\"%s\",\"scheduler\":\"%s\","
    "\"denoise\":1.0}},"
    "\"6\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"5\",0],\"filename_prefix\":\"x\"}}}";

static void compare(tsr_graph *graph, const char *tag, const char *sampler, const char *scheduler) {
    char text[4096];
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    tsr_workflow_outputs *outputs = NULL;
    json_t *index = golden_json("checkpoints/expected.json");
    golden_file *golden = golden_open("checkpoints/expected.safetensors");
    golden_tensor want = golden_get(golden, "%s/ksampler/%s", tag, sampler);
    const char *prompt = json_string_value(json_array_get(json_object_get(index, "prompts"), 1));
    int length = snprintf(text, sizeof text, WORKFLOW, tag, prompt, sampler, scheduler);
    tsr_status status = tsr_workflow_load_memory(&workflow, text, (size_t)length, &err);
    if (status == TSR_OK) status = tsr_workflow_run(&outputs, graph, workflow, NULL, &err);
    if (status != TSR_OK) fail_msg("%s", err.message);
    assert_int_equal(outputs->count, 1);
    const tsr_latent *latent = outputs->items[0].latent;
    assert_int_equal(tsr_latent_count(latent), want.count);
    double worst = max_abs_diff(latent->values, want.data, want.count) / max_abs(want.data, want.count);
    print_message("%s/%s worst %.2e\n", tag, sampler, worst);
    assert_true(worst <= 1e-3);
    tsr_workflow_outputs_free(outputs);
    tsr_workflow_free(workflow);
    golden_close(golden);
    json_decref(index);
}

static void workflows__run_sd2_and_sdxl(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_graph *graph = NULL;
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    options.precision = TSR_PRECISION_F32;
    assert_int_equal(tsr_graph_open(&graph, &options, &err), TSR_OK);
    compare(graph, "sd2", "euler", "normal");
    compare(graph, "sdxl", "euler", "normal");
    compare(graph, "sdxl", "dpmpp_2m", "karras");
    tsr_graph_close(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(workflows__run_sd2_and_sdxl) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
