/* support/latent_pair.h - how far apart two latents are; both are freed. A failure ends the test. Include cmocka.h before. */
#ifndef TSR_LATENT_PAIR_H
#define TSR_LATENT_PAIR_H

#include "golden_file.h"
#include "tessera/latent.h"

/* The largest difference. */
static inline double apart(tsr_latent *a, tsr_latent *b) {
    assert_int_equal(tsr_latent_count(a), tsr_latent_count(b));
    double most = max_abs_diff(a->values, b->values, tsr_latent_count(a));
    tsr_latent_free(a);
    tsr_latent_free(b);
    return most;
}

/* The same, of the second's largest value. */
static inline double differ(tsr_latent *a, tsr_latent *b) {
    double largest = max_abs(b->values, tsr_latent_count(b));
    return apart(a, b) / largest;
}

#endif /* TSR_LATENT_PAIR_H */
