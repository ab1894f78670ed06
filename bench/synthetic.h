/* bench/synthetic.h - a checkpoint of SD1.5's real names and shapes with pseudo-random values, to measure without one.
 *
 * Knows the layout by itself, not through src/model, so that its count of parameters and operations checks the model. */
#ifndef SYNTHETIC_H
#define SYNTHETIC_H

#include <stdint.h>

typedef struct synthetic_counts {
    int64_t unet_parameters; /* 859 520 964 */
    double unet_flop;        /* one sample of a run */
    double decode_flop;      /* one picture */
} synthetic_counts;

/* For a latent of h x w cells and a text of so many tokens. Multiplications and additions of convolutions, linears and
 * attention; norms and activations are not counted. */
synthetic_counts synthetic_count(int h, int w, int tokens);

/* Writes UNet, VAE and text encoder (float16, 2.2 GB) to $TMPDIR unless the file is there; returns its path (static), NULL with a
 * line on stderr when it cannot be written. */
const char *synthetic_checkpoint(void);
/* Removes the file. */
void synthetic_clean(void);

#endif /* SYNTHETIC_H */
