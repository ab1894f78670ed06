/* ControlNets of all kinds and T2I-Adapters against PyTorch code written for the test (control_reference.py): residuals, the
 * UNet's output with and without them, a run of four steps; what single samples of a batch get; files that are no control
 * network or one of another family. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <unistd.h>

#include "control_expected.inc"
#include "control_file.h"
#include "golden_file.h"
#include "model/control_net.h"
#include "weights/control_open.h"

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

/* What the network is. */
typedef struct spec {
    const char *tag, *prefix;
    control_kind kind;
    int adapter; /* -1, or an adapter_kind */
    int type;    /* of picture, for unions */
    const char *name;
} spec;

static void open_spec(fixture *f, spec what) {
    static float text[TOKENS * MOST];
    tsr__nn_options options = { TSR__F32, 2 };
    memset(f, 0, sizeof *f);
    snprintf(f->path, sizeof f->path, "%s/tessera-control-%ld%s.safetensors",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (long)getpid(), what.name ? what.name : "");
    if (what.adapter >= 0) adapter_kind_write(f->path, (adapter_kind)what.adapter);
    else control_kind_write(f->path, what.tag, what.prefix, what.kind);
    OK(tsr__nn_new(&f->nn, &options, &err));
    OK(tsr__weights_open(&f->checkpoint, golden_path(what.tag), &err));
    OK(tsr__unet_new(&f->unet, f->nn, f->checkpoint, "model.diffusion_model", NULL, &err));
    OK(tsr__control_open(&f->file, f->path, f->checkpoint, &err));
    OK(tsr__control_net_new(&f->net, f->nn, f->file, tsr__control_averages(f->file, f->path), &err));
    OK(tsr__control_net_fits(f->net, f->unet, "the test's", &err));
    numbers(text, "text", (size_t)TOKENS * (size_t)tsr__unet_context_width(f->unet), 1.0, 0.0);
    numbers(f->x, "x", COUNT, 1.0, 0.0);
    numbers(f->picture, "picture", sizeof f->picture / sizeof(float), 0.5, 0.5);
    numbers(f->label, "label", (size_t)tsr__unet_label_width(f->unet), 1.0, 0.0);
    f->labels[0] = f->labels[1] = f->label;
    f->labelled = tsr__unet_label_width(f->unet) > 0;
    OK(tsr__unet_context_new(&f->text, f->unet, text, TOKENS, &err));
    if (what.adapter < 0) OK(tsr__unet_context_new(&f->own_text, tsr__control_net_unet(f->net), text, TOKENS, &err));
    OK(tsr__control_net_hint(&f->hint, f->net, f->picture, H, W, what.type, &err));
}

static void open_fixture(fixture *f, const char *tag, const char *prefix, int adapter) {
    open_spec(f, (spec){ tag, prefix, CONTROL_WHOLE, adapter ? ADAPTER_FULL : -1, -1, NULL });
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

/* Each kind within 2e-4 of PyTorch, and not what another kind gives. */
static void other_kinds__equal_pytorch(void **state) {
    static const struct {
        const char *what;
        spec of;
        const float *want;
    } cases[] = {
        { "SD2", { "sd2", "", CONTROL_WHOLE, -1, -1, NULL }, sd2_controlled },
        { "averaged", { "sd1", "", CONTROL_WHOLE, -1, -1, "_shuffle_fp16" }, sd1_averaged },
        { "control-LoRA", { "sd1", "", CONTROL_LORA, -1, -1, NULL }, sd1_low_rank },
        { "SDXL control-LoRA", { "sdxl", "", CONTROL_LORA, -1, -1, NULL }, sdxl_low_rank },
        { "difference", { "sd1", "control_model.", CONTROL_DIFFERENCE, -1, -1, NULL }, sd1_difference },
        { "SDXL, mid", { "sdxl", "", CONTROL_MID, -1, -1, NULL }, sdxl_mid },
        { "SDXL, small", { "sdxl", "", CONTROL_SMALL, -1, -1, NULL }, sdxl_small },
        { "union, canny", { "sdxl", "", CONTROL_UNION, -1, 3, NULL }, sdxl_union },
        { "union, untold", { "sdxl", "", CONTROL_UNION, -1, -1, NULL }, sdxl_union_untold },
        { "light T2I-Adapter", { "sd1", "", CONTROL_WHOLE, ADAPTER_LIGHT, -1, NULL }, light_controlled },
        { "T2I-Adapter for SDXL", { "sdxl", "", CONTROL_WHOLE, ADAPTER_WIDE, -1, NULL }, wide_controlled },
    };
    static float out[COUNT];
    const int first[1] = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        open_spec(&f, cases[i].of);
        run(&f, out, 1, first, 1, STRENGTH);
        compare(cases[i].what, out, cases[i].want, COUNT);
        close_fixture(&f);
    }
}

/* Sides of 7 and 11 cells: halves of odd sides. */
static void odd_sides__are_halved_as_pytorch_does(void **state) {
    enum { HIGH = 7, WIDE = 11 };
    static float part[3 * 8 * HIGH * 8 * WIDE], all[64 * HIGH * WIDE];
    fixture f;
    tsr__control_hint hint;
    int level = 0;
    (void)state;
    open_fixture(&f, "sd1", "", 1);
    for (size_t row = 0; row < 3 * 8 * HIGH; row++)
        memcpy(part + row * 8 * WIDE, f.picture + (row / (8 * HIGH) * 8 * H + row % (8 * HIGH)) * 8 * W,
               8 * WIDE * sizeof *part);
    OK(tsr__control_net_hint(&hint, f.net, part, HIGH, WIDE, -1, &err));
    for (int i = 0; i < hint.count; i++) {
        float got[KEPT];
        const tsr__tensor *x = &hint.tensors[i];
        size_t step = (size_t)x->c * (size_t)x->h * (size_t)x->w / KEPT;
        if (!x->data) continue;
        OK(tsr__nn_to_nchw(f.nn, all, x, &err));
        for (size_t k = 0; k < KEPT; k++) got[k] = all[k * step];
        compare("a level", got, odd_features + (size_t)level++ * KEPT, KEPT);
    }
    assert_int_equal(level, 3);
    tsr__control_hint_clear(f.net, &hint);
    close_fixture(&f);
}

/* Euler over four steps, the model and the network by hand. */
static void run_of_four_steps__equals_pytorch(void **state) {
    static const float sigmas[5] = { 14.6146f, 4.0f, 1.5f, 0.6f, 0.0f };
    static const float times[4] = { 999.0f, 744.0f, 477.0f, 212.0f };
    static float x[COUNT], scaled[COUNT], eps[COUNT];
    const float strength = STRENGTH;
    const int first[1] = { 0 };
    fixture f;
    (void)state;
    open_fixture(&f, "sdxl", "", 0);
    const tsr__control_hint *hints[1] = { &f.hint };
    numbers(x, "x", COUNT, 14.0, 0.0);
    for (int step = 0; step < 4; step++) {
        tsr__unet_control control = { .m = 1, .samples = first, .strengths = &strength };
        tsr__tensor *tensors = NULL;
        for (int i = 0; i < COUNT; i++) scaled[i] = x[i] / sqrtf(sigmas[step] * sigmas[step] + 1.0f);
        OK(tsr__control_net_run(f.net, &tensors, &control.count, &control.place, scaled, 1, H, W, &times[step],
                                &f.own_text, f.labels, hints, &err));
        control.tensors = tensors;
        OK(tsr__unet_run_controlled(f.unet, eps, scaled, 1, H, W, &times[step], &f.text, f.labels, &control, 1, &err));
        tsr__control_net_release(f.net, tensors, control.count);
        for (int i = 0; i < COUNT; i++) x[i] += eps[i] * (sigmas[step + 1] - sigmas[step]);
    }
    compare("four steps", x, sdxl_run, COUNT);
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

static void union_types__are_counted(void **state) {
    fixture f;
    tsr__control_hint hint;
    tsr_error error = TSR_ERROR_INIT;
    (void)state;
    open_spec(&f, (spec){ "sdxl", "", CONTROL_UNION, -1, 5, NULL });
    assert_int_equal(tsr__control_net_hint(&hint, f.net, f.picture, H, W, 6, &error), TSR_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "knows 6 types"));
    close_fixture(&f);
}

/* The same file on another family's model, and without a model. */
static void control_lora__needs_its_model(void **state) {
    fixture f;
    tsr__weights *weights = NULL, *other = NULL;
    tsr__control_net *net = NULL;
    tsr_error error = TSR_ERROR_INIT;
    (void)state;
    open_spec(&f, (spec){ "sdxl", "", CONTROL_LORA, -1, -1, NULL });
    OK(tsr__weights_open(&other, golden_path("sd1"), &err));
    assert_int_equal(tsr__control_open(&weights, f.path, other, &error), TSR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "another family"));
    OK(tsr__control_open(&weights, f.path, NULL, &err));
    error = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(tsr__control_net_new(&net, f.nn, weights, 0, &error), TSR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "control-LoRA"));
    tsr__weights_close(weights);
    tsr__weights_close(other);
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
    assert_int_equal(tsr__control_net_new(&net, f.nn, f.checkpoint, 0, &error), TSR_UNSUPPORTED);
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
        cmocka_unit_test(control_net__equals_pytorch),
        cmocka_unit_test(sdxl_control_net__equals_pytorch),
        cmocka_unit_test(t2i_adapter__equals_pytorch),
        cmocka_unit_test(samples_of_a_batch__have_control_of_their_own),
        cmocka_unit_test(other_kinds__equal_pytorch),
        cmocka_unit_test(odd_sides__are_halved_as_pytorch_does),
        cmocka_unit_test(run_of_four_steps__equals_pytorch),
        cmocka_unit_test(union_types__are_counted),
        cmocka_unit_test(control_lora__needs_its_model),
        cmocka_unit_test(other_files__are_refused),
    };
    return cmocka_run_group_tests_name("control_net", tests, NULL, NULL);
}
