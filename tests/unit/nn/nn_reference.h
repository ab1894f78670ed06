/* tests/unit/nn/nn_reference.h - random data, plain double-precision loops and a comparison, for the tests of
 * src/nn. */
#ifndef TSR_NN_REFERENCE_H
#define TSR_NN_REFERENCE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nn/nn.h"

/* A small generator of our own, so that the data is the same everywhere. */
static uint64_t random_state = 1;
static float random_value(void) { /* about normal: sum of four uniforms, unit variance */
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(random_state >> 40) / 16777216.0 - 0.5;
    }
    return (float)(sum * 1.7320508);
}
static float round_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, 4);
    return x;
}
/* Values that the context's precision holds exactly, so that only the operation's own error is measured. */
static float *random_values(const tsr__nn *nn, size_t count, float scale) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = random_value() * scale;
        if (tsr__nn_precision(nn) == TSR__BF16) values[i] = round_bf16(values[i]);
    }
    return values;
}

static void ok(tsr_status status, const tsr_error *err) {
    if (status != TSR_OK) fail_msg("%s: %s", tsr_status_name(status), err->message);
}
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        ok((call), &err);                                                                                              \
    } while (0)

static inline tsr_status fill_copy(void *user, float *dst, size_t count, tsr_error *err) {
    (void)err;
    memcpy(dst, user, count * sizeof *dst);
    return TSR_OK;
}

static tsr__tensor tensor_of(tsr__nn *nn, const float *values, int n, int h, int w, int c) {
    tsr__tensor rows;
    OK(tsr__nn_from_rows(nn, &rows, values, n, h * w, c, &err));
    rows.h = h;
    rows.w = w;
    return rows;
}

/* The largest error against the largest expected value. Tight in float32; bf16 rounds the result alone by 2^-9. */
static void compare(tsr__nn *nn, const tsr__tensor *got, const double *want, size_t count, const char *what) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    assert_int_equal((size_t)got->n * (size_t)got->h * (size_t)got->w * (size_t)got->c, count);
    OK(tsr__nn_to_rows(nn, values, got, &err));
    double worst = 0, top = 1e-3;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)values[i] - want[i]);
        if (!(d <= worst)) worst = d;
        if (fabs(want[i]) > top) top = fabs(want[i]);
    }
    free(values);
    double limit = tsr__nn_precision(nn) == TSR__BF16 ? 2e-2 : 4e-6;
    if (!(worst <= limit * top)) fail_msg("%s (%s): error %g of %g", what, tsr__nn_isa(nn), worst, top);
}

static inline double reference_act(double x, tsr__act act) {
    switch (act) {
    case TSR__ACT_SILU: return x / (1 + exp(-x));
    case TSR__ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case TSR__ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case TSR__ACT_RELU: return x > 0 ? x : 0;
    default: return x;
    }
}

/* Every instruction set of this machine, float32 and (where the CPU has it) bf16. */
typedef struct variant {
    const char *cpu; /* TSR_CPU, NULL: the best */
    tsr__precision precision;
} variant;
static const variant variants[] = {
    { "base", TSR__F32 }, { "avx2", TSR__F32 }, { NULL, TSR__F32 }, { NULL, TSR__BF16 }
};

/* Runs a case on every variant, with two threads. */
static void each_variant(void (*run)(tsr__nn *nn)) {
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        tsr__nn *nn = NULL;
        tsr__nn_options options = { variants[i].precision, 2 };
        if (variants[i].cpu) setenv("TSR_CPU", variants[i].cpu, 1);
        else unsetenv("TSR_CPU");
        if (variants[i].precision == TSR__BF16 && !tsr__nn_has_bf16()) {
            print_message("bf16 is not available on this CPU: not tested\n");
            continue;
        }
        OK(tsr__nn_new(&nn, &options, &err));
        random_state = 1;
        run(nn);
        assert_int_equal(tsr__nn_weight_bytes(nn), 0);
        tsr__nn_free(nn);
    }
    unsetenv("TSR_CPU");
}

#endif /* TSR_NN_REFERENCE_H */
