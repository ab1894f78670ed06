/* tessera/noise.h - random numbers equal to PyTorch's CPU generator, and Brownian-tree noise equal to torchsde's.
 *
 * Threads: one thread at a time per object. */
#ifndef TSR_NOISE_H
#define TSR_NOISE_H

#include "tessera/status.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* torch.Generator("cpu").manual_seed(seed) : mt19937 seeded with the low 32 bits. A plain value; copy it to fork it. */
typedef struct tsr_rng {
    uint32_t state[624];
    int32_t left, next;
    double cached_normal;
    int32_t has_cached;
} tsr_rng;

TSR_API void tsr_rng_seed(tsr_rng *rng, uint64_t seed);
TSR_API uint32_t tsr_rng_next_u32(tsr_rng *rng);
/* torch.randn(count): float32, including PyTorch's different order for count >= 16. */
TSR_API void tsr_rng_randn(tsr_rng *rng, float *out, size_t count);

/* ComfyUI's prepare_noise: shape [n, c, h, w]; batch_index NULL or n entries (one [1,c,h,w] draw per index up to the
 * largest, picked by index; each at most 4095). */
TSR_API tsr_status tsr_initial_noise(float *out, const int shape[4], uint64_t seed, const int *batch_index,
                                     tsr_error *err);

/* W(t) of torchsde's BrownianTree over [t0, t1], times being sigmas. */
typedef struct tsr_brownian tsr_brownian;
TSR_API tsr_status tsr_brownian_new(tsr_brownian **out, size_t count, float sigma_min, float sigma_max, uint64_t seed,
                                    tsr_error *err);
TSR_API void tsr_brownian_free(tsr_brownian *tree); /* NULL is allowed */
/* (W(b) - W(a)) / sqrt(|b - a|) with sign by direction: negative when sigma falls. W stays constant outside the range, so a
 * query that leaves it has less variance, and one wholly outside, or empty, gives zeros (ComfyUI's rule). */
TSR_API tsr_status tsr_brownian_query(tsr_brownian *tree, float sigma_from, float sigma_to, float *out, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_NOISE_H */
