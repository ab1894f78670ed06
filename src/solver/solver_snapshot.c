/* solver/solver_snapshot.c - a solver as bytes and back, bit for bit, at any event.
 *
 * Little-endian, field by field in the order of visit(): one function walks the fields for both directions, so they cannot
 * differ. A checksum finds damage; every field is checked as well, for a snapshot made to hurt. The Brownian tree is not
 * stored: its values follow from seed and range. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "core/stream.h"
#include "solver/snapshot.h"
#include "solver_priv.h"

enum { VERSION = 2, MAGIC_SIZE = 8, NAME_SIZE = 64, CHECKSUM_SIZE = 8 };
static const char magic[MAGIC_SIZE] = "TSRSOLV";

static void visit_options(tsr__stream *io, tsr_solver_options *options) {
    tsr__stream_real32(io, &options->eta);
    tsr__stream_real32(io, &options->s_noise);
    tsr__stream_word64(io, &options->seed);
    tsr__stream_real32(io, &options->sigma_min);
    tsr__stream_real32(io, &options->sigma_max);
    tsr__stream_whole(io, &options->order);
    tsr__stream_real32(io, &options->r);
    tsr__stream_real32(io, &options->power);
}

static void visit_generator(tsr__stream *io, tsr_rng *rng) {
    for (int i = 0; i < 624; i++) tsr__stream_word32(io, &rng->state[i]);
    tsr__stream_word32(io, (uint32_t *)&rng->left);
    tsr__stream_word32(io, (uint32_t *)&rng->next);
    tsr__stream_word32(io, (uint32_t *)&rng->has_cached);
    tsr__stream_real64(io, &rng->cached_normal);
}

/* Everything after sizes and sigmas. */
static void visit_state(tsr__stream *io, tsr_solver *s) {
    int phase = (int)s->phase, part = (int)s->part;
    tsr__stream_whole(io, &phase);
    tsr__stream_whole(io, &s->step);
    tsr__stream_whole(io, &s->n_steps);
    tsr__stream_whole(io, &s->stage);
    tsr__stream_whole(io, &s->asks_middle);
    tsr__stream_whole(io, &s->has_x0);
    tsr__stream_real32(io, &s->query_sigma);
    tsr__stream_real32(io, &s->latent_sigma);
    for (int i = 0; i < TSR__MAX_SCALARS; i++) tsr__stream_real64(io, &s->scalars[i]);
    tsr__stream_word64(io, &s->draws);
    visit_generator(io, &s->rng);
    tsr__stream_whole(io, &part);
    tsr__stream_real32(io, &s->part_amount);
    tsr__stream_word64(io, &s->part_key);
    s->phase = phase < 0 ? TSR__PHASE_NEW : (tsr__phase)phase;
    s->part = part < 0 ? TSR__NOISE_NONE : (tsr__noise_source)part;
    float *fixed[TSR__FIXED_ARRAYS] = { s->latent, s->middle, s->answer, s->uncond, s->x0, s->draw };
    for (int i = 0; i < TSR__FIXED_ARRAYS; i++) tsr__stream_reals(io, fixed[i], s->count);
    for (int i = 0; i < s->kind->history; i++) tsr__stream_reals(io, s->history[i], s->count);
}

/* Writing leaves every field as it is. */
static void visit_all(tsr__stream *io, tsr_solver *s) {
    char head[MAGIC_SIZE], name[NAME_SIZE] = { 0 };
    uint32_t version = VERSION;
    uint64_t count = s->count;
    memcpy(head, magic, sizeof head);
    strncpy(name, s->kind->name, NAME_SIZE - 1);
    tsr__stream_bytes(io, head, sizeof head);
    tsr__stream_word32(io, &version);
    tsr__stream_bytes(io, name, sizeof name);
    visit_options(io, &s->options);
    tsr__stream_word64(io, &count);
    tsr__stream_whole(io, &s->n_sigmas);
    tsr__stream_reals(io, s->sigmas, (size_t)s->n_sigmas);
    visit_state(io, s);
}

tsr_status tsr_solver_save(const tsr_solver *solver, void **out, size_t *size_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__stream io = { 0 };
    unsigned char *data = NULL;
    *out = NULL;
    *size_out = 0;
    if (solver->phase == TSR__PHASE_NEW || solver->phase == TSR__PHASE_FAILED)
        TSR_FAIL(err, TSR_WRONG_STATE, "solver: nothing to save before tsr_solver_begin or after a failed step");
    if (solver->options.noise)
        TSR_FAIL(err, TSR_UNSUPPORTED, "solver: one with its own noise function cannot be saved");
    visit_all(&io, (tsr_solver *)solver);
    TSR_ALLOC(err, data, io.at + CHECKSUM_SIZE);
    io = (tsr__stream){ .out = data };
    visit_all(&io, (tsr_solver *)solver);
    uint64_t sum = tsr__stream_checksum(data, io.at);
    tsr__stream_word64(&io, &sum);
    *out = data;
    *size_out = io.at;
done:
    return status;
}

static tsr_status damaged(tsr_error *err, const char *what) {
    return tsr__fail(err, TSR_BAD_FORMAT, "solver snapshot: %s; it is damaged or was not made by tsr_solver_save",
                     what);
}

/* Magic, checksum, version, name and options; leaves a solver without arrays. */
static tsr_status read_head(tsr__stream *io, tsr_solver **out, tsr_error *err) {
    tsr_status status = TSR_OK;
    char head[MAGIC_SIZE], name[NAME_SIZE];
    uint32_t version = 0;
    uint64_t sum = 0;
    tsr_solver_options options = TSR_SOLVER_OPTIONS_INIT;
    tsr__stream_bytes(io, head, sizeof head);
    if (io->short_of_data || memcmp(head, magic, sizeof head) != 0) TSR_TRY(damaged(err, "wrong first bytes"));
    tsr__stream_word32(io, &version);
    if (version != VERSION)
        TSR_FAIL(err, TSR_UNSUPPORTED, "solver snapshot: version %u, this library reads %d", version, VERSION);
    tsr__stream_bytes(io, name, sizeof name);
    if (io->short_of_data || !memchr(name, 0, sizeof name)) TSR_TRY(damaged(err, "no sampler name"));
    visit_options(io, &options);
    if (io->short_of_data || io->size - io->at < CHECKSUM_SIZE) TSR_TRY(damaged(err, "truncated"));
    tsr__stream tail = { .in = io->in, .at = io->size - CHECKSUM_SIZE, .size = io->size };
    tsr__stream_word64(&tail, &sum);
    io->size -= CHECKSUM_SIZE;
    if (sum != tsr__stream_checksum(io->in, io->size)) TSR_TRY(damaged(err, "wrong checksum"));
    TSR_TRY(tsr_solver_new(out, name, &options, err));
done:
    return status;
}

/* Sizes are believed only when exactly their bytes are there. */
static tsr_status read_sizes(tsr__stream *io, tsr_solver *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t count = 0;
    int n_sigmas = 0;
    tsr__stream_word64(io, &count);
    tsr__stream_whole(io, &n_sigmas);
    size_t left = io->size - io->at, arrays = (size_t)TSR__FIXED_ARRAYS + (size_t)s->kind->history;
    if (io->short_of_data || n_sigmas < 2 || (size_t)n_sigmas > left / sizeof(float) || !count ||
        count > left / sizeof(float) / arrays)
        TSR_TRY(damaged(err, "sizes do not fit its length"));
    TSR_TRY(tsr__solver_set_size(s, (size_t)count, n_sigmas, err));
    tsr__stream_reals(io, s->sigmas, (size_t)n_sigmas);
    TSR_TRY(tsr__solver_check_sigmas(s->kind, s->sigmas, n_sigmas, err));
done:
    return status;
}

static int is_flag(int value) {
    return value == 0 || value == 1;
}

static tsr_status check_state(const tsr_solver *s, int planned_steps, tsr_error *err) {
    int between = s->phase == TSR__PHASE_BETWEEN,
        active = s->phase == TSR__PHASE_WAITING || s->phase == TSR__PHASE_ANSWERED;
    int open_end = planned_steps == INT32_MAX && s->n_steps == s->step;
    if (!between && !active) return damaged(err, "unknown phase");
    if (s->n_steps != planned_steps && !open_end) return damaged(err, "wrong number of steps");
    if (s->step < 0 || s->step > s->n_steps || (active && s->step == s->n_steps))
        return damaged(err, "step out of range");
    if (s->stage < 0 || s->stage >= s->kind->stages || !is_flag(s->asks_middle) ||
        (active && s->asks_middle != (s->stage > 0)))
        return damaged(err, "stage out of range");
    if (!is_flag(s->has_x0) || (s->stage > 0 && !s->has_x0)) return damaged(err, "flag out of range");
    if (!isfinite(s->query_sigma) || s->query_sigma < 0 || !isfinite(s->latent_sigma) || s->latent_sigma < 0)
        return damaged(err, "sigma out of range");
    for (int i = 0; i < TSR__MAX_SCALARS; i++)
        if (!isfinite(s->scalars[i])) return damaged(err, "number out of range");
    if (s->rng.left < 1 || s->rng.left > 624 || s->rng.next < 0 || s->rng.next > 624 || !is_flag(s->rng.has_cached) ||
        (s->rng.left > 1 && s->rng.left + s->rng.next != 625) || !isfinite(s->rng.cached_normal))
        return damaged(err, "generator out of range");
    if (s->part > TSR__NOISE_MIXED || (s->part == TSR__NOISE_MIXED && !s->kind->history))
        return damaged(err, "noise out of range");
    return TSR_OK;
}

tsr_status tsr_solver_restore(tsr_solver **out, const void *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_solver *s = NULL;
    tsr__stream io = { .in = data, .size = size };
    *out = NULL;
    if (!data) TSR_FAIL(err, TSR_BAD_ARGUMENT, "solver snapshot: data must not be NULL");
    TSR_TRY(read_head(&io, &s, err));
    TSR_TRY(read_sizes(&io, s, err));
    TSR_TRY(tsr__solver_plan(s, err));
    int planned_steps = s->n_steps;
    visit_state(&io, s);
    if (io.short_of_data || io.at != io.size) TSR_TRY(damaged(err, "wrong length"));
    TSR_TRY(check_state(s, planned_steps, err));
    *out = s;
    s = NULL;
done:
    tsr_solver_free(s);
    return status;
}

int tsr__solver_same_run(const tsr_solver *a, const tsr_solver *b) {
    const tsr_solver_options *x = &a->options, *y = &b->options;
    return a->kind == b->kind && a->count == b->count && a->n_sigmas == b->n_sigmas &&
           memcmp(a->sigmas, b->sigmas, (size_t)a->n_sigmas * sizeof *a->sigmas) == 0 && x->eta == y->eta &&
           x->s_noise == y->s_noise && x->seed == y->seed && x->sigma_min == y->sigma_min &&
           x->sigma_max == y->sigma_max && x->order == y->order && x->r == y->r && x->power == y->power && !x->noise &&
           !y->noise;
}
