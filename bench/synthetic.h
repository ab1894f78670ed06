/* bench/synthetic.h - checkpoints of the families' real names and shapes with pseudo-random values, to measure without
 * one.
 *
 * Knows the layouts by itself, not through src/model, so that its count of parameters and operations checks the model. */
#ifndef SYNTHETIC_H
#define SYNTHETIC_H

#include <stdint.h>

typedef enum synthetic_family { SYNTHETIC_SD15, SYNTHETIC_SD21, SYNTHETIC_SDXL } synthetic_family;

typedef struct synthetic_counts {
    int64_t unet_parameters; /* SD1.5: 859 520 964; SD2.1: 865 910 724; SDXL: 2 567 463 684 */
    double unet_flop;        /* one sample of a run */
    double decode_flop;      /* one picture */
} synthetic_counts;

/* For a latent of h x w cells and a text of so many tokens. Multiplications and additions of convolutions, linears and
 * attention; norms and activations are not counted. */
synthetic_counts synthetic_count(synthetic_family family, int h, int w, int tokens);

/* Writes UNet, VAE and text encoders (float16) to $TMPDIR unless the file is there; returns its path (static), NULL with a
 * line on stderr when it cannot be written. */
const char *synthetic_checkpoint(synthetic_family family);
/* The same for a kohya LoRA of that rank on SD1.5's UNet; two of a rank, which 0 and 1, differ in their values. The path is
 * valid until the next call. */
const char *synthetic_lora(int rank, int which);
/* The same for SD1's VAE under "full" and TAESD under "tiny"; about 170 MB. */
const char *synthetic_vaes(void);
/* Operations of a decode of h x w cells: of the full one, of the tiny one. */
void synthetic_vae_flop(double flop[2], int h, int w);
/* Removes the files. */
void synthetic_clean(void);

#endif /* SYNTHETIC_H */
