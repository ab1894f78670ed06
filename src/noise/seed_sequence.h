/* noise/seed_sequence.h - NumPy's SeedSequence with a pool of 24 words, as torchsde uses it. */
#ifndef TSR_SEED_SEQUENCE_H
#define TSR_SEED_SEQUENCE_H

#include <stdint.h>

/* SeedSequence(entropy, pool_size=24).generate_state(1)[0]. */
uint32_t tsr__seed_root(uint64_t entropy);
/* SeedSequence(entropy, spawn_key=(key, depth), pool_size=24).generate_state(1)[0]. */
uint32_t tsr__seed_spawn(uint64_t entropy, uint64_t key, uint32_t depth);

#endif /* TSR_SEED_SEQUENCE_H */
