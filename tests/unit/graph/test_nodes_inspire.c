/* test_nodes_inspire.c - the Inspire Pack's colours, and prompts with LoRA tags, BREAK and options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "node_runner.h"

static tsr_graph *graph;

static int set_up(void **state) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    options.precision = TSR_PRECISION_F32;
    return tsr_graph_open(&graph, &options, NULL) != TSR_OK;
}

static int tear_down(void **state) {
    (void)state;
    tsr_graph_close(graph);
    return 0;
}

static tsr__value *empty_pipe(void) {
    tsr__value *pipe = NULL;
    assert_int_equal(tsr__make_record(&pipe, TSR__V_BASIC_PIPE, "ToBasicPipe", NULL, 0, NULL), TSR_OK);
    return pipe;
}

/* Pixels 0xFF0000, 0x0000FF, 0x000F00. */
static tsr__value *three_pixels(void) {
    static const float pixels[9] = { 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 15.0f / 255.0f, 0.0f };
    tsr__value *picture = NULL;
    assert_int_equal(tsr__value_pictures(&picture, 1, 1, 3, 3, NULL), TSR_OK);
    memcpy(picture->pictures.values, pixels, sizeof pixels);
    return picture;
}

static void colors__are_read_as_the_node_reads_them(void **state) {
    static const struct {
        const char *text;
        int at; /* the pixel that is meant; -1: none, -2: refused */
    } cases[] = { { "\"#FF0000\"", 0 },  { "\"#ff0000\"", 0 }, { "\"red\"", 0 },  { "\"16711680\"", 0 },
                  { "\"Blue\"", 1 },     { "\"255\"", 1 },     { "\"#f00\"", 2 }, { "\"3840\"", 2 },
                  { "\"#FFFFFF\"", -1 }, { "\"FF0000\"", -2 }, { "\"#\"", -2 },   { "\"reddish\"", -2 } };
    tsr__value *pipe = empty_pipe(), *picture = three_pixels();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        node_begin(&run, "RegionalPromptColorMask //Inspire");
        node_link(&run, "basic_pipe", pipe);
        node_link(&run, "color_mask", picture);
        node_set(&run, "mask_color", cases[i].text);
        if (cases[i].at == -2) {
            assert_int_equal(node_go(&run), TSR_BAD_ARGUMENT);
        } else {
            assert_int_equal(node_go(&run), TSR_OK);
            for (int k = 0; k < 3; k++)
                if (run.call.results[1]->masks.items[0]->values[k] != (float)(k == cases[i].at))
                    fail_msg("%s, pixel %d", cases[i].text, k);
        }
        node_end(&run);
    }
    tsr__value_unref(pipe);
    tsr__value_unref(picture);
}

/* Model and text encoder of the golden checkpoint. */
static void open_model(tsr__value **model, tsr__value **clip) {
    node_run run;
    node_begin(&run, "CheckpointLoaderSimple");
    run.call.graph = graph;
    node_set(&run, "ckpt_name", "\"golden-sd1.safetensors\"");
    assert_int_equal(node_go(&run), TSR_OK);
    *model = tsr__value_ref(run.call.results[0]);
    *clip = tsr__value_ref(run.call.results[1]);
    node_end(&run);
}

static tsr__value *encoded(const char *prompt, tsr__value **model, tsr__value **clip) {
    tsr_error err = TSR_ERROR_INIT;
    tsr__value *cond = NULL;
    if (tsr__wildcard_encode(&cond, model, clip, graph, prompt, &err) != TSR_OK) fail_msg("%s", err.message);
    return cond;
}

static int same_values(const tsr__value *a, const tsr__value *b) {
    const tsr__text *x = a->conds[0].text, *y = b->conds[0].text;
    return x->tokens == y->tokens &&
           memcmp(x->values, y->values, (size_t)x->tokens * (size_t)x->width * sizeof(float)) == 0;
}

static void prompts__take_tags(void **state) {
    tsr__value *model, *clip;
    (void)state;
    open_model(&model, &clip);
    tsr__value *plain_model = model, *plain = encoded("a cat", &model, &clip);
    assert_int_equal(plain->conds[0].text->tokens, 77);
    assert_ptr_equal(model, plain_model);
    tsr__value *parts = encoded(" a cat BREAK\na house ", &model, &clip);
    assert_int_equal(parts->conds[0].text->tokens, 2 * 77);
    assert_memory_equal(parts->conds[0].text->values, plain->conds[0].text->values,
                        77 * (size_t)plain->conds[0].text->width * sizeof(float));
    tsr__value *unbroken = encoded("a OUTBREAK", &model, &clip);
    assert_int_equal(unbroken->conds[0].text->tokens, 77);
    tsr__value *chosen = encoded("{a cat|0.5::a cat}", &model, &clip),
               *nested = encoded("a {{cat|cat}|cat}", &model, &clip);
    assert_true(same_values(chosen, plain));
    assert_true(same_values(nested, plain));
    tsr__slot *before = clip->slot;
    tsr__value *adapted = encoded("a cat<lora:lora-kohya:0.8:0.0>", &model, &clip);
    assert_ptr_not_equal(model->slot, before);
    assert_int_equal(model->slot->n_adapters, 1);
    assert_float_equal(model->slot->adapters[0].model, 0.8, 1e-9);
    assert_float_equal(model->slot->adapters[0].clip, 0.0, 1e-9);
    assert_true(same_values(adapted, plain));
    tsr_error err = TSR_ERROR_INIT;
    tsr__value *none = NULL;
    assert_int_equal(tsr__wildcard_encode(&none, &model, &clip, graph, "<lora:nobody:1>", &err), TSR_NOT_FOUND);
    assert_non_null(strstr(err.message, "nobody"));
    tsr__value *all[] = { plain, parts, unbroken, chosen, nested, adapted, model, clip };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) tsr__value_unref(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colors__are_read_as_the_node_reads_them),
        cmocka_unit_test(prompts__take_tags),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
