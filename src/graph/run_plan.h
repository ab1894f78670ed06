/* graph/run_plan.h - which nodes a run runs, in which order, and whose results are known already. */
#ifndef TSR_RUN_PLAN_H
#define TSR_RUN_PLAN_H

#include "graph/graph_priv.h"

typedef enum tsr__plan_state {
    TSR__PLAN_UNNEEDED, /* nothing that runs wants it */
    TSR__PLAN_SAME,     /* an entry before it stands for it */
    TSR__PLAN_KEPT,     /* an earlier run's results are taken */
    TSR__PLAN_RUN
} tsr__plan_state;

/* What the runner knows of one node. */
typedef struct tsr__plan_entry {
    int index; /* in the workflow */
    tsr__plan_state state;
    int same_as; /* entry that stands for it, or itself */
    int uses;    /* inputs of nodes that run which still want its results */
    size_t file_bytes;
    tsr__value *results[TSR__MAX_OUTPUTS];
    tsr_workflow_output *outputs; /* of KEPT: what it saved then, without its node */
    int n_outputs;
} tsr__plan_entry;

typedef struct tsr__run_plan {
    const tsr_workflow *workflow;
    tsr__key *keys;           /* [nodes] */
    tsr__plan_entry *entries; /* in the order of running */
    int count;
    int *entry_of; /* [nodes]: index into entries, -1 */
} tsr__run_plan;

tsr_status tsr__run_plan_make(tsr__run_plan *plan, tsr_graph *graph, const tsr__check *check, tsr_error *err);
void tsr__run_plan_clear(tsr__run_plan *plan);
/* The entry that a linked node's results lie in. */
tsr__plan_entry *tsr__run_plan_source(const tsr__run_plan *plan, int node);
/* The entry has run, or will not: results that nothing else wants are dropped. */
void tsr__run_plan_done(tsr__run_plan *plan, int entry);

#endif /* TSR_RUN_PLAN_H */
