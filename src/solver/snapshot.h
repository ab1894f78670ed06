/* solver/snapshot.h - may a restored solver take the place of a fresh one? */
#ifndef TSR_SNAPSHOT_H
#define TSR_SNAPSHOT_H

#include "tessera/solver.h"

/* 1 when both were begun with the same sampler, options, sigmas and number of values. */
int tsr__solver_same_run(const tsr_solver *a, const tsr_solver *b);

#endif /* TSR_SNAPSHOT_H */
