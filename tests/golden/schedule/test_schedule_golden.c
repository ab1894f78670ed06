/* golden/schedule - the sigma table, its maps and every scheduler against ComfyUI. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "tessera/schedule.h"
#include "tessera/solver.h"

static golden_file *file;
static tsr_sigma_table *table;

static int open_all(void **state) {
    (void)state;
    file = golden_open("schedules.safetensors");
    return tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, NULL);
}

static int close_all(void **state) {
    (void)state;
    tsr_sigma_table_free(table);
    golden_close(file);
    return 0;
}

static double relative(float got, float want) {
    return got == want ? 0.0 : fabs((double)got - want) / fabs((double)want);
}

static void sigma_table__equals_comfyui(void **state) {
    (void)state;
    golden_tensor sigmas = golden_get(file, "model/sigmas");
    assert_int_equal(tsr_sigma_table_count(table), sigmas.count);
    for (int i = 0; i < 1000; i++)
        assert_true(relative(tsr_sigma_of_timestep(table, (float)i), sigmas.data[i]) <= 1e-5);
    static const char *ts[] = { "0.0", "0.5", "10.3", "500.0", "998.7", "999.0" };
    for (size_t i = 0; i < sizeof ts / sizeof *ts; i++)
        assert_true(relative(tsr_sigma_of_timestep(table, strtof(ts[i], NULL)),
                             *golden_get(file, "model/sigma_of_t/%s", ts[i]).data) <= 1e-5);
    static const char *levels[] = { "0.03", "0.1", "1.0", "5.5", "14.6" };
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        assert_true(tsr_timestep_of_sigma(table, strtof(levels[i], NULL)) ==
                    *golden_get(file, "model/t_of_sigma/%s", levels[i]).data);
}

static double compare(golden_tensor want, const float *got, int n, const char *what) {
    double worst = 0;
    if ((size_t)n != want.count) fail_msg("%s: %d sigmas, %zu wanted", what, n, want.count);
    for (int i = 0; i < n; i++) {
        double diff = relative(got[i], want.data[i]);
        if (!(diff <= 1e-5))
            fail_msg("%s: sigma %d is %.9g, %.9g wanted", what, i, (double)got[i], (double)want.data[i]);
        if (diff > worst) worst = diff;
    }
    return worst;
}

static void schedulers__equal_comfyui(void **state) {
    (void)state;
    static const int steps[] = { 1, 2, 3, 4, 5, 8, 10, 20, 30, 50 };
    int compared = 0;
    double worst = 0;
    for (int s = 0; s < tsr_scheduler_count(); s++)
        for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
            char what[64];
            float *got = NULL;
            int n = 0;
            snprintf(what, sizeof what, "sched/%s/%d", tsr_scheduler_name(s), steps[k]);
            if (!golden_has(file, "%s", what)) continue; /* the tables of fixed steps have fewer cases */
            golden_tensor want = golden_get(file, "%s", what);
            if (isnan(want.data[0])) continue; /* the reference divides 0 by 0 */
            assert_int_equal(tsr_schedule_sigmas(&got, &n, table, tsr_scheduler_name(s), steps[k], NULL), TSR_OK);
            double diff = compare(want, got, n, what);
            if (diff > worst) worst = diff;
            compared++;
            tsr_free(got);
        }
    printf("schedulers: %d compared, worst %.3g\n", compared, worst);
    assert_true(compared >= 89 + 15 + 5);
}

static void ksampler_sigmas__drop_the_second_last(void **state) {
    (void)state;
    static const char *samplers[] = { "dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2" };
    for (int s = 0; s < 4; s++)
        for (int steps = 4; steps <= 20; steps += 16) {
            float *got = NULL;
            int n = 0;
            assert_int_equal(tsr_ksampler_sigmas(&got, &n, table, "normal", samplers[s], steps, 1.0, NULL), TSR_OK);
            compare(golden_get(file, "penultimate/%s/normal/%d", samplers[s], steps), got, n, samplers[s]);
            tsr_free(got);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigma_table__equals_comfyui),
        cmocka_unit_test(schedulers__equal_comfyui),
        cmocka_unit_test(ksampler_sigmas__drop_the_second_last),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
