/* golden/noise - random numbers, initial noise and Brownian increments against PyTorch and torchsde. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "golden_file.h"
#include "tessera/noise.h"

static void rng__equals_torch(void **state) {
    (void)state;
    static const char *seeds[] = {
        "0", "1", "42", "123456789", "12345678901234", "9223372036854775808", "18446744073709551615"
    };
    static const int sizes[] = { 1, 2, 8, 15, 16, 17, 31, 100, 1024, 16384 };
    golden_file *file = golden_open("rng.safetensors");
    float *out = malloc(16384 * sizeof *out);
    double worst = 0;
    for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            tsr_rng rng;
            tsr_rng_seed(&rng, strtoull(seeds[s], NULL, 10));
            for (int draw = 0; draw < 2; draw++) {
                golden_tensor want = golden_get(file, "randn/%s/%d/%c", seeds[s], sizes[k], 'a' + draw);
                tsr_rng_randn(&rng, out, want.count);
                double diff = max_abs_diff(out, want.data, want.count);
                if (diff > worst) worst = diff;
                assert_true(diff <= 2e-6);
            }
        }
    golden_tensor want = golden_get(file, "randn4d/7");
    tsr_rng rng;
    tsr_rng_seed(&rng, 7);
    tsr_rng_randn(&rng, out, want.count);
    assert_true(max_abs_diff(out, want.data, want.count) <= 2e-6);
    printf("rng: worst %.3g\n", worst);
    free(out);
    golden_close(file);
}

static void initial_noise__equals_comfyui(void **state) {
    (void)state;
    golden_file *file = golden_open("noise.safetensors");
    const int shape[4] = { 3, 4, 8, 8 }, second[3] = { 0, 2, 2 }, third[3] = { 1, 4, 0 };
    const int *lists[3] = { NULL, second, third };
    static const char *keys[3] = { "none", "0,2,2", "1,4,0" };
    float out[3 * 4 * 8 * 8];
    for (int i = 0; i < 3; i++) {
        golden_tensor want = golden_get(file, "noise/5/%s", keys[i]);
        assert_int_equal(tsr_initial_noise(out, shape, 5, lists[i], NULL), TSR_OK);
        assert_int_equal(want.count, sizeof out / sizeof *out);
        assert_true(max_abs_diff(out, want.data, want.count) <= 2e-6);
    }
    golden_close(file);
}

static double check_tree(golden_file *file, const char *seed, const char *range) {
    float low, high, out[4 * 8 * 8];
    double worst = 0;
    assert_int_equal(sscanf(range, "%f-%f", &low, &high), 2);
    golden_tensor sigmas = golden_get(file, "bt/%s/%s/sigmas", seed, range);
    tsr_brownian *tree = NULL;
    assert_int_equal(tsr_brownian_new(&tree, 256, low, high, strtoull(seed, NULL, 10), NULL), TSR_OK);
    for (int i = -1; i < 5; i++) {
        int from = i < 0 ? 3 : i;
        golden_tensor want =
            i < 0 ? golden_get(file, "bt/%s/%s/rev", seed, range) : golden_get(file, "bt/%s/%s/%d", seed, range, i);
        assert_int_equal(tsr_brownian_query(tree, sigmas.data[from], sigmas.data[from + 1], out, NULL), TSR_OK);
        double diff = max_abs_diff(out, want.data, want.count);
        if (diff > worst) worst = diff;
    }
    tsr_brownian_free(tree);
    return worst;
}

static void brownian__equals_torchsde(void **state) {
    (void)state;
    static const char *seeds[] = { "0", "3", "987654321" }, *ranges[] = { "0.0292-14.6146", "0.1-2.0" };
    golden_file *file = golden_open("brownian.safetensors");
    double worst = 0;
    for (int s = 0; s < 3; s++)
        for (int r = 0; r < 2; r++) {
            double diff = check_tree(file, seeds[s], ranges[r]);
            if (diff > worst) worst = diff;
        }
    printf("brownian: worst %.3g\n", worst);
    assert_true(worst <= 1e-5);
    golden_close(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng__equals_torch),
        cmocka_unit_test(initial_noise__equals_comfyui),
        cmocka_unit_test(brownian__equals_torchsde),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
