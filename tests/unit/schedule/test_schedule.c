/* unit/schedule - what holds for every scheduler, ksampler's rules, names and bad arguments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/suggest.h"
#include "schedule/schedule_priv.h"
#include "tessera/solver.h"

static tsr_sigma_table *table;

static int open_table(void **state) {
    (void)state;
    return tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, NULL);
}

static int close_table(void **state) {
    (void)state;
    tsr_sigma_table_free(table);
    return 0;
}

static void schedulers__descend_to_zero(void **state) {
    (void)state;
    for (int s = 0; s < tsr_scheduler_count(); s++)
        for (int steps = 1; steps <= 1200; steps = steps < 40 ? steps + 1 : steps * 3) {
            float *sigmas = NULL;
            int n = 0;
            const char *name = tsr_scheduler_name(s);
            assert_int_equal(tsr_schedule_sigmas(&sigmas, &n, table, name, steps, NULL), TSR_OK);
            /* the video model's table starts above SD1's */
            float largest = strcmp(name, "AYS SVD") == 0 ? 700.0f : tsr_sigma_table_max(table);
            assert_true(n >= 2);
            for (int i = 1; i < n; i++) assert_true(sigmas[i] <= sigmas[i - 1]);
            assert_true(sigmas[n - 1] == 0 && sigmas[n - 2] > 0);
            assert_true(sigmas[0] <= largest * 1.00001f);
            if (strcmp(name, "ddim_uniform") != 0 && strcmp(name, "beta") != 0) assert_int_equal(n, steps + 1);
            tsr_free(sigmas);
        }
}

static void gits__takes_the_row_of_its_steps(void **state) {
    (void)state;
    /* second values of the rows, as published; each row is found behind those of fewer steps */
    static const double second[] = { 0.803307,   1.56271636, 2.36326075, 2.84484982, 5.85520077, 5.85520077, 5.85520077,
                                     5.85520077, 5.85520077, 5.85520077, 5.85520077, 6.77309084, 6.77309084, 7.49001646,
                                     7.49001646, 7.49001646, 7.49001646, 7.49001646, 7.49001646 };
    for (int steps = 2; steps <= 20; steps++) {
        float *sigmas = NULL;
        int n = 0;
        assert_int_equal(tsr_schedule_sigmas(&sigmas, &n, table, "GITS[coeff=1.2]", steps, NULL), TSR_OK);
        assert_int_equal(n, steps + 1);
        assert_true(fabs((double)sigmas[0] - 14.61464119) < 1e-5);
        assert_true(fabs((double)sigmas[1] - second[steps - 2]) < 1e-6);
        if (steps > 6) assert_true(fabs((double)sigmas[steps - 1] - 0.09824532) < 1e-7);
        tsr_free(sigmas);
    }
}

static void schedule__refuses_bad_steps_and_names(void **state) {
    (void)state;
    float *sigmas = NULL;
    int n = 5;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr_schedule_sigmas(&sigmas, &n, table, "karas", 4, &err), TSR_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean \"karras\"?"));
    assert_int_equal(n, 0);
    assert_null(sigmas);
    assert_int_equal(tsr_schedule_sigmas(&sigmas, &n, table, NULL, 4, NULL), TSR_NOT_FOUND);
    assert_int_equal(tsr_schedule_sigmas(&sigmas, &n, table, "karras", 0, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_schedule_sigmas(&sigmas, &n, table, "karras", 10001, NULL), TSR_BAD_ARGUMENT);
}

static void table__has_no_row_out_of_range(void **state) {
    (void)state;
    assert_int_equal(tsr_scheduler_count(), 13);
    assert_null(tsr_scheduler_name(-1));
    assert_null(tsr_scheduler_summary(13));
    for (int i = 0; i < 9; i++) {
        assert_int_equal(tsr_scheduler_find(tsr_scheduler_name(i)), i);
        assert_non_null(tsr_scheduler_summary(i));
    }
    assert_int_equal(tsr_scheduler_find(NULL), -1);
}

static void ksampler_sigmas__denoise_keeps_the_end(void **state) {
    (void)state;
    float *whole = NULL, *part = NULL;
    int n_whole = 0, n_part = 0;
    assert_int_equal(tsr_ksampler_sigmas(&whole, &n_whole, table, "karras", "euler", 25, 1.0, NULL), TSR_OK);
    assert_int_equal(tsr_ksampler_sigmas(&part, &n_part, table, "karras", "euler", 10, 0.4, NULL), TSR_OK);
    assert_int_equal(n_whole, 26);
    assert_int_equal(n_part, 11);
    assert_memory_equal(part, whole + 15, 11 * sizeof *part);
    tsr_free(whole);
    tsr_free(part);
}

static void ksampler_sigmas__refuse_bad_arguments(void **state) {
    (void)state;
    float *sigmas = NULL;
    int n = 3;
    assert_int_equal(tsr_ksampler_sigmas(&sigmas, &n, table, "karras", "euler", 10, 0.0, NULL), TSR_OK);
    assert_int_equal(n, 0);
    assert_null(sigmas);
    assert_int_equal(tsr_ksampler_sigmas(&sigmas, &n, table, "karras", "euler", 10, -0.1, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_ksampler_sigmas(&sigmas, &n, table, "karras", "euler", 10, NAN, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_ksampler_sigmas(&sigmas, &n, table, "karras", "euler", 10, 1e-9, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_ksampler_sigmas(&sigmas, &n, table, "karras", "euler", 0, 1.0, NULL), TSR_BAD_ARGUMENT);
}

static void sigma_table__maps_clamp(void **state) {
    (void)state;
    assert_true(tsr_sigma_of_timestep(table, -5) == tsr_sigma_of_timestep(table, 0));
    assert_true(tsr_sigma_of_timestep(table, 5000) == tsr_sigma_of_timestep(table, 999));
    assert_true(tsr_sigma_of_timestep(table, NAN) == tsr_sigma_of_timestep(table, 0));
    assert_true(tsr_sigma_of_percent(table, 0) > 9e8f);
    assert_true(tsr_sigma_of_percent(table, 1) == 0);
    for (int i = 0; i < 1000; i += 37)
        assert_true(tsr_timestep_of_sigma(table, tsr_sigma_of_timestep(table, (float)i)) == (float)i);
}

static void sigma_table__refuses_bad_betas(void **state) {
    (void)state;
    tsr_sigma_table *bad = NULL;
    assert_int_equal(tsr_sigma_table_new(&bad, 0.00085, 0.012, 1, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_sigma_table_new(&bad, 0.5, 0.1, 10, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_sigma_table_new(&bad, -1, 0.1, 10, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_sigma_table_new(&bad, 0.9, 0.99, 100000, NULL), TSR_BAD_ARGUMENT);
    assert_null(bad);
}

/* beta(1/2, 1/2) is the arcsine law, beta(1, b) and beta(2, 1) have closed forms. */
static void beta_quantile__matches_closed_forms(void **state) {
    (void)state;
    for (int i = 1; i < 50; i++) {
        double p = i / 50.0, arcsine = sin(1.5707963267948966 * p);
        assert_true(fabs(tsr__beta_quantile(p, 0.5, 0.5) - arcsine * arcsine) < 1e-13);
        assert_true(fabs(tsr__beta_quantile(p, 1, 3) - (1 - cbrt(1 - p))) < 1e-13);
        assert_true(fabs(tsr__beta_quantile(p, 2, 1) - sqrt(p)) < 1e-13);
        assert_true(fabs(tsr__beta_quantile(p, 0.6, 0.6) + tsr__beta_quantile(1 - p, 0.6, 0.6) - 1) < 1e-12);
    }
    assert_true(tsr__beta_quantile(0, 0.6, 0.6) == 0 && tsr__beta_quantile(1, 0.6, 0.6) == 1);
}

static void suggest__finds_the_nearest_or_nothing(void **state) {
    (void)state;
    int n = tsr_scheduler_count();
    assert_string_equal(tsr__suggest("normel", tsr_scheduler_name, n), "normal");
    assert_string_equal(tsr__suggest("KARRAS", tsr_scheduler_name, n), "karras");
    assert_null(tsr__suggest("zzzz", tsr_scheduler_name, n));
    assert_null(tsr__suggest("", tsr_scheduler_name, n));
    assert_null(tsr__suggest(NULL, tsr_scheduler_name, n));
    char endless[300];
    memset(endless, 'k', sizeof endless - 1);
    endless[sizeof endless - 1] = 0;
    assert_null(tsr__suggest(endless, tsr_scheduler_name, n));
}

/* Expected: the formula of ComfyUI's "zsnr" in float64, computed by a Python script. */
static void zero_snr__ends_at_nearly_no_signal(void **state) {
    (void)state;
    static const struct {
        int timestep;
        double sigma;
    } expected[] = { { 0, 0.029167158151720367 }, { 1, 0.042067565831890544 }, { 250, 0.7298410903629242 },
                     { 500, 1.7745574742873307 }, { 900, 18.351919271426066 }, { 998, 2254.2379783370716 },
                     { 999, 4518.7636986558555 } };
    tsr_sigma_table *zero = NULL;
    assert_int_equal(tsr_sigma_table_new_zero_snr(&zero, 0.00085, 0.012, 1000, NULL), TSR_OK);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const double sigma = (double)zero->sigmas[expected[i].timestep];
        if (fabs(sigma / expected[i].sigma - 1.0) > 1e-7)
            fail_msg("sigma %d is %.9g, expected %.9g", expected[i].timestep, sigma, expected[i].sigma);
        assert_true(tsr_timestep_of_sigma(zero, zero->sigmas[expected[i].timestep]) == (float)expected[i].timestep);
    }
    tsr_sigma_table_free(zero);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedulers__descend_to_zero),
        cmocka_unit_test(gits__takes_the_row_of_its_steps),
        cmocka_unit_test(schedule__refuses_bad_steps_and_names),
        cmocka_unit_test(table__has_no_row_out_of_range),
        cmocka_unit_test(ksampler_sigmas__denoise_keeps_the_end),
        cmocka_unit_test(ksampler_sigmas__refuse_bad_arguments),
        cmocka_unit_test(sigma_table__maps_clamp),
        cmocka_unit_test(sigma_table__refuses_bad_betas),
        cmocka_unit_test(beta_quantile__matches_closed_forms),
        cmocka_unit_test(suggest__finds_the_nearest_or_nothing),
        cmocka_unit_test(zero_snr__ends_at_nearly_no_signal),
    };
    return cmocka_run_group_tests(tests, open_table, close_table);
}
