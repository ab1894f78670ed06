/* model/weight_log.h - which packed weight or norm came from which tensors of the checkpoint, for adapters that change it and for
 * packed caches. */
#ifndef TSR_WEIGHT_LOG_H
#define TSR_WEIGHT_LOG_H

#include "nn/nn.h"

/* One packed weight: a linear (k 0) or a convolution, of one tensor or of several stacked by rows. Or a norm: its gamma and
 * beta, [rows[0]]. */
typedef struct tsr__weight_entry {
    const tsr__nn_weight *weight; /* the network's; NULL: a norm */
    const float *gamma, *beta;    /* the norm's */
    int parts;
    char **names; /* [parts]: the tensors' full names, with ".weight", as adapters say */
    char *whole;  /* the one tensor of the file that has all parts (torch's in_proj_weight); NULL: each has its own */
    int *rows;    /* [parts] */
    int in_c, k, stride, pad_before, pad_after;
    int upsample; /* a 3x3 convolution behind a doubling, folded (upsample.h) */
} tsr__weight_entry;

typedef struct tsr__weight_log {
    tsr__weight_entry *entries;
    size_t count, room;
} tsr__weight_log;

/* Copies the entry with whole, names (each with ".weight" behind it) and rows. */
tsr_status tsr__weight_log_add(tsr__weight_log *log, const tsr__weight_entry *entry, int parts,
                               const char *const *names, const int *rows, tsr_error *err);
/* The names of the file's tensors in the weight: index 0 to *count - 1. */
const char *tsr__weight_entry_tensor(const tsr__weight_entry *entry, int index, int *count);
void tsr__weight_log_clear(tsr__weight_log *log);

#endif /* TSR_WEIGHT_LOG_H */
