/* Hook arithmetic and the full-sample schedules against the Impact Pack's own answers, exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "golden_file.h"
#include "upscale/masked_upscaler.h"

static int kind_of(const char *name) {
    if (strcmp(name, "SimpleCfgScheduleHook") == 0) return TSR__HOOK_CFG;
    if (strcmp(name, "SimpleDenoiseScheduleHook") == 0) return TSR__HOOK_DENOISE;
    if (strcmp(name, "SimpleStepsScheduleHook") == 0) return TSR__HOOK_STEPS;
    fail_msg("hook %s is not known to this test", name);
    return -1;
}

static double number(json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void hooks__equal_the_reference(void **state) {
    (void)state;
    json_t *cases = golden_json("hooks.json"), *one;
    size_t i;
    assert_true(json_array_size(cases) >= 40);
    json_array_foreach(cases, i, one) {
        json_t *info = json_object_get(one, "step_info"), *out = json_object_get(one, "out");
        tsr__hook hook = { .kind = (tsr__hook_kind)kind_of(json_string_value(json_object_get(one, "hook"))),
                           .target = number(one, "target") };
        tsr__hook_time time = { (int)json_integer_value(json_array_get(info, 0)),
                                (int)json_integer_value(json_array_get(info, 1)) };
        tsr__hook_call call = { (int)number(one, "steps"), number(one, "cfg"), number(one, "denoise") };
        assert_int_equal(tsr__hook_check(&hook, NULL), TSR_OK);
        tsr__hook_pre_sample(&hook, time, &call);
        double want[3] = { number(out, "steps"), number(out, "cfg"), number(out, "denoise") };
        double got[3] = { call.steps, call.cfg, call.denoise };
        if (memcmp(want, got, sizeof want) != 0)
            fail_msg("case %zu: steps %g cfg %.17g denoise %.17g, not %g, %.17g, %.17g", i, got[0], got[1], got[2],
                     want[0], want[1], want[2]);
    }
    json_decref(cases);
}

static void schedules__equal_the_reference(void **state) {
    (void)state;
    json_t *cases = golden_json("full_sample_schedule.json"), *one;
    size_t i;
    int seen[TSR__FULL_COUNT] = { 0 };
    json_array_foreach(cases, i, one) {
        const char *name = json_string_value(json_array_get(one, 0));
        int schedule = tsr__full_schedule_find(name);
        assert_true(schedule >= 0);
        assert_string_equal(tsr__full_schedule_name(schedule), name);
        int step = (int)json_integer_value(json_array_get(one, 1));
        int total = (int)json_integer_value(json_array_get(one, 2));
        int applies = tsr__full_schedule_applies((tsr__full_schedule)schedule, step, total);
        if (applies != json_is_true(json_array_get(one, 3))) fail_msg("%s at %d of %d: %d", name, step, total, applies);
        seen[schedule]++;
    }
    for (int k = 0; k < TSR__FULL_COUNT; k++) assert_true(seen[k] > 0);
    assert_int_equal(tsr__full_schedule_find("interleave4"), -1);
    assert_null(tsr__full_schedule_name(TSR__FULL_COUNT));
    json_decref(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hooks__equal_the_reference),
        cmocka_unit_test(schedules__equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
