/* nn/nn_profile.h - time by kind of operation and shape, for finding what is slow. Off costs one comparison a call. */
#ifndef TSR_NN_PROFILE_H
#define TSR_NN_PROFILE_H

#include "nn/nn_priv.h"

double tsr__profile_start(const tsr__nn *nn); /* seconds, 0 when off */
/* Adds the time since start, and `work` floating-point operations, to the row "kind shape". */
void tsr__profile_stop(tsr__nn *nn, double start, const char *kind, double work, const char *shape, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 5, 6)))
#endif
    ;
void tsr__profile_free(tsr__profile *profile); /* NULL is allowed */

#endif /* TSR_NN_PROFILE_H */
