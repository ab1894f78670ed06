/* region/plan_state.h - a plan's run between two steps of the plan, as bytes and back.
 *
 * What follows from the plan and the latent is not stored; the marks in the frame (sample/run_state.h) see to it that both
 * are the same. */
#ifndef TSR_PLAN_STATE_H
#define TSR_PLAN_STATE_H

#include "region/plan_priv.h"
#include "sample/run_state.h"

typedef struct tsr__plan_state {
    int op;            /* the next one; restart: or the call that is in hand */
    tsr__block canvas; /* keep: a canvas, empty before there is one */
    /* restart */
    float *now;            /* [count] */
    float *before, *noise; /* [count] or NULL */
    tsr__block solver;     /* of the call in hand; empty: none */
    int pass;              /* that it is in */
    float *first;          /* [count], what pass 1 started from; NULL in pass 0 */
} tsr__plan_state;

/* What a state of this plan on this latent is a state of. */
void tsr__plan_identify(tsr__state_id *id, const tsr_plan *plan, const tsr_latent *latent);
/* *out is released with free(). The pointers of `state` are borrowed. */
tsr_status tsr__plan_state_make(void **out, size_t *size_out, const tsr__state_id *id, int64_t evaluations,
                                tsr__plan_state *state, tsr_error *err);
/* Checks everything but the blocks, which point into data; the arrays are new: release with _clear. */
tsr_status tsr__plan_state_read(tsr__plan_state *out, const tsr__state_id *id, int64_t *evaluations,
                                const tsr_plan *plan, const void *data, size_t size, tsr_error *err);
void tsr__plan_state_clear(tsr__plan_state *state);

#endif /* TSR_PLAN_STATE_H */
