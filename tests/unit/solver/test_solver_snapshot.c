/* unit/solver - a solver saved at any event goes on bit for bit; a damaged snapshot is refused and never crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/solver.h"

enum { COUNT = 21, CHECKSUM_SIZE = 8 };

static const float sigmas[] = { 14.6f, 7.1f, 3.2f, 1.4f, 0.6f, 0.2f, 0.0f };
enum { N_SIGMAS = sizeof sigmas / sizeof *sigmas };

static void answer(tsr_solver *s) {
    float clean[COUNT], uncond[COUNT];
    tsr_solver_query q = tsr_solver_pending(s);
    for (size_t i = 0; i < COUNT; i++) {
        float v = q.sigma * q.sigma;
        clean[i] = (0.25f * q.x[i] + v * sinf((float)i)) / (0.25f + v);
        uncond[i] = clean[i] + 0.1f;
    }
    assert_int_equal(tsr_solver_supply(s, clean, uncond, NULL), TSR_OK);
}

static tsr_solver *start(const char *name) {
    tsr_solver_options options = TSR_SOLVER_OPTIONS_INIT;
    tsr_solver *s = NULL;
    float x[COUNT];
    options.seed = 9;
    for (int i = 0; i < COUNT; i++) x[i] = 14.6f * cosf(3.0f * (float)i);
    assert_int_equal(tsr_solver_new(&s, name, &options, NULL), TSR_OK);
    assert_int_equal(tsr_solver_begin(s, x, COUNT, sigmas, N_SIGMAS, NULL), TSR_OK);
    return s;
}

static void finish(tsr_solver *s, float *out) {
    tsr_solver_event event = TSR_SOLVER_STEPPED;
    if (tsr_solver_pending(s).x) answer(s);
    while ((event = tsr_solver_next(s, NULL)) != TSR_SOLVER_DONE) {
        assert_int_not_equal(event, TSR_SOLVER_FAILED);
        if (event == TSR_SOLVER_WANT_DENOISED) answer(s);
    }
    memcpy(out, tsr_solver_latent(s), COUNT * sizeof *out);
}

/* The copy agrees with the original in all that can be asked, and ends in the same bits. */
static void check_copy(const tsr_solver *s, const float *result) {
    void *data = NULL;
    size_t size = 0;
    float out[COUNT];
    tsr_solver *copy = NULL;
    assert_int_equal(tsr_solver_save(s, &data, &size, NULL), TSR_OK);
    assert_int_equal(tsr_solver_restore(&copy, data, size, NULL), TSR_OK);
    tsr_solver_query a = tsr_solver_pending(s), b = tsr_solver_pending(copy);
    assert_true((a.x == NULL) == (b.x == NULL) && a.sigma == b.sigma && a.step == b.step && a.stage == b.stage);
    if (a.x) assert_memory_equal(a.x, b.x, COUNT * sizeof(float));
    tsr_solver_noise na = tsr_solver_noise_part(s), nb = tsr_solver_noise_part(copy);
    assert_true(na.amount == nb.amount && na.key == nb.key && (na.noise == NULL) == (nb.noise == NULL));
    if (na.noise) assert_memory_equal(na.noise, nb.noise, COUNT * sizeof(float));
    assert_true((tsr_solver_x0(s) == NULL) == (tsr_solver_x0(copy) == NULL));
    if (tsr_solver_x0(s)) assert_memory_equal(tsr_solver_x0(s), tsr_solver_x0(copy), COUNT * sizeof(float));
    assert_int_equal(tsr_solver_steps(s), tsr_solver_steps(copy));
    assert_true(tsr_solver_sigma(s) == tsr_solver_sigma(copy));
    finish(copy, out);
    assert_memory_equal(out, result, sizeof out);
    tsr_solver_free(copy);
    tsr_free(data);
}

static void snapshot__goes_on_bit_for_bit_at_every_event(void **state) {
    (void)state;
    for (int k = 0; k < tsr_sampler_count(); k++) {
        float result[COUNT];
        tsr_solver_event event;
        tsr_solver *s = start(tsr_sampler_name(k));
        finish(s, result);
        tsr_solver_free(s);
        s = start(tsr_sampler_name(k));
        check_copy(s, result);
        while ((event = tsr_solver_next(s, NULL)) != TSR_SOLVER_DONE) {
            check_copy(s, result);
            if (event != TSR_SOLVER_WANT_DENOISED) continue;
            answer(s);
            check_copy(s, result);
        }
        check_copy(s, result);
        tsr_solver_free(s);
    }
}

static void save__refuses_what_cannot_be_saved(void **state) {
    (void)state;
    void *data = NULL;
    size_t size = 1;
    tsr_solver *s = NULL;
    assert_int_equal(tsr_solver_new(&s, "euler", NULL, NULL), TSR_OK);
    assert_int_equal(tsr_solver_save(s, &data, &size, NULL), TSR_WRONG_STATE);
    assert_null(data);
    assert_int_equal(size, 0);
    tsr_solver_free(s);
    assert_int_equal(tsr_solver_restore(&s, NULL, 0, NULL), TSR_BAD_ARGUMENT);
    assert_null(s);
}

static tsr_status own_noise(void *user, float from, float to, float *out, size_t count, tsr_error *err) {
    (void)user, (void)from, (void)to, (void)err;
    memset(out, 0, count * sizeof *out);
    return TSR_OK;
}

static void save__refuses_a_noise_function(void **state) {
    (void)state;
    void *data = NULL;
    size_t size = 1;
    float x[COUNT] = { 0 };
    tsr_solver_options options = TSR_SOLVER_OPTIONS_INIT;
    tsr_solver *s = NULL;
    options.noise = own_noise;
    assert_int_equal(tsr_solver_new(&s, "euler_ancestral", &options, NULL), TSR_OK);
    assert_int_equal(tsr_solver_begin(s, x, COUNT, sigmas, N_SIGMAS, NULL), TSR_OK);
    assert_int_equal(tsr_solver_save(s, &data, &size, NULL), TSR_UNSUPPORTED);
    tsr_solver_free(s);
}

/* A snapshot in the middle of a step, if the sampler has one. */
static unsigned char *make_snapshot(const char *name, size_t *size) {
    void *data = NULL;
    tsr_solver *s = start(name);
    for (int i = 0; i < 8; i++)
        if (tsr_solver_next(s, NULL) == TSR_SOLVER_WANT_DENOISED && i < 7) answer(s);
    assert_int_equal(tsr_solver_save(s, &data, size, NULL), TSR_OK);
    tsr_solver_free(s);
    return data;
}

static void restore__refuses_truncated_and_longer_data(void **state) {
    (void)state;
    static const char *names[] = { "euler", "dpmpp_sde", "uni_pc", "dpm_adaptive", "seeds_3" };
    for (int k = 0; k < 5; k++) {
        size_t size = 0;
        unsigned char *data = make_snapshot(names[k], &size);
        for (size_t n = 0; n < size; n++) {
            /* A block of exactly n bytes, so that a sanitizer sees any read beyond. */
            unsigned char *part = malloc(n ? n : 1);
            tsr_solver *s = NULL;
            memcpy(part, data, n);
            assert_int_not_equal(tsr_solver_restore(&s, part, n, NULL), TSR_OK);
            assert_null(s);
            free(part);
        }
        unsigned char *longer = malloc(size + 1);
        tsr_solver *s = NULL;
        memcpy(longer, data, size);
        longer[size] = 0;
        assert_int_not_equal(tsr_solver_restore(&s, longer, size + 1, NULL), TSR_OK);
        free(longer);
        tsr_free(data);
    }
}

/* FNV-1a, as the format says. */
static void mend_checksum(unsigned char *data, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size - CHECKSUM_SIZE; i++) hash = (hash ^ data[i]) * 0x100000001b3u;
    for (int i = 0; i < CHECKSUM_SIZE; i++) data[size - CHECKSUM_SIZE + (size_t)i] = (unsigned char)(hash >> (8 * i));
}

static void restore__finds_every_flipped_bit(void **state) {
    (void)state;
    size_t size = 0;
    unsigned char *data = make_snapshot("dpmpp_2m_sde", &size);
    for (size_t bit = 0; bit < 8 * size; bit += 3) {
        tsr_solver *s = NULL;
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_not_equal(tsr_solver_restore(&s, data, size, NULL), TSR_OK);
        assert_null(s);
        data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    tsr_solver *s = NULL;
    assert_int_equal(tsr_solver_restore(&s, data, size, NULL), TSR_OK);
    tsr_solver_free(s);
    tsr_free(data);
}

/* Whatever a forged snapshot that passes the checks says, going on must stay inside memory. */
static void restore__survives_forged_snapshots(void **state) {
    (void)state;
    for (int k = 0; k < tsr_sampler_count(); k++) {
        size_t size = 0;
        unsigned char *data = make_snapshot(tsr_sampler_name(k), &size);
        uint32_t random = 12345;
        for (int round = 0; round < 400; round++) {
            unsigned char *forged = malloc(size);
            tsr_solver *s = NULL;
            memcpy(forged, data, size);
            for (int i = 0; i <= round % 3; i++) {
                random = random * 1664525u + 1013904223u;
                /* Mostly the head: options, sizes, sigmas, stage. */
                size_t at = (random >> 8) % (round % 4 ? (size < 240 ? size : 240) : size);
                forged[at] = (unsigned char)(round % 2 ? random >> 24 : forged[at] ^ (1u << (random >> 29)));
            }
            mend_checksum(forged, size);
            if (tsr_solver_restore(&s, forged, size, NULL) == TSR_OK)
                for (int i = 0; i < 12; i++) {
                    tsr_solver_event event = tsr_solver_next(s, NULL);
                    if (event == TSR_SOLVER_DONE || event == TSR_SOLVER_FAILED) break;
                    if (tsr_solver_pending(s).x) answer(s);
                }
            tsr_solver_free(s);
            free(forged);
        }
        tsr_free(data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot__goes_on_bit_for_bit_at_every_event),
        cmocka_unit_test(save__refuses_what_cannot_be_saved),
        cmocka_unit_test(save__refuses_a_noise_function),
        cmocka_unit_test(restore__refuses_truncated_and_longer_data),
        cmocka_unit_test(restore__finds_every_flipped_bit),
        cmocka_unit_test(restore__survives_forged_snapshots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
