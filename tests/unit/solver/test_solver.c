/* unit/solver - the event machine for every sampler: order of calls, edits between steps, noise parts, bad arguments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/schedule_priv.h"
#include "tessera/solver.h"

enum { COUNT = 37 };

static const float sigmas[] = { 14.6f, 7.1f, 3.2f, 1.4f, 0.6f, 0.2f, 0.0f };
enum { N_SIGMAS = sizeof sigmas / sizeof *sigmas };

/* A pixelwise denoiser whose target differs by pixel. */
static void denoise(const tsr_solver_query *q, float *out, float shift) {
    for (size_t i = 0; i < q->count; i++) {
        float target = sinf((float)i) + shift, v = q->sigma * q->sigma;
        out[i] = (0.25f * q->x[i] + v * target) / (0.25f + v);
    }
}

static void answer(tsr_solver *s) {
    float clean[COUNT], uncond[COUNT];
    tsr_solver_query q = tsr_solver_pending(s);
    denoise(&q, clean, 0.0f);
    denoise(&q, uncond, 0.1f);
    assert_int_equal(tsr_solver_supply(s, clean, q.wants_uncond ? uncond : NULL, NULL), TSR_OK);
}

static tsr_solver *start(int sampler, const tsr_solver_options *options) {
    tsr_solver *s = NULL;
    float x[COUNT];
    for (int i = 0; i < COUNT; i++) x[i] = 14.6f * cosf(3.0f * (float)i);
    assert_int_equal(tsr_solver_new(&s, tsr_sampler_name(sampler), options, NULL), TSR_OK);
    assert_int_equal(tsr_solver_begin(s, x, COUNT, sigmas, N_SIGMAS, NULL), TSR_OK);
    return s;
}

static void solver__steps_through_every_sigma(void **state) {
    (void)state;
    for (int k = 0; k < tsr_sampler_count(); k++) {
        tsr_solver *s = start(k, NULL);
        tsr_solver_event event;
        int steps = 0, stage = 0;
        float before = tsr_solver_sigma(s);
        assert_true(before == sigmas[0]);
        assert_null(tsr_solver_x0(s));
        while ((event = tsr_solver_next(s, NULL)) != TSR_SOLVER_DONE) {
            assert_int_not_equal(event, TSR_SOLVER_FAILED);
            if (event == TSR_SOLVER_STEPPED) {
                assert_int_equal(tsr_solver_step(s), ++steps);
                assert_true(tsr_solver_sigma(s) < before);
                before = tsr_solver_sigma(s);
                stage = 0;
                continue;
            }
            tsr_solver_query q = tsr_solver_pending(s);
            assert_int_equal(q.step, steps);
            if (q.stage) assert_int_equal(q.stage, stage);
            stage = q.stage + 1;
            answer(s);
            assert_non_null(tsr_solver_x0(s));
        }
        assert_int_equal(tsr_solver_steps(s), steps);
        assert_int_equal(tsr_solver_next(s, NULL), TSR_SOLVER_DONE);
        tsr_solver_free(s);
    }
}

/* Runs to the end; at every step the pixels from `half` on are replaced, as a region does with what it does not own. */
static void run_edited(int sampler, size_t half, float value, int edit_middles, float *out) {
    tsr_solver *s = start(sampler, NULL);
    tsr_solver_event event;
    while ((event = tsr_solver_next(s, NULL)) != TSR_SOLVER_DONE) {
        assert_int_not_equal(event, TSR_SOLVER_FAILED);
        float *x = event == TSR_SOLVER_STEPPED ? tsr_solver_latent(s) : tsr_solver_pending(s).x;
        if (event == TSR_SOLVER_STEPPED || edit_middles)
            for (size_t i = half; i < COUNT; i++) x[i] = value;
        if (event == TSR_SOLVER_WANT_DENOISED) answer(s);
    }
    memcpy(out, tsr_solver_latent(s), COUNT * sizeof *out);
    tsr_solver_free(s);
}

static void solver__pixels_do_not_depend_on_their_neighbours(void **state) {
    (void)state;
    for (int k = 0; k < tsr_sampler_count(); k++) {
        float plain[COUNT], edited[COUNT];
        if (!strcmp(tsr_sampler_name(k), "dpm_adaptive")) continue; /* its step sizes come from the whole canvas */
        run_edited(k, COUNT, 0.0f, 0, plain);
        for (int middles = 0; middles < 2; middles++) {
            run_edited(k, 17, 2.5f, middles, edited);
            assert_memory_equal(plain, edited, 17 * sizeof *plain);
        }
    }
}

/* The latent at the end of a step must carry an edit made before it: no method goes on from a private copy. */
static void solver__goes_on_from_the_edited_latent(void **state) {
    (void)state;
    for (int k = 0; k < tsr_sampler_count(); k++) {
        float kept = 0, moved = 0;
        if (!strcmp(tsr_sampler_name(k), "lcm")) continue; /* keeps nothing of a latent but its prediction */
        for (int edit = 0; edit < 2; edit++) {
            tsr_solver *s = start(k, NULL);
            float fixed[COUNT] = { 0 };
            for (int step = 0; step < 2;) {
                tsr_solver_event event = tsr_solver_next(s, NULL);
                assert_int_not_equal(event, TSR_SOLVER_FAILED);
                if (event == TSR_SOLVER_WANT_DENOISED)
                    assert_int_equal(tsr_solver_supply(s, fixed, fixed, NULL), TSR_OK);
                else if (++step == 1 && edit) tsr_solver_latent(s)[3] += 5.0f;
            }
            *(edit ? &moved : &kept) = tsr_solver_latent(s)[3];
            tsr_solver_free(s);
        }
        if (!(fabsf(moved - kept) > 0.05f)) fail_msg("%s ignores an edit of the latent", tsr_sampler_name(k));
    }
}

static void noise_part__is_what_was_added(void **state) {
    (void)state;
    for (int k = 0; k < tsr_sampler_count(); k++) {
        tsr_solver_options louder = TSR_SOLVER_OPTIONS_INIT;
        louder.s_noise = 2.0f;
        tsr_solver *a = start(k, NULL), *b = start(k, &louder);
        int noisy = 0;
        /* Up to the first noise both solvers agree; there their difference is the difference of their noise parts. */
        while (!noisy && tsr_solver_next(a, NULL) == tsr_solver_next(b, NULL)) {
            tsr_solver_noise na = tsr_solver_noise_part(a), nb = tsr_solver_noise_part(b);
            const float *xa = tsr_solver_latent(a), *xb = tsr_solver_latent(b);
            int asks = tsr_solver_pending(a).x != NULL;
            if (asks) {
                xa = tsr_solver_pending(a).x;
                xb = tsr_solver_pending(b).x;
            }
            assert_true((na.amount == 0) == (na.noise == NULL));
            if (na.noise) {
                noisy = 1;
                assert_true(na.key == nb.key);
                assert_true(fabsf(nb.amount - 2 * na.amount) <= 1e-5f * nb.amount);
                assert_memory_equal(na.noise, nb.noise, COUNT * sizeof(float));
                for (int i = 0; i < COUNT; i++)
                    assert_true(fabsf(xb[i] - xa[i] - na.amount * na.noise[i]) <= 1e-5f * 14.6f);
            }
            if (!asks && tsr_solver_step(a) == tsr_solver_steps(a)) break;
            if (!asks) continue;
            answer(a);
            answer(b);
        }
        int stochastic = (tsr_sampler_flags(k) & TSR_SAMPLER_STOCHASTIC) != 0;
        if (noisy != stochastic) fail_msg("%s: noise %d, flagged %d", tsr_sampler_name(k), noisy, stochastic);
        tsr_solver_free(a);
        tsr_solver_free(b);
    }
}

static uint64_t first_key(const char *sampler, uint64_t seed) {
    tsr_solver_options options = TSR_SOLVER_OPTIONS_INIT;
    options.seed = seed;
    tsr_solver *s = start(tsr_sampler_find(sampler), &options);
    tsr_solver_noise noise = { 0 };
    while (!noise.noise) {
        if (tsr_solver_next(s, NULL) == TSR_SOLVER_WANT_DENOISED && !tsr_solver_noise_part(s).noise) answer(s);
        noise = tsr_solver_noise_part(s);
    }
    tsr_solver_free(s);
    return noise.key;
}

static void noise_key__is_equal_for_equal_noise_only(void **state) {
    (void)state;
    assert_true(first_key("euler_ancestral", 5) == first_key("dpm_2_ancestral", 5));
    assert_true(first_key("euler_ancestral", 5) != first_key("euler_ancestral", 6));
    assert_true(first_key("dpmpp_2m_sde", 5) == first_key("dpmpp_3m_sde", 5));
    assert_true(first_key("dpmpp_2m_sde", 5) != first_key("dpmpp_sde", 5)); /* half a step against a whole one */
    assert_true(first_key("dpmpp_2m_sde", 5) != first_key("euler_ancestral", 5));
}

static tsr_status flat_noise(void *user, float from, float to, float *out, size_t count, tsr_error *err) {
    (void)err;
    assert_true(from > to);
    for (size_t i = 0; i < count; i++) out[i] = 1.0f;
    ++*(int *)user;
    return TSR_OK;
}

static tsr_status broken_noise(void *user, float from, float to, float *out, size_t count, tsr_error *err) {
    (void)user, (void)from, (void)to, (void)out, (void)count, (void)err;
    return TSR_CANCELLED;
}

static void noise_callback__replaces_both_streams(void **state) {
    (void)state;
    static const char *names[] = { "euler_ancestral", "dpmpp_2m_sde" };
    for (int k = 0; k < 2; k++) {
        int calls = 0;
        tsr_solver_options options = TSR_SOLVER_OPTIONS_INIT;
        options.noise = flat_noise;
        options.noise_user = &calls;
        tsr_solver *s = start(tsr_sampler_find(names[k]), &options);
        tsr_solver_event event;
        while ((event = tsr_solver_next(s, NULL)) != TSR_SOLVER_DONE)
            if (event == TSR_SOLVER_WANT_DENOISED) answer(s);
        assert_int_equal(calls, N_SIGMAS - 2);
        tsr_solver_free(s);
        options.noise = broken_noise;
        s = start(tsr_sampler_find(names[k]), &options);
        assert_int_equal(tsr_solver_next(s, NULL), TSR_SOLVER_WANT_DENOISED);
        answer(s);
        assert_int_equal(tsr_solver_next(s, NULL), TSR_SOLVER_FAILED);
        assert_int_equal(tsr_solver_next(s, NULL), TSR_SOLVER_FAILED);
        tsr_solver_free(s);
    }
}

static void eta_0__makes_ancestral_kinds_deterministic(void **state) {
    (void)state;
    tsr_solver_options quiet = TSR_SOLVER_OPTIONS_INIT;
    quiet.eta = 0.0f;
    tsr_solver *a = start(tsr_sampler_find("euler"), NULL), *b = start(tsr_sampler_find("euler_ancestral"), &quiet);
    tsr_solver_event event;
    while ((event = tsr_solver_next(a, NULL)) != TSR_SOLVER_DONE) {
        assert_int_equal(tsr_solver_next(b, NULL), event);
        if (event != TSR_SOLVER_WANT_DENOISED) continue;
        answer(a);
        answer(b);
    }
    for (int i = 0; i < COUNT; i++) assert_true(fabsf(tsr_solver_latent(a)[i] - tsr_solver_latent(b)[i]) < 1e-5f);
    tsr_solver_free(a);
    tsr_solver_free(b);
}

static void new__suggests_the_nearest_name(void **state) {
    (void)state;
    static const char *const pairs[][2] = { { "eulr", "\"euler\"" },
                                            { "DPMPP_2M", "\"dpmpp_2m\"" },
                                            { "unipc", "\"uni_pc\"" } };
    for (int i = 0; i < 3; i++) {
        tsr_error err = TSR_ERROR_INIT;
        tsr_solver *s = NULL;
        assert_int_equal(tsr_solver_new(&s, pairs[i][0], NULL, &err), TSR_NOT_FOUND);
        assert_null(s);
        assert_non_null(strstr(err.message, pairs[i][1]));
    }
    tsr_error err = TSR_ERROR_INIT;
    tsr_solver *s = NULL;
    assert_int_equal(tsr_solver_new(&s, "watercolour", NULL, &err), TSR_NOT_FOUND);
    assert_null(strstr(err.message, "did you mean"));
    assert_int_equal(tsr_solver_new(&s, NULL, NULL, NULL), TSR_NOT_FOUND);
}

static void begin__refuses_bad_sigmas(void **state) {
    (void)state;
    static const float bad[][3] = { { 1, 2, 0 }, { 1, 0, 0 }, { NAN, 1, 0 }, { 2, 1, -1 }, { INFINITY, 1, 0 } };
    float x[COUNT] = { 0 };
    tsr_solver *s = NULL;
    assert_int_equal(tsr_solver_new(&s, "euler", NULL, NULL), TSR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tsr_solver_begin(s, x, COUNT, bad[i], 3, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_solver_begin(s, x, COUNT, sigmas, 1, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_solver_begin(s, x, 0, sigmas, 3, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_solver_begin(s, x, SIZE_MAX / 2, sigmas, 3, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_solver_begin(s, NULL, COUNT, sigmas, 3, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_solver_next(s, NULL), TSR_SOLVER_FAILED);
    assert_null(tsr_solver_pending(s).x);
    tsr_solver_free(s);
    tsr_solver_free(NULL);
}

static void new__refuses_bad_options(void **state) {
    (void)state;
    tsr_solver_options good = TSR_SOLVER_OPTIONS_INIT, bad[6];
    for (int i = 0; i < 6; i++) bad[i] = good;
    bad[0].eta = -1.0f;
    bad[1].s_noise = -1.0f;
    bad[2].struct_size = 3;
    bad[3].eta = NAN;
    bad[4].sigma_min = 3.0f;
    bad[5].sigma_max = INFINITY;
    for (int i = 0; i < 6; i++) {
        tsr_solver *s = NULL;
        assert_int_equal(tsr_solver_new(&s, "euler", &bad[i], NULL), TSR_BAD_ARGUMENT);
        assert_null(s);
    }
}

static void supply__wants_its_turn_and_its_data(void **state) {
    (void)state;
    float x[COUNT] = { 0 };
    tsr_solver *s = start(tsr_sampler_find("euler_cfg_pp"), NULL);
    assert_int_equal(tsr_solver_supply(s, x, x, NULL), TSR_WRONG_STATE);
    assert_int_equal(tsr_solver_next(s, NULL), TSR_SOLVER_WANT_DENOISED);
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr_solver_next(s, &err), TSR_SOLVER_FAILED);
    assert_int_equal(err.status, TSR_WRONG_STATE);
    assert_int_equal(tsr_solver_supply(s, NULL, x, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_solver_supply(s, x, NULL, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr_solver_supply(s, x, x, NULL), TSR_OK);
    assert_int_equal(tsr_solver_supply(s, x, x, NULL), TSR_WRONG_STATE);
    assert_int_equal(tsr_solver_next(s, NULL), TSR_SOLVER_STEPPED);
    tsr_solver_free(s);
}

static void table__agrees_with_itself_and_the_schedule(void **state) {
    (void)state;
    assert_int_equal(tsr_sampler_count(), 44);
    assert_null(tsr_sampler_name(-1));
    assert_null(tsr_sampler_name(44));
    for (int i = 0; i < tsr_sampler_count(); i++) {
        unsigned flags = tsr_sampler_flags(i);
        assert_int_equal(tsr_sampler_find(tsr_sampler_name(i)), i);
        assert_true(strlen(tsr_sampler_summary(i)) > 10);
        if (flags & TSR_SAMPLER_BROWNIAN) assert_true(flags & TSR_SAMPLER_STOCHASTIC);
        assert_int_equal((flags & TSR_SAMPLER_PENULTIMATE) != 0, tsr__drops_penultimate(tsr_sampler_name(i)));
        assert_int_equal((flags & TSR_SAMPLER_CFG_PP) != 0, strstr(tsr_sampler_name(i), "cfg_pp") != NULL);
    }
}

/* One step to 0 leaves nothing to integrate: no sampler may need the empty Brownian range. */
static void solver__one_step_needs_no_noise(void **state) {
    (void)state;
    static const float single[2] = { 0.7f, 0.0f };
    for (int k = 0; k < tsr_sampler_count(); k++) {
        tsr_solver *s = NULL;
        float x[COUNT] = { 0.5f };
        tsr_solver_event event;
        assert_int_equal(tsr_solver_new(&s, tsr_sampler_name(k), NULL, NULL), TSR_OK);
        assert_int_equal(tsr_solver_begin(s, x, COUNT, single, 2, NULL), TSR_OK);
        while ((event = tsr_solver_next(s, NULL)) != TSR_SOLVER_DONE) {
            assert_int_not_equal(event, TSR_SOLVER_FAILED);
            if (event == TSR_SOLVER_WANT_DENOISED) answer(s);
        }
        assert_true(isfinite(tsr_solver_latent(s)[0]));
        tsr_solver_free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solver__steps_through_every_sigma),
        cmocka_unit_test(solver__pixels_do_not_depend_on_their_neighbours),
        cmocka_unit_test(solver__goes_on_from_the_edited_latent),
        cmocka_unit_test(solver__one_step_needs_no_noise),
        cmocka_unit_test(noise_part__is_what_was_added),
        cmocka_unit_test(noise_key__is_equal_for_equal_noise_only),
        cmocka_unit_test(noise_callback__replaces_both_streams),
        cmocka_unit_test(eta_0__makes_ancestral_kinds_deterministic),
        cmocka_unit_test(new__suggests_the_nearest_name),
        cmocka_unit_test(new__refuses_bad_options),
        cmocka_unit_test(begin__refuses_bad_sigmas),
        cmocka_unit_test(supply__wants_its_turn_and_its_data),
        cmocka_unit_test(table__agrees_with_itself_and_the_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
