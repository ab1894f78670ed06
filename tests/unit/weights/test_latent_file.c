/* .latent files: round trip, ComfyUI's own files, files in old units, and files that are no latents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden_file.h"
#include "tessera/latent.h"
#include "weights/weights.h"

static char path[] = "/tmp/tsr_latent_XXXXXX";

static int make_path(void **state) {
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

static void save__load_gives_the_same_values(void **state) {
    (void)state;
    tsr_latent *latent = NULL, *back = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr_latent_new(&latent, 2, 4, 3, 5, &err), TSR_OK);
    for (size_t i = 0; i < tsr_latent_count(latent); i++) latent->values[i] = (float)i - 7.25f;
    assert_int_equal(tsr_latent_save(latent, path, &err), TSR_OK);
    assert_int_equal(tsr_latent_load(&back, path, &err), TSR_OK);
    assert_memory_equal(back->shape, latent->shape, sizeof latent->shape);
    assert_memory_equal(back->values, latent->values, tsr_latent_count(latent) * sizeof(float));
    tsr_latent_free(latent);
    tsr_latent_free(back);
}

static void load__reads_what_comfyui_wrote(void **state) {
    (void)state;
    tsr_latent *latent = NULL;
    tsr_error err = TSR_ERROR_INIT;
    golden_file *golden = golden_open("workflows/ksampler_ddim.latent");
    golden_tensor expected = golden_get(golden, "latent_tensor");
    assert_int_equal(tsr_latent_load(&latent, TSR_GOLDEN_DIR "/workflows/ksampler_ddim.latent", &err), TSR_OK);
    assert_int_equal(tsr_latent_count(latent), expected.count);
    assert_memory_equal(latent->values, expected.data, expected.count * sizeof(float));
    tsr_latent_free(latent);
    golden_close(golden);
}

static void load__scales_files_in_old_units(void **state) {
    (void)state;
    const float values[4] = { 0.18215f, -0.3643f, 0, 1 };
    const tsr__tensor_out tensor = { "latent_tensor", TSR_DTYPE_F32, 4, { 1, 4, 1, 1 }, values };
    tsr_latent *latent = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__safetensors_save(path, &tensor, 1, NULL, &err), TSR_OK);
    assert_int_equal(tsr_latent_load(&latent, path, &err), TSR_OK);
    assert_true(fabsf(latent->values[0] - 1.0f) < 1e-6f && fabsf(latent->values[1] + 2.0f) < 1e-6f);
    assert_true(latent->values[2] == 0.0f && fabsf(latent->values[3] - 5.4899807f) < 1e-6f);
    tsr_latent_free(latent);
}

static void expect_refused(const tsr__tensor_out *tensor, tsr_status expected, const char *part) {
    tsr_latent *latent = NULL;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__safetensors_save(path, tensor, 1, NULL, &err), TSR_OK);
    assert_int_equal(tsr_latent_load(&latent, path, &err), expected);
    assert_null(latent);
    assert_non_null(strstr(err.message, part));
}

static void load__refuses_what_is_no_latent(void **state) {
    (void)state;
    const float values[4] = { 0 };
    const tsr__tensor_out other = { "weight", TSR_DTYPE_F32, 4, { 1, 4, 1, 1 }, values };
    const tsr__tensor_out video = { "latent_tensor", TSR_DTYPE_F32, 5, { 1, 4, 1, 1, 1 }, values };
    const tsr__tensor_out empty = { "latent_tensor", TSR_DTYPE_F32, 4, { 1, 4, 0, 1 }, NULL };
    const tsr__tensor_out integers = { "latent_tensor", TSR_DTYPE_I32, 4, { 1, 4, 1, 1 }, values };
    expect_refused(&other, TSR_BAD_FORMAT, "latent_tensor");
    expect_refused(&video, TSR_UNSUPPORTED, "4 axes");
    expect_refused(&empty, TSR_BAD_FORMAT, "out of range");
    expect_refused(&integers, TSR_UNSUPPORTED, "I32");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(save__load_gives_the_same_values),
        cmocka_unit_test(load__reads_what_comfyui_wrote),
        cmocka_unit_test(load__scales_files_in_old_units),
        cmocka_unit_test(load__refuses_what_is_no_latent),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
