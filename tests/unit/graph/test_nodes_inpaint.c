/* InpaintModelConditioning, VAEEncodeForInpaint and InstructPixToPixConditioning in workflows, with networks of 9 and 8
 * channels made of the golden one: what they hand to the network is what a scene of the same picture and mask hands to it. */
#include "graph_fixture.h"

#include "graph/graph_priv.h"
#include "inpaint_file.h"
#include "latent_pair.h"
#include "node_runner.h"

static fixture f;

enum { SIDE = 64 };

static void write_picture(const char *name, int mask) {
    char path[200];
    tsr_image *image = NULL;
    assert_int_equal(tsr_image_new(&image, SIDE, SIDE, 3, NULL), TSR_OK);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++)
                image->pixels[(y * SIDE + x) * 3 + c] =
                    (unsigned char)(mask ? (x >= 20 && x < 52 && y >= 12 && y < 44) * 255 : 4 * x ^ (2 * y + 40 * c));
    snprintf(path, sizeof path, "%s/%s", f.input, name);
    assert_int_equal(tsr_image_save(image, path, 0, NULL), TSR_OK);
    tsr_image_free(image);
}

static int setup(void **state) {
    char path[200];
    (void)state;
    fixture_open(&f, NULL);
    snprintf(path, sizeof path, "%s/checkpoints/wide.safetensors", f.models);
    widen_checkpoint(path, "golden-sd1", 5, 0.25);
    snprintf(path, sizeof path, "%s/checkpoints/edit.safetensors", f.models);
    widen_checkpoint(path, "golden-sd1", 4, 0.25);
    write_picture("picture.png", 0);
    write_picture("mask.png", 1);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fixture_close(&f);
    return 0;
}

#define MODEL(file) NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"" file "\"")
#define YES         NODE("2", "CLIPTextEncode", "\"clip\":[\"1\",1],\"text\":\"a cat\"")
#define NO          NODE("3", "CLIPTextEncode", "\"clip\":[\"1\",1],\"text\":\"\"")
#define PICTURE     NODE("4", "LoadImage", "\"image\":\"picture.png\"")
#define MASKING     NODE("5", "LoadImageMask", "\"image\":\"mask.png\",\"channel\":\"red\"")
#define BEGIN(file) "{" MODEL(file) "," YES "," NO "," PICTURE "," MASKING ","
#define MASKED(flag)                                                                                                   \
    NODE("6", "InpaintModelConditioning",                                                                              \
         "\"positive\":[\"2\",0],\"negative\":[\"3\",0],\"vae\":[\"1\",2],\"pixels\":[\"4\",0],\"mask\":[\"5\",0],"    \
         "\"noise_mask\":" flag)
#define CONDITIONING(flag) MASKED(flag) ","
#define HOLE(grow)                                                                                                     \
    NODE("7", "VAEEncodeForInpaint", "\"pixels\":[\"4\",0],\"vae\":[\"1\",2],\"mask\":[\"5\",0],\"grow_mask_by\":" grow)
#define FOR_INPAINT(grow) HOLE(grow) ","
#define SAMPLE(positive, negative, latent)                                                                             \
    NODE("8", "KSampler",                                                                                              \
         "\"model\":[\"1\",0],\"positive\":" positive ",\"negative\":" negative ",\"latent_image\":" latent            \
         ",\"seed\":3,\"steps\":3,\"cfg\":3,\"sampler_name\":\"euler\",\"scheduler\":\"normal\",\"denoise\":1")
#define SAVED(from)                     NODE("9", "SaveLatent", "\"samples\":[\"" from "\",0],\"filename_prefix\":\"l\"")
#define END(positive, negative, latent) SAMPLE(positive, negative, latent) "," SAVED("8") "}"

static tsr_latent *painted(const char *text) {
    tsr_workflow_outputs *outputs = run_text(&f, text);
    tsr_latent *latent = NULL;
    for (int i = 0; i < outputs->count && !latent; i++) {
        latent = outputs->items[i].latent;
        outputs->items[i].latent = NULL;
    }
    assert_non_null(latent);
    tsr_workflow_outputs_free(outputs);
    return latent;
}

#define SCENE_NODE(file, more)                                                                                         \
    NODE("1", "TesseraScene",                                                                                          \
         "\"ckpt_name\":\"" file "\",\"seed\":3,\"scene\":\"{\\\"prompt\\\":\\\"a cat\\\","                            \
         "\\\"negative\\\":\\\"\\\",\\\"steps\\\":3,\\\"cfg\\\":3,\\\"sampler\\\":\\\"euler\\\","                      \
         "\\\"scheduler\\\":\\\"normal\\\",\\\"init_image\\\":\\\"picture.png\\\"" more "}\"")
#define SAVED_SCENE       NODE("9", "SaveLatent", "\"samples\":[\"1\",1],\"filename_prefix\":\"l\"")
#define SCENE(file, more) "{" SCENE_NODE(file, more) "," SAVED_SCENE "}"
#define MASK              ",\\\"mask\\\":\\\"mask.png\\\""

static const char with_conditioning[] =
    BEGIN("wide.safetensors") CONDITIONING("true") END("[\"6\",0]", "[\"6\",1]", "[\"6\",2]");

static void conditioning__is_what_a_scene_hands_to_the_network(void **state) {
    (void)state;
    assert_true(apart(painted(with_conditioning), painted(SCENE("wide.safetensors", MASK))) == 0.0);
    /* The network reads it: under the same noise mask, a picture that is not greyed out paints something else. */
    assert_true(apart(painted(with_conditioning), painted(BEGIN("wide.safetensors") CONDITIONING("true")
                                                              END("[\"2\",0]", "[\"3\",0]", "[\"6\",2]"))) > 0.01);
}

static void noise_mask_off__samples_the_whole(void **state) {
    (void)state;
    tsr_latent *with = painted(with_conditioning), *without = painted(BEGIN("wide.safetensors") CONDITIONING("false")
                                                                          END("[\"6\",0]", "[\"6\",1]", "[\"6\",2]"));
    /* The corner lies outside the mask. */
    assert_true(with->values[0] != without->values[0]);
    assert_true(apart(with, without) > 0.01);
}

/* The run's own mask and latent count as a conditioning's do that brings the same. */
static void encode_for_inpaint__is_seen_by_the_network(void **state) {
    (void)state;
    tsr_latent *own = painted(BEGIN("wide.safetensors") FOR_INPAINT("0") END("[\"2\",0]", "[\"3\",0]", "[\"7\",0]"));
    tsr_latent *given = painted(BEGIN("wide.safetensors") CONDITIONING("true") FOR_INPAINT("0")
                                    END("[\"6\",0]", "[\"6\",1]", "[\"7\",0]"));
    assert_true(apart(own, given) == 0.0);
}

static void plain_models__ignore_it(void **state) {
    (void)state;
    assert_true(apart(painted(BEGIN("one.safetensors") CONDITIONING("true") END("[\"6\",0]", "[\"6\",1]", "[\"6\",2]")),
                      painted(BEGIN("one.safetensors") CONDITIONING("true")
                                  END("[\"2\",0]", "[\"3\",0]", "[\"6\",2]"))) == 0.0);
}

#define EDITED                                                                                                         \
    NODE("6", "InstructPixToPixConditioning",                                                                          \
         "\"positive\":[\"2\",0],\"negative\":[\"3\",0],\"vae\":[\"1\",2],\"pixels\":[\"4\",0]")
#define EDIT    EDITED ","
#define ENCODED NODE("7", "VAEEncode", "\"pixels\":[\"4\",0],\"vae\":[\"1\",2]")
#define ENCODE  ENCODED ","

static void editing_models__see_the_picture(void **state) {
    (void)state;
    tsr_latent *edited = painted(BEGIN("edit.safetensors") EDIT END("[\"6\",0]", "[\"6\",1]", "[\"6\",2]"));
    tsr_latent *blind = painted(BEGIN("edit.safetensors") EDIT END("[\"2\",0]", "[\"3\",0]", "[\"6\",2]"));
    assert_true(apart(edited, blind) > 0.01);
    assert_true(apart(painted(BEGIN("edit.safetensors") EDIT ENCODE END("[\"6\",0]", "[\"6\",1]", "[\"7\",0]")),
                      painted(SCENE("edit.safetensors", ""))) == 0.0);
}

static tsr__value *pictures_of(int n) {
    tsr__value *value = NULL;
    assert_int_equal(tsr__value_pictures(&value, n, 16, 16, 3, NULL), TSR_OK);
    return value;
}

static void masks_of_another_number__are_refused(void **state) {
    node_run run;
    tsr__value *pixels = pictures_of(3), *masks = NULL;
    (void)state;
    assert_int_equal(tsr__value_masks(&masks, 2, 16, 16, NULL), TSR_OK);
    node_begin(&run, "InpaintModelConditioning");
    node_link(&run, "pixels", pixels);
    node_link(&run, "mask", masks);
    node_set(&run, "noise_mask", "true");
    assert_int_equal(node_go(&run), TSR_BAD_ARGUMENT);
    assert_string_equal(run.err.message, "mask: 2 masks for 3 pictures; give one, or one for each");
    node_end(&run);
    tsr__value_unref(pixels);
    tsr__value_unref(masks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditioning__is_what_a_scene_hands_to_the_network),
        cmocka_unit_test(noise_mask_off__samples_the_whole),
        cmocka_unit_test(encode_for_inpaint__is_seen_by_the_network),
        cmocka_unit_test(plain_models__ignore_it),
        cmocka_unit_test(editing_models__see_the_picture),
        cmocka_unit_test(masks_of_another_number__are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
