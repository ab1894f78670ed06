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
#include "solver_priv.h"

enum { VERSION = 1, MAGIC_SIZE = 8, NAME_SIZE = 64, CHECKSUM_SIZE = 8 };
static const char magic[MAGIC_SIZE] = "TSRSOLV";

typedef struct stream {
    unsigned char *out;      /* writing: NULL to measure */
    const unsigned char *in; /* reading, else NULL */
    size_t at, size;
    int short_of_data;
} stream;

static void bytes(stream *io, void *data, size_t size) {
    if (io->in && size > io->size - io->at) {
        io->short_of_data = 1;
        memset(data, 0, size);
        return;
    }
    if (io->in) memcpy(data, io->in + io->at, size);
    if (io->out) memcpy(io->out + io->at, data, size);
    io->at += size;
}

static void word64(stream *io, uint64_t *value) {
    unsigned char b[8];
    for (int i = 0; i < 8; i++) b[i] = (unsigned char)(*value >> (8 * i));
    bytes(io, b, sizeof b);
    if (!io->in) return;
    *value = 0;
    for (int i = 0; i < 8; i++) *value |= (uint64_t)b[i] << (8 * i);
}

static void word32(stream *io, uint32_t *value) {
    unsigned char b[4] = { (unsigned char)*value, (unsigned char)(*value >> 8), (unsigned char)(*value >> 16),
                           (unsigned char)(*value >> 24) };
    bytes(io, b, sizeof b);
    if (io->in) *value = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Refuses what an int cannot hold by giving -1, which no field allows. */
static void whole(stream *io, int *value) {
    uint32_t word = (uint32_t)*value;
    word32(io, &word);
    if (io->in) *value = word > INT_MAX ? -1 : (int)word;
}

static void real32(stream *io, float *value) {
    uint32_t word;
    memcpy(&word, value, sizeof word);
    word32(io, &word);
    memcpy(value, &word, sizeof word);
}

static void real64(stream *io, double *value) {
    uint64_t word;
    memcpy(&word, value, sizeof word);
    word64(io, &word);
    memcpy(value, &word, sizeof word);
}

static void reals(stream *io, float *values, size_t count) {
    for (size_t i = 0; i < count; i++) real32(io, &values[i]);
}

static void visit_options(stream *io, tsr_solver_options *options) {
    real32(io, &options->eta);
    real32(io, &options->s_noise);
    word64(io, &options->seed);
    real32(io, &options->sigma_min);
    real32(io, &options->sigma_max);
}

static void visit_generator(stream *io, tsr_rng *rng) {
    for (int i = 0; i < 624; i++) word32(io, &rng->state[i]);
    word32(io, (uint32_t *)&rng->left);
    word32(io, (uint32_t *)&rng->next);
    word32(io, (uint32_t *)&rng->has_cached);
    real64(io, &rng->cached_normal);
}

/* Everything after sizes and sigmas. */
static void visit_state(stream *io, tsr_solver *s) {
    int phase = (int)s->phase, part = (int)s->part;
    whole(io, &phase);
    whole(io, &s->step);
    whole(io, &s->n_steps);
    whole(io, &s->stage);
    whole(io, &s->asks_middle);
    whole(io, &s->has_x0);
    real32(io, &s->query_sigma);
    real32(io, &s->latent_sigma);
    for (int i = 0; i < TSR__MAX_SCALARS; i++) real64(io, &s->scalars[i]);
    word64(io, &s->draws);
    visit_generator(io, &s->rng);
    whole(io, &part);
    real32(io, &s->part_amount);
    word64(io, &s->part_key);
    s->phase = phase < 0 ? TSR__PHASE_NEW : (tsr__phase)phase;
    s->part = part < 0 ? TSR__NOISE_NONE : (tsr__noise_source)part;
    float *fixed[TSR__FIXED_ARRAYS] = { s->latent, s->middle, s->answer, s->uncond, s->x0, s->draw };
    for (int i = 0; i < TSR__FIXED_ARRAYS; i++) reals(io, fixed[i], s->count);
    for (int i = 0; i < s->kind->history; i++) reals(io, s->history[i], s->count);
}

/* FNV-1a. */
static uint64_t checksum(const unsigned char *data, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ data[i]) * 0x100000001b3u;
    return hash;
}

/* Writing leaves every field as it is. */
static void visit_all(stream *io, tsr_solver *s) {
    char head[MAGIC_SIZE], name[NAME_SIZE] = { 0 };
    uint32_t version = VERSION;
    uint64_t count = s->count;
    memcpy(head, magic, sizeof head);
    strncpy(name, s->kind->name, NAME_SIZE - 1);
    bytes(io, head, sizeof head);
    word32(io, &version);
    bytes(io, name, sizeof name);
    visit_options(io, &s->options);
    word64(io, &count);
    whole(io, &s->n_sigmas);
    reals(io, s->sigmas, (size_t)s->n_sigmas);
    visit_state(io, s);
}

tsr_status tsr_solver_save(const tsr_solver *solver, void **out, size_t *size_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    stream io = { 0 };
    unsigned char *data = NULL;
    *out = NULL;
    *size_out = 0;
    if (solver->phase == TSR__PHASE_NEW || solver->phase == TSR__PHASE_FAILED)
        TSR_FAIL(err, TSR_WRONG_STATE, "solver: nothing to save before tsr_solver_begin or after a failed step");
    if (solver->options.noise)
        TSR_FAIL(err, TSR_UNSUPPORTED, "solver: one with its own noise function cannot be saved");
    visit_all(&io, (tsr_solver *)solver);
    TSR_ALLOC(err, data, io.at + CHECKSUM_SIZE);
    io = (stream){ .out = data };
    visit_all(&io, (tsr_solver *)solver);
    uint64_t sum = checksum(data, io.at);
    word64(&io, &sum);
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
static tsr_status read_head(stream *io, tsr_solver **out, tsr_error *err) {
    tsr_status status = TSR_OK;
    char head[MAGIC_SIZE], name[NAME_SIZE];
    uint32_t version = 0;
    uint64_t sum = 0;
    tsr_solver_options options = TSR_SOLVER_OPTIONS_INIT;
    bytes(io, head, sizeof head);
    if (io->short_of_data || memcmp(head, magic, sizeof head) != 0) TSR_TRY(damaged(err, "wrong first bytes"));
    word32(io, &version);
    if (version != VERSION)
        TSR_FAIL(err, TSR_UNSUPPORTED, "solver snapshot: version %u, this library reads %d", version, VERSION);
    bytes(io, name, sizeof name);
    if (io->short_of_data || !memchr(name, 0, sizeof name)) TSR_TRY(damaged(err, "no sampler name"));
    visit_options(io, &options);
    if (io->short_of_data || io->size - io->at < CHECKSUM_SIZE) TSR_TRY(damaged(err, "truncated"));
    stream tail = { .in = io->in, .at = io->size - CHECKSUM_SIZE, .size = io->size };
    word64(&tail, &sum);
    io->size -= CHECKSUM_SIZE;
    if (sum != checksum(io->in, io->size)) TSR_TRY(damaged(err, "wrong checksum"));
    TSR_TRY(tsr_solver_new(out, name, &options, err));
done:
    return status;
}

/* Sizes are believed only when exactly their bytes are there. */
static tsr_status read_sizes(stream *io, tsr_solver *s, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t count = 0;
    int n_sigmas = 0;
    word64(io, &count);
    whole(io, &n_sigmas);
    size_t left = io->size - io->at, arrays = (size_t)TSR__FIXED_ARRAYS + (size_t)s->kind->history;
    if (io->short_of_data || n_sigmas < 2 || (size_t)n_sigmas > left / sizeof(float) || !count ||
        count > left / sizeof(float) / arrays)
        TSR_TRY(damaged(err, "sizes do not fit its length"));
    TSR_TRY(tsr__solver_set_size(s, (size_t)count, n_sigmas, err));
    reals(io, s->sigmas, (size_t)n_sigmas);
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
    stream io = { .in = data, .size = size };
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
