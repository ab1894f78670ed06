/* bench/synthetic_priv.h - from the shapes (synthetic.c) to the files (synthetic_file.c). */
#ifndef SYNTHETIC_PRIV_H
#define SYNTHETIC_PRIV_H

#include "synthetic.h"

enum { SYNTHETIC_MAX_ENTRIES = 4096 };

typedef enum synthetic_values { SYNTHETIC_WEIGHT, SYNTHETIC_GAMMA, SYNTHETIC_ZERO, SYNTHETIC_SPREAD } synthetic_values;

typedef struct synthetic_entry {
    char name[160];
    int rank;
    int64_t shape[4];
    synthetic_values kind;
} synthetic_entry;

/* Every tensor of the checkpoint, in the file's order; free() it. */
synthetic_entry *synthetic_entries(synthetic_family family, int *count);
/* Those of a kohya LoRA on all transformer layers of SD1.5's UNet. */
synthetic_entry *synthetic_lora_entries(int rank, int *count);

/* SD1's VAE under "full", TAESD under "tiny". */
synthetic_entry *synthetic_vae_entries(int *count);

#endif /* SYNTHETIC_PRIV_H */
