/* test_nodes_sigmas.c - what the nodes that make and cut SIGMAS compute. Expected numbers come from PyTorch, by the formulas of
 * the schedules' definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node_runner.h"

static void expect(const tsr__value *value, const double *wanted, int n) {
    assert_int_equal(value->type, TSR__V_SIGMAS);
    assert_int_equal(value->n_sigmas, n);
    for (int i = 0; i < n; i++) assert_float_equal(value->sigmas[i], wanted[i], (float)(2e-6 * (wanted[i] + 1e-6)));
}

static void curves__match_the_formulas(void **state) {
    static const struct {
        const char *class_type, *name, *value, *name2, *value2;
        double wanted[6];
        int n;
    } cases[] = {
        { "KarrasScheduler", "rho", "7.0", NULL, NULL, { 10.0, 4.0701041, 1.4507321, 0.43245280, 0.1, 0.0 }, 6 },
        { "ExponentialScheduler", NULL, NULL, NULL, NULL, { 10.0, 3.1622777, 1.0, 0.31622776, 0.09999999, 0.0 }, 6 },
        { "PolyexponentialScheduler",
          "rho",
          "1.5",
          NULL,
          NULL,
          { 10.0, 1.9908476, 0.50945604, 0.17782794, 0.09999999, 0.0 },
          6 },
        { "LaplaceScheduler", "mu", "0.3", "beta", "0.5", { 10.0, 1.9089695, 1.3498588, 0.95450389, 0.1 }, 5 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        node_begin(&run, cases[i].class_type);
        node_set(&run, "steps", "5");
        node_set(&run, "sigma_max", "10.0");
        node_set(&run, "sigma_min", "0.1");
        if (cases[i].name) node_set(&run, cases[i].name, cases[i].value);
        if (cases[i].name2) node_set(&run, cases[i].name2, cases[i].value2);
        if (node_go(&run) != TSR_OK) fail_msg("%s: %s", cases[i].class_type, run.err.message);
        expect(run.call.results[0], cases[i].wanted, cases[i].n);
        node_end(&run);
    }
}

static void vp__matches_the_formula(void **state) {
    static const double wanted[] = { 152.16697693, 17.04911995, 3.42224503, 0.95752651, 0.01048599, 0.0 };
    node_run run;
    (void)state;
    node_begin(&run, "VPScheduler");
    node_set(&run, "steps", "5");
    assert_int_equal(node_go(&run), TSR_OK);
    assert_int_equal(run.call.results[0]->n_sigmas, 6);
    for (int i = 0; i < 6; i++)
        assert_float_equal(run.call.results[0]->sigmas[i], wanted[i], (float)(1e-5 * (wanted[i] + 0.1)));
    node_end(&run);
}

static tsr__value *manual(const char *json) {
    node_run run;
    node_begin(&run, "ManualSigmas");
    node_set(&run, "sigmas", json);
    assert_int_equal(node_go(&run), TSR_OK);
    tsr__value *made = tsr__value_ref(run.call.results[0]);
    node_end(&run);
    return made;
}

static void typed_sigmas__are_read(void **state) {
    static const double wanted[] = { 8.0, 0.5, 2.5e-2, 0.0 };
    tsr__value *made = manual("\"8, 0.5; 2.5e-2 and 0\"");
    (void)state;
    expect(made, wanted, 4);
    tsr__value_unref(made);
}

/* 4 steps. The first part by step or share, what is left in the second; at the ends as the reference cuts. */
static void splits__cut_as_the_reference(void **state) {
    static const double all[] = { 8.0, 4.0, 2.0, 1.0, 0.0 };
    static const struct {
        const char *class_type, *input, *value;
        int high, low; /* how many in each part */
    } cases[] = {
        { "SplitSigmas", "step", "0", 1, 5 },
        { "SplitSigmas", "step", "2", 3, 3 },
        { "SplitSigmas", "step", "4", 5, 1 },
        { "SplitSigmas", "step", "9", 5, 0 },
        { "SplitSigmasDenoise", "denoise", "0.5", 3, 3 },
        { "SplitSigmasDenoise", "denoise", "1.0", 1, 5 },
        { "SplitSigmasDenoise", "denoise", "0.0", 0, 1 },
        { "SplitSigmasDenoise", "denoise", "0.3", 4, 2 },
    };
    tsr__value *whole = manual("\"8 4 2 1 0\"");
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        node_run run;
        node_begin(&run, cases[i].class_type);
        node_link(&run, "sigmas", whole);
        node_set(&run, cases[i].input, cases[i].value);
        assert_int_equal(node_go(&run), TSR_OK);
        expect(run.call.results[0], all, cases[i].high);
        expect(run.call.results[1], all + 5 - cases[i].low, cases[i].low);
        node_end(&run);
    }
    tsr__value_unref(whole);
}

static void flipped__start_above_zero(void **state) {
    static const double wanted[] = { 0.0001, 1.0, 8.0 }, first[] = { 3.0, 1.0, 0.0 };
    tsr__value *whole = manual("\"8 1 0\"");
    node_run run;
    (void)state;
    node_begin(&run, "FlipSigmas");
    node_link(&run, "sigmas", whole);
    assert_int_equal(node_go(&run), TSR_OK);
    expect(run.call.results[0], wanted, 3);
    assert_true(whole->sigmas[0] == 8.0f);
    node_end(&run);
    node_begin(&run, "SetFirstSigma");
    node_link(&run, "sigmas", whole);
    node_set(&run, "sigma", "3.0");
    assert_int_equal(node_go(&run), TSR_OK);
    expect(run.call.results[0], first, 3);
    node_end(&run);
    tsr__value_unref(whole);
}

static void wrong_ends__are_refused(void **state) {
    static const char *const curves[] = { "KarrasScheduler", "ExponentialScheduler", "LaplaceScheduler" };
    (void)state;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        node_run run;
        node_begin(&run, curves[i]);
        node_set(&run, "sigma_max", "1.0");
        node_set(&run, "sigma_min", "2.0");
        assert_int_equal(node_go(&run), TSR_BAD_ARGUMENT);
        assert_non_null(strstr(run.err.message, "from 1 to 2"));
        node_end(&run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves__match_the_formulas), cmocka_unit_test(vp__matches_the_formula),
        cmocka_unit_test(typed_sigmas__are_read),     cmocka_unit_test(splits__cut_as_the_reference),
        cmocka_unit_test(flipped__start_above_zero),  cmocka_unit_test(wrong_ends__are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
