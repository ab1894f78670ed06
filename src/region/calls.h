/* region/calls.h - from a restart plan's step to the sampler call it stands for. */
#ifndef TSR_CALLS_H
#define TSR_CALLS_H

#include "region/plan_priv.h"
#include "sample/impact.h"

/* noise: what the plan's last NOISE step made, or NULL. The call borrows from the plan. */
void tsr__restart_call(tsr__impact_call *out, const tsr_plan *plan, const tsr__op *op, const float *noise);

/* Adds a call with what it costs and the schedule's own sigmas; one that comes to no sampling at all is left out. */
tsr_status tsr__plan_add_call(tsr_plan *plan, tsr__op *op, tsr_error *err);

#endif /* TSR_CALLS_H */
