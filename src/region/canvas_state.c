/* region/canvas_state.c - a canvas between two steps as bytes and back: its pixels, and the solvers that go on.
 *
 * A solver that a later step would begin afresh (its actor left, or has not come yet) is not stored. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/stream.h"
#include "region/canvas_priv.h"
#include "sample/run_state.h"
#include "solver/snapshot.h"

typedef struct stored {
    int present;
    int from; /* the canvas step at which it began */
    tsr__block solver;
} stored;

static void visit(tsr__stream *io, float *x, size_t count, stored *members, int n) {
    tsr__stream_reals(io, x, count);
    for (int k = 0; k < n; k++) {
        tsr__stream_whole(io, &members[k].present);
        if (members[k].present <= 0) continue;
        tsr__stream_whole(io, &members[k].from);
        tsr__stream_block(io, &members[k].solver.data, &members[k].solver.size);
    }
}

/* 1 when the next step goes on with actor k's solver. */
static int goes_on(const tsr__canvas *c, int k) {
    const tsr_plan *plan = c->plan;
    if (c->steps_ended >= plan->steps) return 0;
    if (plan->sharing == TSR_SHARING_COUPLE) return k == 0;
    return plan->active[(size_t)c->steps_ended * (size_t)plan->n_actors + (size_t)k];
}

int tsr__canvas_steps_ended(const tsr__canvas *c) {
    return c->steps_ended;
}

tsr_status tsr__canvas_save(void **out, size_t *size_out, const tsr__canvas *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = c->plan->n_actors;
    stored *members = NULL;
    unsigned char *data = NULL;
    tsr__stream io = { 0 };
    *out = NULL;
    *size_out = 0;
    TSR_ALLOC_ZERO(err, members, n);
    for (int k = 0; k < n; k++) {
        const tsr__member *m = &c->members[k];
        void *solver = NULL;
        if (!m->solver || m->until != c->steps_ended || !goes_on(c, k)) continue;
        TSR_TRY(tsr_solver_save(m->solver, &solver, &members[k].solver.size, err));
        members[k].solver.data = solver;
        members[k].present = 1;
        members[k].from = m->from;
    }
    visit(&io, c->x, c->count, members, n);
    TSR_ALLOC(err, data, io.at);
    io = (tsr__stream){ .out = data };
    visit(&io, c->x, c->count, members, n);
    *out = data;
    *size_out = io.at;
done:
    for (int k = 0; members && k < n; k++) tsr_free((void *)(uintptr_t)members[k].solver.data);
    free(members);
    return status;
}

/* The saved solver takes the place of one that is begun as the plan says, if it is of that run and at this canvas sigma. */
static tsr_status load_member(tsr__canvas *c, int k, const stored *from, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_solver *solver = NULL;
    const tsr__actor *actor = &c->plan->actors[k];
    tsr__member *m = &c->members[k];
    int step = c->steps_ended;
    if (from->from >= step || !goes_on(c, k)) TSR_TRY(tsr__state_damaged(err, "a solver where none goes on"));
    TSR_TRY(tsr_solver_restore(&solver, from->solver.data, from->solver.size, err));
    TSR_TRY(tsr__canvas_start(c, k, from->from, err));
    if (!tsr__solver_same_run(solver, m->solver)) TSR_TRY(tsr__state_damaged(err, "a solver that is not its region's"));
    if (!actor->own_pace && (tsr_solver_pending(solver).x || tsr_solver_sigma(solver) != c->plan->sigmas[step] ||
                             tsr_solver_step(solver) != actor->boundary[step] - actor->boundary[from->from]))
        TSR_TRY(tsr__state_damaged(err, "a solver that is not between its steps"));
    tsr_solver_free(m->solver);
    m->solver = solver;
    m->until = step;
    solver = NULL;
done:
    tsr_solver_free(solver);
    return status;
}

tsr_status tsr__canvas_load(tsr__canvas *c, int steps_ended, const void *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = c->plan->n_actors;
    stored *members = NULL;
    tsr__stream io = { .in = data, .size = size };
    TSR_ALLOC_ZERO(err, members, n);
    visit(&io, c->x, c->count, members, n);
    TSR_TRY(tsr__state_close(&io, err));
    c->steps_ended = steps_ended;
    for (int k = 0; k < n; k++) {
        if (members[k].present < 0 || members[k].present > 1) TSR_TRY(tsr__state_damaged(err, "a flag out of range"));
        if (members[k].present) TSR_TRY(load_member(c, k, &members[k], err));
    }
done:
    free(members);
    return status;
}
