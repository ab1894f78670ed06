/* noise/initial_noise.c - the noise a sampling call starts from (ComfyUI's prepare_noise). */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "tessera/noise.h"

enum { MAX_BATCH_INDEX = 4095 };
#define MAX_VALUES (INT64_C(1) << 32) /* 16 GiB */

/* One draw per index up to the largest; every draw goes to all entries that ask for it. */
static tsr_status draw_indexed(float *out, int n, size_t item, tsr_rng *rng, const int *batch_index, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *draw = NULL;
    int largest = 0;
    for (int i = 0; i < n; i++) {
        if (batch_index[i] < 0 || batch_index[i] > MAX_BATCH_INDEX)
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "batch index %d: must be 0..%d", batch_index[i], MAX_BATCH_INDEX);
        if (batch_index[i] > largest) largest = batch_index[i];
    }
    TSR_ALLOC(err, draw, item);
    for (int index = 0; index <= largest; index++) {
        tsr_rng_randn(rng, draw, item);
        for (int i = 0; i < n; i++)
            if (batch_index[i] == index) memcpy(out + (size_t)i * item, draw, item * sizeof *draw);
    }
done:
    free(draw);
    return status;
}

tsr_status tsr_initial_noise(float *out, const int shape[4], uint64_t seed, const int *batch_index, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t total = 1;
    tsr_rng rng;
    if (!out || !shape) TSR_FAIL(err, TSR_BAD_ARGUMENT, "initial noise: out and shape must not be NULL");
    for (int i = 0; i < 4; i++) {
        if (shape[i] < 1 || shape[i] > 1 << 20)
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "initial noise: shape[%d] is %d, must be 1..1048576", i, shape[i]);
        total *= (uint64_t)shape[i];
        if (total > (uint64_t)MAX_VALUES)
            TSR_FAIL(err, TSR_TOO_LARGE, "initial noise: the shape holds more than %lld values", (long long)MAX_VALUES);
    }
    size_t item = (size_t)(total / (uint64_t)shape[0]);
    tsr_rng_seed(&rng, seed);
    if (batch_index) TSR_TRY(draw_indexed(out, shape[0], item, &rng, batch_index, err));
    else tsr_rng_randn(&rng, out, (size_t)shape[0] * item);
done:
    return status;
}
