/* test_graph_cache.c - results and models kept from run to run: what runs again, what does not, and what is forgotten. */
#include "graph_fixture.h"

#include "graph/node.h"

#define MASK(id, value)  NODE(id, "SolidMask", "\"value\":" value ",\"width\":64,\"height\":64")
#define SHOWN(id, of)    NODE(id, "MaskToImage", "\"mask\":[\"" of "\",0]")
#define GREY(value)      MASK("1", value) "," SHOWN("2", "1")
#define SAVED(value)     "{" GREY(value) "," SAVE("3", "2") "}"
#define PREVIEWED(value) "{" GREY(value) "," NODE("3", "PreviewImage", "\"images\":[\"2\",0]") "}"

static fixture open_with(size_t cache_memory, size_t model_memory) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    fixture f;
    options.cache_memory = cache_memory;
    options.model_memory = model_memory;
    fixture_open(&f, &options);
    return f;
}

/* The graph's callbacks point at the fixture, which must not move afterwards. */
#define FIXTURE(cache, models)                                                                                         \
    fixture f = open_with(cache, models);                                                                              \
    f.callbacks.user = &f

static void cache__nothing_is_kept_unless_asked(void **state) {
    (void)state;
    FIXTURE(0, 0);
    for (int i = 0; i < 2; i++) {
        tsr_workflow_outputs *o = run_text(&f, SAVED("0.5"));
        assert_int_equal(o->nodes_run, 3);
        assert_non_null(o->items[0].image);
        tsr_workflow_outputs_free(o);
    }
    assert_int_equal(tsr_graph_get_memory(f.graph).results, 0);
    fixture_close(&f);
}

#define OTHER_PREFIX NODE("8", "SaveImage", "\"filename_prefix\":\"q\",\"images\":[\"7\",0]")
#define OTHER_MASK   NODE("6", "SolidMask", "\"height\":64,\"width\":64,\"value\":0.5")
#define REORDERED    "{" OTHER_PREFIX "," SHOWN("7", "6") "," OTHER_MASK "}"

static void cache__unchanged_nodes_do_not_run_again(void **state) {
    (void)state;
    FIXTURE(1 << 20, 0);
    run_only(&f, SAVED("0.5"));
    assert_string_equal(f.told, "run[] >1 =1 >2 =2 >3 =3(p_00001_.png)");
    tsr_workflow_outputs *o = run_text(&f, SAVED("0.5"));
    assert_string_equal(f.told, "run[1 2 3] *1 *2 *3(p_00001_.png)");
    assert_int_equal(o->nodes_run, 0);
    assert_int_equal(o->nodes_cached, 3);
    assert_string_equal(o->items[0].type, "output");
    assert_int_equal(access(o->items[0].path, R_OK), 0);
    tsr_workflow_outputs_free(o);
    /* Another prefix: what leads to it is known. Another order and other ids: still the same. */
    run_only(&f, REORDERED);
    assert_string_equal(f.told, "run[6 7] *6 *7 >8 =8(q_00001_.png)");
    run_only(&f, SAVED("0.25"));
    assert_string_equal(f.told, "run[] >1 =1 >2 =2 >3 =3(p_00002_.png)");
    fixture_close(&f);
}

static void cache__equal_outputs_keep_their_own_files(void **state) {
    static const char text[] = "{" GREY("0.5") "," SAVE("3", "2") "," SAVE("4", "2") "}";
    (void)state;
    FIXTURE(1 << 20, 0);
    run_only(&f, text);
    assert_string_equal(f.told, "run[] >1 =1 >2 =2 >3 =3(p_00001_.png) >4 =4(p_00002_.png)");
    run_only(&f, text);
    assert_string_equal(f.told, "run[1 2 3 4] *1 *2 *3(p_00001_.png) *4(p_00002_.png)");
    fixture_close(&f);
}

/* The chain above an output that is known is not wanted, whether it is known or not. */
static void cache__outputs_whose_file_changed_run_again(void **state) {
    char path[200];
    (void)state;
    FIXTURE(1 << 20, 0);
    run_only(&f, SAVED("0.5"));
    snprintf(path, sizeof path, "%s/p_00001_.png", f.output);
    assert_int_equal(unlink(path), 0);
    run_only(&f, SAVED("0.5"));
    assert_string_equal(f.told, "run[1 2] *1 *2 >3 =3(p_00001_.png)");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("something else", file);
    fclose(file);
    run_only(&f, SAVED("0.5"));
    assert_string_equal(f.told, "run[1 2] *1 *2 >3 =3(p_00002_.png)");
    fixture_close(&f);
}

static void cache__least_recently_used_go_first(void **state) {
    /* A picture of 64x64 takes 48 KiB and its mask 16: two of the three fit. */
    enum { LIMIT = 150 << 10 };
    (void)state;
    FIXTURE(LIMIT, 0);
    run_only(&f, SAVED("0.1"));
    run_only(&f, SAVED("0.2"));
    assert_true(tsr_graph_get_memory(f.graph).results > 128 << 10);
    run_only(&f, SAVED("0.1"));
    assert_string_equal(f.told, "run[1 2 3] *1 *2 *3(p_00001_.png)");
    run_only(&f, SAVED("0.3"));
    assert_true(tsr_graph_get_memory(f.graph).results <= LIMIT);
    run_only(&f, PREVIEWED("0.2"));
    assert_non_null(strstr(f.told, ">1 =1 >2"));
    assert_true(tsr_graph_get_memory(f.graph).results <= LIMIT);
    fixture_close(&f);
}

static void cache__what_is_larger_than_all_is_not_kept(void **state) {
    (void)state;
    FIXTURE(20 << 10, 0); /* the mask fits, the picture does not */
    run_only(&f, SAVED("0.1"));
    run_only(&f, PREVIEWED("0.1"));
    assert_non_null(strstr(f.told, "run[1] *1 >2 =2 >3"));
    fixture_close(&f);
}

static void write_picture(const fixture *f, unsigned char grey) {
    char path[200];
    tsr_image *image = NULL;
    assert_int_equal(tsr_image_new(&image, 8, 8, 3, NULL), TSR_OK);
    memset(image->pixels, grey, 8 * 8 * 3);
    snprintf(path, sizeof path, "%s/in.png", f->input);
    assert_int_equal(tsr_image_save(image, path, 0, NULL), TSR_OK);
    tsr_image_free(image);
}

#define LOADED   NODE("1", "LoadImage", "\"image\":\"in.png\"")
#define INVERTED NODE("2", "ImageInvert", "\"image\":[\"1\",0]")

static void cache__changed_files_are_read_again(void **state) {
    static const char text[] = "{" LOADED "," INVERTED "," SAVE("3", "2") "}";
    (void)state;
    FIXTURE(1 << 20, 0);
    write_picture(&f, 10);
    run_only(&f, text);
    run_only(&f, text);
    assert_string_equal(f.told, "run[1 2 3] *1 *2 *3(p_00001_.png)");
    write_picture(&f, 20);
    tsr_workflow_outputs *o = run_text(&f, text);
    assert_string_equal(f.told, "run[] >1 =1 >2 =2 >3 =3(p_00002_.png)");
    assert_int_equal(o->items[0].image->pixels[0], 235);
    tsr_workflow_outputs_free(o);
    fixture_close(&f);
}

/* Adapters that a prompt may name by a tag: another file among them makes the prompt another. */
static void cache__prompts_with_adapters_watch_their_folder(void **state) {
    static const char tagged[] =
        "{" GREY("0.5") "," NODE("3", "SaveImage", "\"images\":[\"2\",0],\"filename_prefix\":\"lora\"") "}";
    char command[300];
    (void)state;
    FIXTURE(1 << 20, 0);
    snprintf(command, sizeof command, "mkdir %s/loras && echo 1 > %s/loras/a.safetensors", f.models, f.models);
    assert_int_equal(system(command), 0);
    run_only(&f, tagged);
    run_only(&f, tagged);
    assert_non_null(strstr(f.told, "run[1 2 3]"));
    snprintf(command, sizeof command, "echo 22 > %s/loras/a.safetensors", f.models);
    assert_int_equal(system(command), 0);
    run_only(&f, tagged);
    assert_non_null(strstr(f.told, "run[1 2] *1 *2 >3"));
    fixture_close(&f);
}

/* Every choice that lists files says of which folder, or a changed file would go unnoticed. */
static void cache__all_choices_of_files_have_a_folder(void **state) {
    int folders = 0;
    (void)state;
    for (int i = 0; tsr__node_at(i); i++)
        for (const tsr__input *input = tsr__node_at(i)->inputs; input->name; input++) {
            tsr__names names = { 0 };
            if (!input->choices) continue;
            assert_int_equal(input->choices(&names, NULL, NULL), TSR_OK);
            if (names.count == 0 && !tsr__choices_folder(input->choices))
                fail_msg("%s.%s lists files of no known folder", tsr__node_at(i)->name, input->name);
            folders += names.count == 0;
            tsr__names_clear(&names);
        }
    assert_true(folders > 3);
}

static void cache__can_be_released(void **state) {
    (void)state;
    FIXTURE(1 << 20, 0);
    run_only(&f, SAVED("0.5"));
    assert_true(tsr_graph_get_memory(f.graph).results > 0);
    tsr_graph_release(f.graph, 0);
    assert_int_equal(tsr_graph_get_memory(f.graph).results, 0);
    run_only(&f, SAVED("0.5"));
    assert_string_equal(f.told, "run[] >1 =1 >2 =2 >3 =3(p_00002_.png)");
    fixture_close(&f);
}

/* --- with a model --------------------------------------------------------------------------------------------------------------- */
#define MODEL(name) NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"" name ".safetensors\"")
#define TEXT        NODE("2", "CLIPTextEncode", "\"text\":\"a tree\",\"clip\":[\"1\",1]")
#define EMPTY       NODE("3", "EmptyLatentImage", "\"width\":64,\"height\":64,\"batch_size\":1")
#define SAMPLED_INPUTS(seed)                                                                                           \
    "\"model\":[\"1\",0],\"positive\":[\"2\",0],\"negative\":[\"2\",0],\"latent_image\":[\"3\",0],\"seed\":" seed      \
    ",\"steps\":2,\"cfg\":1,\"sampler_name\":\"euler\",\"scheduler\":\"normal\",\"denoise\":1"
#define SAMPLED(seed)        NODE("4", "KSampler", SAMPLED_INPUTS(seed))
#define SAVED_LATENT         NODE("5", "SaveLatent", "\"samples\":[\"4\",0],\"filename_prefix\":\"l\"")
#define PAINTED(model, seed) "{" MODEL(model) "," TEXT "," EMPTY "," SAMPLED(seed) "," SAVED_LATENT "}"

static void expect_equal(const tsr_workflow_outputs *a, const tsr_workflow_outputs *b) {
    assert_memory_equal(a->items[0].latent->values, b->items[0].latent->values,
                        tsr_latent_count(a->items[0].latent) * sizeof(float));
}

/* The engine of a kept MODEL is closed by the run with another model, and opened again. */
static void models__kept_values_open_their_model_again(void **state) {
    (void)state;
    FIXTURE(16 << 20, 0);
    run_only(&f, PAINTED("one", "1"));
    assert_int_equal(tsr_graph_get_memory(f.graph).model_count, 1);
    assert_true(tsr_graph_get_memory(f.graph).models > 100 << 20); /* 33 million float32 values */
    run_only(&f, PAINTED("two", "1"));
    assert_int_equal(tsr_graph_get_memory(f.graph).model_count, 1);
    tsr_workflow_outputs *kept = run_text(&f, PAINTED("one", "2"));
    assert_string_equal(f.told, "run[1 2 3] *1 *2 *3 >4 =4 >5 =5(l_00003_.latent)");
    open_graph(&f, NULL);
    tsr_workflow_outputs *fresh = run_text(&f, PAINTED("one", "2"));
    assert_int_equal(fresh->nodes_run, 5);
    expect_equal(kept, fresh);
    tsr_workflow_outputs_free(kept);
    tsr_workflow_outputs_free(fresh);
    fixture_close(&f);
}

static void models__stay_open_within_their_memory(void **state) {
    (void)state;
    FIXTURE(0, (size_t)1 << 30);
    run_only(&f, PAINTED("one", "1"));
    run_only(&f, PAINTED("two", "1"));
    run_only(&f, SAVED("0.5"));
    assert_int_equal(tsr_graph_get_memory(f.graph).model_count, 2);
    tsr_graph_release(f.graph, 1);
    assert_int_equal(tsr_graph_get_memory(f.graph).model_count, 0);
    assert_int_equal(tsr_graph_get_memory(f.graph).models, 0);
    run_only(&f, PAINTED("one", "1"));
    fixture_close(&f);
}

/* One model's memory: of two idle ones the older goes. */
static void models__the_longest_idle_goes_first(void **state) {
    (void)state;
    FIXTURE(0, (size_t)200 << 20);
    run_only(&f, PAINTED("one", "1"));
    run_only(&f, PAINTED("two", "1"));
    assert_int_equal(tsr_graph_get_memory(f.graph).model_count, 2);
    run_only(&f, SAVED("0.5"));
    assert_int_equal(tsr_graph_get_memory(f.graph).model_count, 1);
    fixture_close(&f);
}

static void models__a_replaced_file_is_another_model(void **state) {
    char command[500];
    (void)state;
    FIXTURE(16 << 20, (size_t)1 << 30);
    run_only(&f, PAINTED("one", "1"));
    snprintf(command, sizeof command,
             "rm %s/checkpoints/one.safetensors && cp %s/checkpoints/two.safetensors %s/checkpoints/one.safetensors",
             f.models, f.models, f.models);
    assert_int_equal(system(command), 0);
    run_only(&f, PAINTED("one", "1"));
    assert_non_null(strstr(f.told, "run[3] >1 =1 >2 =2 *3 >4 =4"));
    assert_int_equal(tsr_graph_get_memory(f.graph).model_count, 2);
    fixture_close(&f);
}

/* Stopped in the middle of sampling; what was done before is kept, and the next run gives what a run from scratch gives. */
static void cache__a_stopped_run_leaves_it_usable(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *none = NULL;
    (void)state;
    FIXTURE(16 << 20, (size_t)1 << 30);
    f.stop_at = 2;
    assert_int_equal(try_run(&f, &none, PAINTED("one", "7"), &err), TSR_CANCELLED);
    assert_string_equal(f.told, "run[] >1 =1 >2 =2 >3 =3 >4"); /* no failure is told */
    f.stop_at = 0;
    tsr_workflow_outputs *after = run_text(&f, PAINTED("one", "7"));
    assert_string_equal(f.told, "run[1 2 3] *1 *2 *3 >4 =4 >5 =5(l_00001_.latent)");
    open_graph(&f, NULL);
    tsr_workflow_outputs *fresh = run_text(&f, PAINTED("one", "7"));
    expect_equal(after, fresh);
    tsr_workflow_outputs_free(after);
    tsr_workflow_outputs_free(fresh);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache__nothing_is_kept_unless_asked),
        cmocka_unit_test(cache__unchanged_nodes_do_not_run_again),
        cmocka_unit_test(cache__equal_outputs_keep_their_own_files),
        cmocka_unit_test(cache__outputs_whose_file_changed_run_again),
        cmocka_unit_test(cache__least_recently_used_go_first),
        cmocka_unit_test(cache__what_is_larger_than_all_is_not_kept),
        cmocka_unit_test(cache__changed_files_are_read_again),
        cmocka_unit_test(cache__prompts_with_adapters_watch_their_folder),
        cmocka_unit_test(cache__all_choices_of_files_have_a_folder),
        cmocka_unit_test(cache__can_be_released),
        cmocka_unit_test(models__kept_values_open_their_model_again),
        cmocka_unit_test(models__stay_open_within_their_memory),
        cmocka_unit_test(models__the_longest_idle_goes_first),
        cmocka_unit_test(models__a_replaced_file_is_another_model),
        cmocka_unit_test(cache__a_stopped_run_leaves_it_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
