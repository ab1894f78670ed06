/* test_graph_events.c - what a run tells while it runs, which outputs it runs, and what it writes beside the pictures. */
#include "graph_fixture.h"

#define MASK(id)      NODE(id, "SolidMask", "\"value\":0.5,\"width\":8,\"height\":8")
#define SHOWN(id, of) NODE(id, "MaskToImage", "\"mask\":[\"" of "\",0]")
#define GREY          MASK("1") "," SHOWN("2", "1")

static void events__come_in_order(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    run_only(&f, "{" GREY "," MASK("4") "," SHOWN("5", "4") "," SAVE("6", "5") "," SAVE("3", "2") "}");
    assert_string_equal(f.told, "run[1 2] >4 =4 >5 =5 >6 =6(p_00001_.png) *1 *2 >3 =3(p_00002_.png)");
    fixture_close(&f);
}

#define BAD_SAVE NODE("3", "SaveImage", "\"images\":[\"2\",0],\"filename_prefix\":\"../p\"")

static void events__a_failure_is_told_with_its_message(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *none = NULL;
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    assert_int_equal(try_run(&f, &none, "{" GREY "," BAD_SAVE "}", &err), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(f.told, "run[] >1 =1 >2 =2 >3 !3 filename_prefix: '../p' is not"));
    assert_null(strstr(f.told, "=3"));
    assert_memory_equal(err.message, "node 3 (SaveImage): filename_prefix", 35);
    fixture_close(&f);
}

/* --- previews ------------------------------------------------------------------------------------------------------------------- */
#define MODEL    NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"one.safetensors\"")
#define WANTED   NODE("2", "CLIPTextEncode", "\"text\":\"a tree\",\"clip\":[\"1\",1]")
#define UNWANTED NODE("7", "CLIPTextEncode", "\"text\":\"\",\"clip\":[\"1\",1]")
#define EMPTY    NODE("3", "EmptyLatentImage", "\"width\":128,\"height\":128,\"batch_size\":1")
#define SAMPLED_INPUTS                                                                                                 \
    "\"model\":[\"1\",0],\"positive\":[\"2\",0],\"negative\":[\"7\",0],\"latent_image\":[\"3\",0],\"seed\":5,"         \
    "\"steps\":6,\"cfg\":5,\"sampler_name\":\"euler\",\"scheduler\":\"normal\",\"denoise\":1"
#define SAMPLED NODE("4", "KSampler", SAMPLED_INPUTS)
#define DECODED NODE("5", "VAEDecode", "\"samples\":[\"4\",0],\"vae\":[\"1\",2]")
#define PAINTED "{" MODEL "," WANTED "," UNWANTED "," EMPTY "," SAMPLED "," DECODED "," SAVE("6", "5") "}"

/* Mean difference, 0..255, of a picture and a smaller one that stands for it. */
static double difference(const tsr_image *image, const tsr_image *small) {
    int by = image->width / small->width;
    double sum = 0.0;
    for (int y = 0; y < small->height; y++)
        for (int x = 0; x < small->width; x++)
            for (int k = 0; k < 3; k++) {
                double mean = 0.0;
                for (int i = 0; i < by * by; i++)
                    mean += image->pixels[((y * by + i / by) * image->width + x * by + i % by) * 3 + k];
                double d = mean / (by * by) - small->pixels[(y * small->width + x) * 3 + k];
                sum += d < 0 ? -d : d;
            }
    return sum / (small->width * small->height * 3);
}

static void paint_mean(tsr_image *out, const tsr_image *from) {
    double mean[3] = { 0, 0, 0 };
    for (int i = 0; i < from->width * from->height * 3; i++) mean[i % 3] += from->pixels[i];
    for (int i = 0; i < out->width * out->height * 3; i++)
        out->pixels[i] = (unsigned char)(mean[i % 3] / (from->width * from->height));
}

static void previews__show_the_picture_so_far(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    tsr_workflow_outputs *o = run_text(&f, PAINTED);
    assert_int_equal(f.previews, 0); /* nobody asked */
    tsr_workflow_outputs_free(o);
    f.callbacks.preview_seconds = 1e-9; /* at every step, each for next to nothing: the linear map */
    o = run_text(&f, PAINTED);
    assert_int_equal(f.previews, 6);
    assert_int_equal(f.last_preview->width, 16);
    double shown = difference(o->items[0].image, f.last_preview);
    paint_mean(f.last_preview, o->items[0].image);
    double flat = difference(o->items[0].image, f.last_preview);
    print_message("linear preview: mean difference %.1f of 255, of a flat picture %.1f\n", shown, flat);
    assert_true(shown < 0.75 * flat);
    tsr_workflow_outputs_free(o);
    f.callbacks.preview_seconds = 1000.0; /* once, and as well as it can be done */
    o = run_text(&f, PAINTED);
    assert_int_equal(f.previews, 1);
    assert_int_equal(f.last_preview->width, 128);
    tsr_workflow_outputs_free(o);
    fixture_close(&f);
}

static void previews__change_no_number(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    tsr_workflow_outputs *without = run_text(&f, PAINTED);
    f.callbacks.preview_seconds = 0.001;
    tsr_workflow_outputs *with = run_text(&f, PAINTED);
    assert_true(f.previews > 0);
    assert_memory_equal(with->items[0].image->pixels, without->items[0].image->pixels, 128 * 128 * 3);
    tsr_workflow_outputs_free(without);
    tsr_workflow_outputs_free(with);
    fixture_close(&f);
}

/* --- what runs, what is saved -------------------------------------------------------------------------------------------------- */
#define INVERTED    NODE("4", "ImageInvert", "\"image\":[\"2\",0]")
#define TWO_OUTPUTS "{" GREY "," SAVE("3", "2") "," INVERTED "," SAVE("5", "4") "," NODE("9", "SaveImage", "") "}"

static void targets__only_they_run(void **state) {
    static const char *const picked[] = { "5" }, *const plain[] = { "2" }, *const unknown[] = { "77" };
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *o = NULL;
    tsr_workflow_report *report = NULL;
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    tsr_workflow *w = load_text(TWO_OUTPUTS);
    assert_int_equal(tsr_workflow_set_targets(w, picked, 1, &err), TSR_OK);
    assert_int_equal(tsr_workflow_validate(&report, f.graph, w, &err), TSR_OK);
    assert_int_equal(report->faults, 0); /* node 9 is faulty, and not asked for */
    assert_int_equal(report->good_outputs, 1);
    tsr_workflow_report_free(report);
    assert_int_equal(tsr_workflow_run(&o, f.graph, w, &f.callbacks, &err), TSR_OK);
    assert_string_equal(f.told, "run[] >1 =1 >2 =2 >4 =4 >5 =5(p_00001_.png)");
    tsr_workflow_outputs_free(o);
    assert_int_equal(tsr_workflow_set_targets(w, plain, 1, &err), TSR_OK); /* no output node: nothing to run */
    assert_int_equal(tsr_workflow_validate(&report, f.graph, w, &err), TSR_OK);
    assert_non_null(strstr(report->json, "prompt_no_outputs"));
    tsr_workflow_report_free(report);
    assert_int_equal(tsr_workflow_set_targets(w, unknown, 1, &err), TSR_NOT_FOUND);
    assert_int_equal(tsr_workflow_set_targets(w, NULL, 0, NULL), TSR_OK);
    assert_int_equal(tsr_workflow_validate(&report, f.graph, w, NULL), TSR_OK);
    assert_int_equal(report->good_outputs, 2);
    tsr_workflow_report_free(report);
    tsr_workflow_free(w);
    fixture_close(&f);
}

static tsr_status set_extra(tsr_workflow *w, const char *json) {
    tsr_error err = TSR_ERROR_INIT;
    return tsr_workflow_set_extra(w, json, json ? strlen(json) : 0, &err);
}

static void extra__goes_into_saved_pictures(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *o = NULL;
    tsr_image *image = NULL;
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    tsr_workflow *w = load_text("{" GREY "," SAVE("3", "2") "}");
    assert_int_equal(set_extra(w, "[1]"), TSR_BAD_FORMAT);
    assert_int_equal(set_extra(w, "{\"a\":"), TSR_BAD_FORMAT);
    assert_int_equal(set_extra(w, "{\" a\":1}"), TSR_BAD_FORMAT);
    assert_int_equal(
        set_extra(w, "{\"workflow\":{\"nodes\":[18446744073709551615]},\"note\":\"h\\u00e9\",\"prompt\":1}"), TSR_OK);
    assert_int_equal(tsr_workflow_run(&o, f.graph, w, NULL, &err), TSR_OK);
    assert_int_equal(tsr_image_load(&image, o->items[0].path, &err), TSR_OK);
    assert_string_equal(tsr_image_text(image, "workflow"), "{\"nodes\": [18446744073709551615]}");
    assert_string_equal(tsr_image_text(image, "note"), "\"h\\u00E9\"");
    assert_non_null(strstr(tsr_image_text(image, "prompt"), "SolidMask")); /* the prompt is the prompt */
    tsr_image_free(image);
    tsr_workflow_outputs_free(o);
    assert_int_equal(set_extra(w, NULL), TSR_OK);
    assert_int_equal(tsr_workflow_run(&o, f.graph, w, NULL, &err), TSR_OK);
    assert_null(tsr_image_text(o->items[0].image, "note"));
    tsr_workflow_outputs_free(o);
    tsr_workflow_free(w);
    fixture_close(&f);
}

#define PREVIEW NODE("3", "PreviewImage", "\"images\":[\"2\",0]")

static void temp__holds_what_is_only_shown(void **state) {
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    tsr_workflow_outputs *o = run_text(&f, "{" GREY "," PREVIEW "}");
    const tsr_workflow_output *shown = &o->items[0];
    assert_string_equal(shown->type, "temp");
    assert_string_equal(shown->subfolder, "");
    assert_int_equal(strlen(shown->filename), strlen("ComfyUI_temp_xxxxx_00001_.png"));
    assert_memory_equal(shown->filename, "ComfyUI_temp_", 13);
    assert_string_equal(shown->filename + 18, "_00001_.png");
    for (int i = 13; i < 18; i++) assert_in_range(shown->filename[i], 'a', 'z');
    assert_memory_equal(shown->path, f.temp, strlen(f.temp));
    assert_int_equal(access(shown->path, R_OK), 0);
    tsr_workflow_outputs_free(o);
    assert_int_equal(access(f.output, F_OK), -1);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events__come_in_order),
        cmocka_unit_test(events__a_failure_is_told_with_its_message),
        cmocka_unit_test(previews__show_the_picture_so_far),
        cmocka_unit_test(previews__change_no_number),
        cmocka_unit_test(targets__only_they_run),
        cmocka_unit_test(extra__goes_into_saved_pictures),
        cmocka_unit_test(temp__holds_what_is_only_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
