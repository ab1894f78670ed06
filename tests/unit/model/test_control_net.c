/* ControlNet and T2I-Adapter against PyTorch code written for the test (control_reference.py): residuals, and the UNet's
 * output with and without them; what single samples of a batch get; files that are no control network or one of another
 * family. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <unistd.h>

#include "control_expected.inc"
#include "control_file.h"
#include "golden_file.h"
#include "model/control_net.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

enum { H = 8, W = 12, COUNT = 4 * H * W, TOKENS = 7, MOST = 2048, KEPT = 16 };
static const float STRENGTH = 0.7f, TIMESTEP = 437.0f;

typedef struct fixture {
    char path[128];
    tsr__nn *nn;
    tsr__weights *checkpoint, *file;
    tsr__unet *unet;
    tsr__control_net *net;
    tsr__unet_context *text, *own_text;
    tsr__control_hint hint;
    float x[COUNT], label[MOST];
    float picture[3 * 8 * H * 8 * W];
    const float *labels[2];
    int labelled;
} fixture;

static void open_fixture(fixture *f, const char *tag, const char *prefix, int adapter) {
    static float text[TOKENS * MOST];
    tsr__nn_options options = { TSR__F32, 2 };
    memset(f, 0, sizeof *f);
    snprintf(f->path, sizeof f->path, "%s/tessera-control-%ld.safetensors",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (long)getpid());
    if (adapter) adapter_file_write(f->path);
    else control_file_write(f->path, tag, prefix);
    OK(tsr__nn_new(&f->nn, &options, &err));
    OK(tsr__weights_open(&f->checkpoint,
                         strcmp(tag, "sd1") == 0 ? TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"
                                                 : TSR_GOLDEN_DIR "/checkpoints/tiny-sdxl.safetensors",
                         &err));
    OK(tsr__unet_new(&f->unet, f->nn, f->checkpoint, "model.diffusion_model", NULL, &err));
    OK(tsr__weights_open(&f->file, f->path, &err));
    OK(tsr__control_net_new(&f->net, f->nn, f->file, &err));
    OK(tsr__control_net_fits(f->net, f->unet, "the test's", &err));
    numbers(text, "text", (size_t)TOKENS * (size_t)tsr__unet_context_width(f->unet), 1.0, 0.0);
    numbers(f->x, "x", COUNT, 1.0, 0.0);
    numbers(f->picture, "picture", sizeof f->picture / sizeof(float), 0.5, 0.5);
    numbers(f->label, "label", (size_t)tsr__unet_label_width(f->unet), 1.0, 0.0);
    f->labels[0] = f->labels[1] = f->label;
    f->labelled = tsr__unet_label_width(f->unet) > 0;
    OK(tsr__unet_context_new(&f->text, f->unet, text, TOKENS, &err));
    if (!adapter) OK(tsr__unet_context_new(&f->own_text, tsr__control_net_unet(f->net), text, TOKENS, &err));
    OK(tsr__control_net_hint(&f->hint, f->net, f->picture, H, W, &err));
}

static void close_fixture(fixture *f) {
    tsr__control_hint_clear(f->net, &f->hint);
    tsr__unet_context_free(f->text);
    tsr__unet_context_free(f->own_text);
    tsr__control_net_free(f->net);
    tsr__unet_free(f->unet);
    tsr__weights_close(f->file);
    tsr__weights_close(f->checkpoint);
    tsr__nn_free(f->nn);
    unlink(f->path);
}

static void compare(const char *what, const float *got, const float *want, size_t count) {
    double worst = max_abs_diff(got, want, count) / max_abs(want, count);
    print_message("%s: worst %.2e\n", what, worst);
    if (!(worst <= 2e-4)) fail_msg("%s differs by %.2e", what, worst);
}

/* n equal samples; those listed get the control. */
static void run(fixture *f, float *out, int n, const int *samples, int m, float strength) {
    static float x[2 * COUNT];
    const float times[2] = { TIMESTEP, TIMESTEP }, strengths[2] = { strength, strength };
    tsr__unet_context *texts[2] = { f->text, f->text }, *own[2] = { f->own_text, f->own_text };
    const tsr__control_hint *hints[2] = { &f->hint, &f->hint };
    tsr__unet_control control = { .m = m, .samples = samples, .strengths = strengths };
    tsr__tensor *tensors = NULL;
    for (int i = 0; i < n; i++) memcpy(x + (size_t)i * COUNT, f->x, sizeof f->x);
    if (m)
        OK(tsr__control_net_run(f->net, &tensors, &control.count, &control.place, x, m, H, W, times, own,
                                f->labelled ? f->labels : NULL, hints, &err));
    control.tensors = tensors;
    OK(tsr__unet_run_controlled(f->unet, out, x, n, H, W, times, texts, f->labelled ? f->labels : NULL, &control,
                                m ? 1 : 0, &err));
    tsr__control_net_release(f->net, tensors, control.count);
}

static void compare_residuals(fixture *f, const float *want, size_t n_want) {
    static float all[256 * H * W];
    const tsr__control_hint *hints[1] = { &f->hint };
    tsr__tensor *tensors = NULL;
    tsr__control_place place;
    int count = 0;
    OK(tsr__control_net_run(f->net, &tensors, &count, &place, f->x, 1, H, W, &TIMESTEP, &f->own_text,
                            f->labelled ? f->labels : NULL, hints, &err));
    assert_int_equal(place, TSR__CONTROL_SKIPS);
    assert_int_equal((size_t)count * KEPT, n_want);
    for (int i = 0; i < count; i++) {
        float got[KEPT];
        size_t size = (size_t)tensors[i].c * (size_t)tensors[i].h * (size_t)tensors[i].w;
        OK(tsr__nn_to_nchw(f->nn, all, &tensors[i], &err));
        for (size_t k = 0; k < KEPT; k++) got[k] = all[k * (size / KEPT)];
        compare("a residual", got, want + (size_t)i * KEPT, KEPT);
    }
    tsr__control_net_release(f->net, tensors, count);
}

static void control_net__equals_pytorch(void **state) {
    static float out[COUNT];
    const int first[1] = { 0 };
    fixture f;
    (void)state;
    open_fixture(&f, "sd1", "control_model.", 0);
    compare_residuals(&f, sd1_residuals, sizeof sd1_residuals / sizeof(float));
    run(&f, out, 1, first, 0, 0.0f);
    compare("SD1 plain", out, sd1_plain, COUNT);
    run(&f, out, 1, first, 1, STRENGTH);
    compare("SD1 controlled", out, sd1_controlled, COUNT);
    assert_true(max_abs_diff(out, sd1_plain, COUNT) > 0.01);
    close_fixture(&f);
}

static void sdxl_control_net__equals_pytorch(void **state) {
    static float out[COUNT];
    const int first[1] = { 0 };
    fixture f;
    (void)state;
    open_fixture(&f, "sdxl", "", 0);
    compare_residuals(&f, sdxl_residuals, sizeof sdxl_residuals / sizeof(float));
    run(&f, out, 1, first, 0, 0.0f);
    compare("SDXL plain", out, sdxl_plain, COUNT);
    run(&f, out, 1, first, 1, STRENGTH);
    compare("SDXL controlled", out, sdxl_controlled, COUNT);
    assert_true(max_abs_diff(out, sdxl_plain, COUNT) > 0.01);
    close_fixture(&f);
}

static void t2i_adapter__equals_pytorch(void **state) {
    static float out[COUNT];
    const int first[1] = { 0 };
    fixture f;
    (void)state;
    open_fixture(&f, "sd1", "", 1);
    assert_null(tsr__control_net_unet(f.net));
    run(&f, out, 1, first, 1, STRENGTH);
    compare("T2I-Adapter", out, adapter_controlled, COUNT);
    assert_true(max_abs_diff(out, sd1_plain, COUNT) > 0.01);
    close_fixture(&f);
}

/* One batch of a sample with and a sample without, in both orders. */
static void samples_of_a_batch__have_control_of_their_own(void **state) {
    static float out[2 * COUNT];
    fixture f;
    (void)state;
    open_fixture(&f, "sd1", "", 0);
    for (int with = 0; with < 2; with++) {
        run(&f, out, 2, &with, 1, STRENGTH);
        compare("with, in a batch", out + (size_t)with * COUNT, sd1_controlled, COUNT);
        compare("without, in a batch", out + (size_t)(1 - with) * COUNT, sd1_plain, COUNT);
    }
    const int both[2] = { 0, 1 };
    run(&f, out, 2, both, 2, STRENGTH);
    compare("both", out + COUNT, sd1_controlled, COUNT);
    close_fixture(&f);
}

static void other_files__are_refused(void **state) {
    fixture f;
    tsr__control_net *net = NULL;
    tsr__weights *weights = NULL;
    tsr__unet *unet = NULL;
    tsr_error error = TSR_ERROR_INIT;
    (void)state;
    open_fixture(&f, "sd1", "", 0);
    assert_int_equal(tsr__control_net_new(&net, f.nn, f.checkpoint, &error), TSR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "neither a ControlNet"));
    OK(tsr__weights_open(&weights, TSR_GOLDEN_DIR "/checkpoints/tiny-sdxl.safetensors", &err));
    OK(tsr__unet_new(&unet, f.nn, weights, "model.diffusion_model", NULL, &err));
    error = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(tsr__control_net_fits(f.net, unet, "edges.safetensors", &error), TSR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "another family"));
    tsr__unet_free(unet);
    tsr__weights_close(weights);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_net__equals_pytorch), cmocka_unit_test(sdxl_control_net__equals_pytorch),
        cmocka_unit_test(t2i_adapter__equals_pytorch), cmocka_unit_test(samples_of_a_batch__have_control_of_their_own),
        cmocka_unit_test(other_files__are_refused),
    };
    return cmocka_run_group_tests_name("control_net", tests, NULL, NULL);
}
