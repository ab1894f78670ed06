/* test_validate.c - the faults of workflows, all at once and in ComfyUI's words, and the table of nodes behind them. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "graph/node.h"

static tsr_graph *graph;

static int open_graph(void **state) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    options.input = TSR_SOURCE_DIR "/tests";
    return tsr_graph_open(&graph, &options, NULL) != TSR_OK;
}

static int close_graph(void **state) {
    (void)state;
    tsr_graph_close(graph);
    return 0;
}

/* The answer to a workflow, parsed; *text_out is the readable form, to be freed. */
static json_t *answer(const char *json, char **text_out, int *good_out) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *w = NULL;
    tsr_workflow_report *r = NULL;
    if (tsr_workflow_load_memory(&w, json, strlen(json), &err) != TSR_OK) fail_msg("%s", err.message);
    if (tsr_workflow_validate(&r, graph, w, &err) != TSR_OK) fail_msg("%s", err.message);
    json_t *parsed = json_loads(r->json, JSON_DECODE_INT_AS_REAL, NULL);
    assert_non_null(parsed);
    if (text_out) *text_out = strdup(r->text);
    if (good_out) *good_out = r->good_outputs;
    assert_int_equal(r->faults == 0, !*r->text);
    tsr_workflow_report_free(r);
    tsr_workflow_free(w);
    return parsed;
}

/* The details of the fault of that type on that node's input. */
static const char *fault(const json_t *answered, const char *id, const char *type, const char *input) {
    const json_t *node = json_object_get(json_object_get(answered, "node_errors"), id);
    size_t i;
    json_t *at;
    json_array_foreach(json_object_get(node, "errors"), i, at) {
        const json_t *name = json_object_get(json_object_get(at, "extra_info"), "input_name");
        if (strcmp(json_string_value(json_object_get(at, "type")), type) == 0 && json_is_string(name) &&
            strcmp(json_string_value(name), input) == 0)
            return json_string_value(json_object_get(at, "details"));
    }
    fail_msg("node %s has no %s on %s", id, type, input);
    return "";
}

static void validate__all_faults_of_all_nodes_are_named(void **state) {
    char *text = NULL;
    int good = 0;
    (void)state;
    json_t *a = answer(
        "{\"1\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"nothing.safetensors\"}},"
        "\"2\":{\"class_type\":\"EmptyLatentImage\",\"inputs\":{\"width\":8,\"height\":99999,\"batch_size\":\"many\"}},"
        "\"3\":{\"class_type\":\"KSampler\",\"inputs\":{\"model\":[\"2\",0],\"seed\":-1,\"steps\":20,\"cfg\":7,"
        "\"sampler_name\":\"eulr\",\"scheduler\":\"karras\",\"positive\":[\"9\",0],\"negative\":[\"1\"],"
        "\"latent_image\":[\"2\",1],\"denoise\":1}},"
        "\"4\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"3\",0],\"filename_prefix\":\"x\"}}}",
        &text, &good);
    assert_int_equal(good, 0);
    assert_string_equal(json_string_value(json_object_get(json_object_get(a, "error"), "type")),
                        "prompt_outputs_failed_validation");
    assert_string_equal(fault(a, "2", "value_smaller_than_min", "width"), "width");
    assert_string_equal(fault(a, "2", "value_bigger_than_max", "height"), "height");
    assert_string_equal(fault(a, "2", "invalid_input_type", "batch_size"),
                        "batch_size, many, invalid literal for int() with base 10: 'many'");
    assert_string_equal(fault(a, "3", "return_type_mismatch", "model"),
                        "model, received_type(LATENT) mismatch input_type(MODEL)");
    fault(a, "3", "value_smaller_than_min", "seed");
    assert_string_equal(fault(a, "3", "value_not_in_list", "sampler_name"),
                        "sampler_name: 'eulr' not in (list of length 44)");
    fault(a, "3", "bad_linked_input", "positive");
    fault(a, "3", "bad_linked_input", "negative");
    fault(a, "3", "bad_linked_input", "latent_image");
    const json_t *node = json_object_get(json_object_get(a, "node_errors"), "3");
    assert_string_equal(json_string_value(json_object_get(node, "class_type")), "KSampler");
    assert_string_equal(json_string_value(json_array_get(json_object_get(node, "dependent_outputs"), 0)), "4");
    assert_non_null(strstr(text, "node 3 (KSampler): Value not in list: sampler_name"));
    /* Node 1 is needed by no output that its links reach: its broken link counts, its own inputs do not. */
    assert_null(json_object_get(json_object_get(a, "node_errors"), "1"));
    free(text);
    json_decref(a);
}

static const char *message_of(const char *input, const char *value) {
    static char kept[200];
    char prompt[600];
    snprintf(prompt, sizeof prompt,
             "{\"1\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"golden-sd1.safetensors\"}},"
             "\"2\":{\"class_type\":\"KSampler\",\"inputs\":{\"model\":[\"1\",0],\"%s\":%s}},"
             "\"3\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"samples\":[\"2\",0],\"filename_prefix\":7}}}",
             input, value);
    json_t *a = answer(prompt, NULL, NULL);
    const json_t *faults = json_object_get(json_object_get(json_object_get(a, "node_errors"), "2"), "errors"), *entry;
    size_t i;
    snprintf(kept, sizeof kept, "none");
    json_array_foreach(faults, i, entry) {
        const char *type = json_string_value(json_object_get(entry, "type"));
        if (strcmp(type, "required_input_missing") == 0) continue;
        snprintf(kept, sizeof kept, "%s|%s", type, json_string_value(json_object_get(entry, "message")));
    }
    json_decref(a);
    return kept;
}

/* Words and casts are ComfyUI's: int(), float(), and its lists. */
static void validate__says_it_in_comfyui_s_words(void **state) {
    static const char *const cases[][3] = {
        { "steps", "0", "value_smaller_than_min|Value 0 smaller than min of 1" },
        { "steps", "\"7\"", "none" },
        { "steps", "7.9", "none" },
        { "steps", "\"7.9\"", "invalid_input_type|Failed to convert an input value to a INT value" },
        { "steps", "null", "invalid_input_type|Failed to convert an input value to a INT value" },
        { "steps", "{\"__value__\": 5}", "none" },
        { "steps", "[\"1\", 0]", "return_type_mismatch|Return type mismatch between linked nodes" },
        { "steps", "[1, 2, 3]", "bad_linked_input|Bad linked input, must be a length-2 list of [node_id, slot_index]" },
        { "cfg", "100.5", "value_bigger_than_max|Value 100.5 bigger than max of 100.0" },
        { "denoise", "-1", "value_smaller_than_min|Value -1.0 smaller than min of 0.0" },
        { "denoise", "true", "none" },
        { "seed", "-1", "value_smaller_than_min|Value -1 smaller than min of 0" },
        { "seed", "18446744073709551615", "none" },
        { "seed", "99999999999999999999",
          "value_bigger_than_max|Value 100000000000000016384 bigger than max of 18446744073709551615" },
        { "scheduler", "null", "value_not_in_list|Value not in list" },
        { "scheduler", "3", "value_not_in_list|Value not in list" },
        { "scheduler", "\"AYS SD1\"", "value_not_in_list|Value not in list" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = message_of(cases[i][0], cases[i][1]);
        if (strcmp(got, cases[i][2]) != 0) fail_msg("%s = %s: %s", cases[i][0], cases[i][1], got);
    }
}

/* An output's own faults are repeated in the whole error, as the page shows only that. */
static void validate__whole_error_lists_faults_of_outputs(void **state) {
    (void)state;
    json_t *a = answer("{\"3\":{\"class_type\":\"SaveLatent\",\"inputs\":{\"filename_prefix\":\"x\"}}}", NULL, NULL);
    assert_string_equal(json_string_value(json_object_get(json_object_get(a, "error"), "details")),
                        "Required input is missing: samples");
    json_decref(a);
}

static void validate__missing_inputs_and_short_lists(void **state) {
    (void)state;
    json_t *a =
        answer("{\"1\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"no.safetensors\"}},"
               "\"2\":{\"class_type\":\"VAEDecode\",\"inputs\":{\"vae\":[\"1\",2]}},"
               "\"3\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"2\",0]}}}",
               NULL, NULL);
    assert_string_equal(fault(a, "2", "required_input_missing", "samples"), "samples");
    assert_non_null(strstr(fault(a, "1", "value_not_in_list", "ckpt_name"), "'golden-sd1.safetensors'"));
    json_decref(a);
}

static void validate__unknown_nodes_get_the_nearest_name(void **state) {
    char *text = NULL;
    (void)state;
    json_t *a = answer("{\"7\":{\"class_type\":\"RegionalSamplr\",\"inputs\":{}},\"8\":{\"inputs\":{}}}", &text, NULL);
    const json_t *error = json_object_get(a, "error");
    assert_string_equal(json_string_value(json_object_get(error, "type")), "invalid_prompt");
    assert_string_equal(json_string_value(json_object_get(error, "message")),
                        "Cannot execute because node RegionalSamplr does not exist.");
    assert_string_equal(json_string_value(json_object_get(error, "details")), "Node ID '#7'");
    assert_non_null(strstr(text, "the nearest name is RegionalSampler"));
    assert_non_null(strstr(text, "missing the class_type"));
    free(text);
    json_decref(a);
}

static void validate__cycles_are_refused(void **state) {
    (void)state;
    json_t *a = answer("{\"1\":{\"class_type\":\"InvertMask\",\"inputs\":{\"mask\":[\"2\",0]}},"
                       "\"2\":{\"class_type\":\"InvertMask\",\"inputs\":{\"mask\":[\"1\",0]}},"
                       "\"3\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"2\",0]}},"
                       "\"4\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"3\",0]}}}",
                       NULL, NULL);
    fault(a, "1", "dependency_cycle", "mask");
    json_decref(a);
}

static void validate__good_outputs_run_beside_bad_ones(void **state) {
    int good = 0;
    (void)state;
    json_t *a = answer("{\"1\":{\"class_type\":\"SolidMask\",\"inputs\":{\"value\":0.5,\"width\":8,\"height\":8}},"
                       "\"2\":{\"class_type\":\"MaskToImage\",\"inputs\":{\"mask\":[\"1\",0]}},"
                       "\"3\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"2\",0]}},"
                       "\"4\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"1\",0]}}}",
                       NULL, &good);
    assert_int_equal(good, 1);
    assert_true(json_is_null(json_object_get(a, "error")));
    fault(a, "4", "return_type_mismatch", "images");
    json_decref(a);
}

static void validate__files_stay_in_their_folder(void **state) {
    (void)state;
    json_t *a = answer("{\"1\":{\"class_type\":\"LoadImage\",\"inputs\":{\"image\":\"../README.md\"}},"
                       "\"2\":{\"class_type\":\"PreviewImage\",\"inputs\":{\"images\":[\"1\",0]}}}",
                       NULL, NULL);
    assert_non_null(strstr(fault(a, "1", "custom_validation_failed", "image"), "Invalid file"));
    json_decref(a);
    a = answer("{\"1\":{\"class_type\":\"SaveLatent\",\"inputs\":{}}}", NULL, NULL);
    fault(a, "1", "required_input_missing", "samples");
    json_decref(a);
    a = answer("{\"1\":{\"class_type\":\"SolidMask\",\"inputs\":{}}}", NULL, NULL);
    assert_string_equal(json_string_value(json_object_get(json_object_get(a, "error"), "type")), "prompt_no_outputs");
    json_decref(a);
}

/* --- the table ------------------------------------------------------------------------------------------------------------ */
static void check_input(const tsr__node *row, const tsr__input *input) {
    tsr__names names = { 0 };
    tsr_error err = TSR_ERROR_INIT;
    if (!input->doc || !*input->doc) fail_msg("%s.%s has no documentation", row->name, input->name);
    if ((input->type == TSR__V_INT || input->type == TSR__V_FLOAT) &&
        !(input->min <= input->standard && input->standard <= input->max))
        fail_msg("%s.%s: its default is out of range", row->name, input->name);
    if (input->type == TSR__V_COMBO && !(input->list || input->choices))
        fail_msg("%s.%s has nothing to choose from", row->name, input->name);
    if (input->type == TSR__V_COMBO && input->text) {
        assert_int_equal(tsr__input_choices(&names, input, graph, &err), TSR_OK);
        if (tsr__names_find(&names, input->text) < 0)
            fail_msg("%s.%s: default '%s'", row->name, input->name, input->text);
        tsr__names_clear(&names);
    }
}

static void nodes__rows_are_complete(void **state) {
    (void)state;
    for (int i = 0; i < tsr_node_count(); i++) {
        const tsr__node *row = tsr__node_at(i);
        assert_int_equal(tsr_node_find(row->name), i);
        assert_true(row->run && row->display && row->doc && *row->category);
        assert_true(row->is_output || tsr__node_outputs(row) > 0);
        assert_true(tsr__node_inputs(row) <= TSR__MAX_INPUTS);
        int optional = 0;
        for (int k = 0; row->inputs[k].name; k++) {
            check_input(row, &row->inputs[k]);
            if (optional && !(row->inputs[k].flags & TSR__IN_OPTIONAL))
                fail_msg("%s.%s: required inputs come first", row->name, row->inputs[k].name);
            optional = (row->inputs[k].flags & TSR__IN_OPTIONAL) != 0;
        }
    }
    assert_null(tsr_node_name(tsr_node_count()));
    assert_null(tsr_node_name(-1));
}

static void nodes__object_info_is_comfyui_shaped(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    (void)state;
    assert_int_equal(tsr_node_object_info(&text, graph, NULL, &err), TSR_OK);
    json_t *all = json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
    assert_int_equal(json_object_size(all), tsr_node_count());
    const json_t *node = json_object_get(all, "KSampler");
    const json_t *seed = json_object_get(json_object_get(json_object_get(node, "input"), "required"), "seed");
    assert_true(json_number_value(json_object_get(json_array_get(seed, 1), "max")) > 1.8e19);
    assert_non_null(strstr(text, "\"max\":18446744073709551615"));
    const json_t *loader = json_object_get(all, "CheckpointLoaderSimple");
    const json_t *names =
        json_array_get(json_object_get(json_object_get(json_object_get(loader, "input"), "required"), "ckpt_name"), 0);
    assert_true(json_array_size(names) >= 1);
    tsr_free(text);
    json_decref(all);
}

static void nodes__page_is_current(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    (void)state;
    FILE *file = fopen(TSR_SOURCE_DIR "/docs/nodes.md", "rb");
    assert_non_null(file);
    assert_int_equal(tsr_nodes_markdown(&text, &err), TSR_OK);
    char *page = calloc(1, strlen(text) + 2);
    assert_non_null(page);
    size_t size = fread(page, 1, strlen(text) + 1, file);
    fclose(file);
    if (size != strlen(text) || strcmp(page, text) != 0)
        fail_msg("write it anew: tessera nodes --markdown > docs/nodes.md");
    free(page);
    tsr_free(text);
}

static void nodes__help_names_inputs_and_nearest(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    (void)state;
    assert_int_equal(tsr_node_help(&text, "RegionalSampler", &err), TSR_OK);
    assert_non_null(strstr(text, "additional_sigma_ratio"));
    assert_non_null(strstr(text, "0 to 18446744073709551615"));
    tsr_free(text);
    assert_int_equal(tsr_node_help(&text, "KSamplr", &err), TSR_NOT_FOUND);
    assert_non_null(strstr(err.message, "KSampler"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validate__all_faults_of_all_nodes_are_named),
        cmocka_unit_test(validate__says_it_in_comfyui_s_words),
        cmocka_unit_test(validate__whole_error_lists_faults_of_outputs),
        cmocka_unit_test(validate__missing_inputs_and_short_lists),
        cmocka_unit_test(validate__unknown_nodes_get_the_nearest_name),
        cmocka_unit_test(validate__cycles_are_refused),
        cmocka_unit_test(validate__good_outputs_run_beside_bad_ones),
        cmocka_unit_test(validate__files_stay_in_their_folder),
        cmocka_unit_test(nodes__rows_are_complete),
        cmocka_unit_test(nodes__object_info_is_comfyui_shaped),
        cmocka_unit_test(nodes__page_is_current),
        cmocka_unit_test(nodes__help_names_inputs_and_nearest),
    };
    return cmocka_run_group_tests(tests, open_graph, close_graph);
}
