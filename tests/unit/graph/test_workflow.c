/* test_workflow.c - reading workflows: API format, UI format, pictures, what is refused, and changes from outside. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tessera/graph.h"
#include "tessera/solver.h"

static tsr_workflow *load(const char *text) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    if (tsr_workflow_load_memory(&workflow, text, strlen(text), &err) != TSR_OK) fail_msg("%s", err.message);
    return workflow;
}

/* The workflow in API format, parsed. */
static json_t *api_of(const tsr_workflow *workflow) {
    char *text = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr_workflow_json(&text, workflow, &err), TSR_OK);
    json_t *json = json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
    tsr_free(text);
    assert_non_null(json);
    return json;
}

static void refused(const char *text, tsr_status expected, const char *words) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = (tsr_workflow *)&err;
    assert_int_equal(tsr_workflow_load_memory(&workflow, text, strlen(text), &err), expected);
    assert_null(workflow);
    if (!strstr(err.message, words)) fail_msg("'%s' does not say '%s'", err.message, words);
}

static void workflow__big_seeds_and_nan_survive(void **state) {
    char *text = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    tsr_workflow *w = load("{\"1\":{\"class_type\":\"RandomNoise\",\"inputs\":{\"noise_seed\":18446744073709551615,"
                           "\"x\":NaN,\"text\":\"1234567890123456789012 NaN\"}}}");
    assert_int_equal(tsr_workflow_json(&text, w, &err), TSR_OK);
    assert_non_null(strstr(text, "\"noise_seed\": 18446744073709551615"));
    assert_non_null(strstr(text, "\"x\": null"));
    assert_non_null(strstr(text, "\"1234567890123456789012 NaN\""));
    tsr_free(text);
    tsr_workflow_free(w);
}

static void workflow__refuses_what_is_none(void **state) {
    char deep[400];
    (void)state;
    refused("", TSR_BAD_FORMAT, "JSON");
    refused("[]", TSR_BAD_FORMAT, "JSON object");
    refused("{\"1\":[]}", TSR_BAD_FORMAT, "'1' is not a node");
    refused("{\"1\":{\"class_type\":\"KSampler\",\"inputs\":3}}", TSR_BAD_FORMAT, "node 1");
    refused("{\"1\":{\"class_type\":\"KSampler\"},\"1\":{}}", TSR_BAD_FORMAT, "duplicate");
    refused("{\"nodes\":[{\"id\":1,\"type\":\"A\"},{\"id\":1,\"type\":\"B\"}],\"links\":[]}", TSR_BAD_FORMAT,
            "two nodes");
    refused("{\"nodes\":[{\"type\":\"A\"}],\"links\":[]}", TSR_BAD_FORMAT, "no id");
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    refused(deep, TSR_TOO_LARGE, "levels");
}

static void workflow__has_a_limit_of_nodes(void **state) {
    size_t size = 0, cap = (TSR_WORKFLOW_MAX_NODES + 1) * 40 + 8;
    char *text = malloc(cap);
    (void)state;
    assert_non_null(text);
    size += (size_t)snprintf(text, cap, "{");
    for (int i = 0; i <= TSR_WORKFLOW_MAX_NODES; i++)
        size += (size_t)snprintf(text + size, cap - size, "%s\"%d\":{\"class_type\":\"A\"}", i ? "," : "", i);
    snprintf(text + size, cap - size, "}");
    refused(text, TSR_TOO_LARGE, "nodes");
    free(text);
}

/* A drawn graph with everything that the page resolves: a reroute, a primitive, a bypassed LoraLoader, a muted preview, a
 * note, control_after_generate behind the seed. */
static const char DRAWN[] =
    "{\"nodes\":["
    "{\"id\":1,\"type\":\"CheckpointLoaderSimple\",\"mode\":0,\"outputs\":[{\"type\":\"MODEL\"},{\"type\":\"CLIP\"},"
    "{\"type\":\"VAE\"}],\"widgets_values\":[\"m.safetensors\"]},"
    "{\"id\":2,\"type\":\"LoraLoader\",\"mode\":4,\"inputs\":[{\"name\":\"model\",\"type\":\"MODEL\",\"link\":10},"
    "{\"name\":\"clip\",\"type\":\"CLIP\",\"link\":11}],\"outputs\":[{\"type\":\"MODEL\"},{\"type\":\"CLIP\"}],"
    "\"widgets_values\":[\"l.safetensors\",1,1]},"
    "{\"id\":3,\"type\":\"Reroute\",\"inputs\":[{\"name\":\"\",\"type\":\"*\",\"link\":12}],\"outputs\":[{\"type\":\"*"
    "\"}]},"
    "{\"id\":4,\"type\":\"PrimitiveNode\",\"outputs\":[{\"type\":\"INT\"}],\"widgets_values\":[77,\"fixed\"]},"
    "{\"id\":5,\"type\":\"KSampler\",\"title\":\"Paint\",\"mode\":0,\"inputs\":[{\"name\":\"model\",\"type\":\"MODEL\","
    "\"link\":13},{\"name\":\"steps\",\"type\":\"INT\",\"link\":14,\"widget\":{\"name\":\"steps\"}},{\"name\":"
    "\"positive\","
    "\"type\":\"CONDITIONING\",\"link\":null}],\"outputs\":[{\"type\":\"LATENT\"}],"
    "\"widgets_values\":[5,\"randomize\",20,7.5,\"euler\",\"karras\",0.5]},"
    "{\"id\":6,\"type\":\"PreviewImage\",\"mode\":2,\"inputs\":[{\"name\":\"images\",\"type\":\"IMAGE\",\"link\":15}]},"
    "{\"id\":7,\"type\":\"Note\",\"widgets_values\":[\"hello\"]},"
    "{\"id\":8,\"type\":\"VAEDecode\",\"inputs\":[{\"name\":\"samples\",\"type\":\"LATENT\",\"link\":16},{\"name\":"
    "\"vae\","
    "\"type\":\"VAE\",\"link\":17}],\"outputs\":[{\"type\":\"IMAGE\"}]}],"
    "\"links\":[[10,1,0,2,0,\"MODEL\"],[11,1,1,2,1,\"CLIP\"],[12,2,0,3,0,\"MODEL\"],[13,3,0,5,0,\"*\"],"
    "[14,4,0,5,1,\"INT\"],[15,8,0,6,0,\"IMAGE\"],[16,5,0,8,0,\"LATENT\"],"
    "{\"id\":17,\"origin_id\":1,\"origin_slot\":2,\"target_id\":8,\"target_slot\":1,\"type\":\"VAE\"}],"
    "\"groups\":[{\"title\":\"all\"}],\"version\":0.4}";

static void workflow__ui_format_becomes_what_runs(void **state) {
    (void)state;
    tsr_workflow *w = load(DRAWN);
    json_t *api = api_of(w),
           *expected = json_loads(
               "{\"1\":{\"class_type\":\"CheckpointLoaderSimple\",\"inputs\":{\"ckpt_name\":\"m.safetensors\"},"
               "\"_meta\":{\"title\":\"CheckpointLoaderSimple\"}},"
               "\"5\":{\"class_type\":\"KSampler\",\"inputs\":{\"seed\":5,\"steps\":77,\"cfg\":7.5,\"sampler_name\":"
               "\"euler\","
               "\"scheduler\":\"karras\",\"denoise\":0.5,\"model\":[\"1\",0]},\"_meta\":{\"title\":\"Paint\"}},"
               "\"8\":{\"class_type\":\"VAEDecode\",\"inputs\":{\"samples\":[\"5\",0],\"vae\":[\"1\",2]},"
               "\"_meta\":{\"title\":\"VAEDecode\"}}}",
               JSON_DECODE_INT_AS_REAL, NULL);
    char *text = json_dumps(api, JSON_SORT_KEYS), *wanted = json_dumps(expected, JSON_SORT_KEYS);
    assert_string_equal(text, wanted);
    free(text);
    free(wanted);
    json_decref(api);
    json_decref(expected);
    tsr_workflow_free(w);
}

/* RegionalSampler has a widget whose own choices are words that may also stand behind a seed. */
static void workflow__seed_modes_are_not_taken_for_controls(void **state) {
    (void)state;
    tsr_workflow *w =
        load("{\"nodes\":[{\"id\":1,\"type\":\"RegionalSampler\",\"widgets_values\":[9,\"fixed\",3,\"increment\","
             "20,2,1,10,true,\"DISABLE\",\"AUTO\",0.25]}],\"links\":[]}");
    json_t *api = api_of(w), *in = json_object_get(json_object_get(api, "1"), "inputs");
    assert_true(json_number_value(json_object_get(in, "seed")) == 9.0);
    assert_true(json_number_value(json_object_get(in, "seed_2nd")) == 3.0);
    assert_string_equal(json_string_value(json_object_get(in, "seed_2nd_mode")), "increment");
    assert_string_equal(json_string_value(json_object_get(in, "additional_mode")), "DISABLE");
    assert_true(json_number_value(json_object_get(in, "additional_sigma_ratio")) == 0.25);
    json_decref(api);
    tsr_workflow_free(w);
}

static void workflow__rings_of_reroutes_end(void **state) {
    (void)state;
    tsr_workflow *w =
        load("{\"nodes\":[{\"id\":1,\"type\":\"Reroute\",\"inputs\":[{\"link\":2}]},{\"id\":2,\"type\":"
             "\"Reroute\",\"inputs\":[{\"link\":1}]},{\"id\":3,\"type\":\"InvertMask\",\"inputs\":"
             "[{\"name\":\"mask\",\"type\":\"MASK\",\"link\":1}]}],\"links\":[[1,1,0,2,0,\"*\"],[2,2,0,1,0,\"*\"]]}");
    json_t *api = api_of(w);
    assert_int_equal(json_object_size(json_object_get(json_object_get(api, "3"), "inputs")), 0);
    json_decref(api);
    tsr_workflow_free(w);
}

static void workflow__pictures_carry_it(void **state) {
    static const char prompt[] = "{\"1\":{\"class_type\":\"SolidMask\",\"inputs\":{\"value\":0.5}}}";
    tsr_error err = TSR_ERROR_INIT;
    tsr_image *image = NULL;
    tsr_workflow *w = NULL;
    void *bytes = NULL;
    size_t size = 0;
    (void)state;
    assert_int_equal(tsr_image_new(&image, 2, 2, 3, &err), TSR_OK);
    assert_int_equal(tsr_image_save_memory(&bytes, &size, image, ".png", 0, &err), TSR_OK);
    assert_int_equal(tsr_workflow_load_memory(&w, bytes, size, NULL), TSR_NOT_FOUND);
    free(bytes);
    assert_int_equal(tsr_image_set_text(image, "prompt", prompt, &err), TSR_OK);
    assert_int_equal(tsr_image_save_memory(&bytes, &size, image, ".png", 0, &err), TSR_OK);
    assert_int_equal(tsr_workflow_load_memory(&w, bytes, size, &err), TSR_OK);
    json_t *api = api_of(w);
    assert_string_equal(json_string_value(json_object_get(json_object_get(api, "1"), "class_type")), "SolidMask");
    json_decref(api);
    free(bytes);
    tsr_image_free(image);
    tsr_workflow_free(w);
}

static void set_fails(tsr_workflow *w, const char *target, tsr_status expected, const char *words) {
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr_workflow_set(w, target, "1", &err), expected);
    if (!strstr(err.message, words)) fail_msg("'%s' does not say '%s'", err.message, words);
}

static void workflow__values_can_be_set(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    (void)state;
    tsr_workflow *w = load(DRAWN);
    assert_int_equal(tsr_workflow_set(w, "5.seed", "18446744073709551615", &err), TSR_OK);
    assert_int_equal(tsr_workflow_set(w, "Paint.cfg", "3", &err), TSR_OK);
    assert_int_equal(tsr_workflow_set(w, "5.sampler_name", "heun", &err), TSR_OK);
    assert_int_equal(tsr_workflow_json(&text, w, &err), TSR_OK);
    assert_non_null(strstr(text, "\"seed\": \"18446744073709551615\""));
    assert_non_null(strstr(text, "\"cfg\": 3.0"));
    assert_non_null(strstr(text, "\"sampler_name\": \"heun\""));
    set_fails(w, "seed", TSR_BAD_ARGUMENT, "NODE.INPUT");
    set_fails(w, "99.seed", TSR_NOT_FOUND, "99");
    set_fails(w, "5.sede", TSR_NOT_FOUND, "seed");
    set_fails(w, "5.model", TSR_BAD_ARGUMENT, "only a link");
    tsr_free(text);
    tsr_workflow_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workflow__big_seeds_and_nan_survive),
        cmocka_unit_test(workflow__refuses_what_is_none),
        cmocka_unit_test(workflow__has_a_limit_of_nodes),
        cmocka_unit_test(workflow__ui_format_becomes_what_runs),
        cmocka_unit_test(workflow__seed_modes_are_not_taken_for_controls),
        cmocka_unit_test(workflow__rings_of_reroutes_end),
        cmocka_unit_test(workflow__pictures_carry_it),
        cmocka_unit_test(workflow__values_can_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
