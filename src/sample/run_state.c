/* sample/run_state.c - see run_state.h. */
#include "sample/run_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum { VERSION = 1, MAGIC_SIZE = 8, CHECKSUM_SIZE = 8 };
static const char magic[MAGIC_SIZE] = "TSRRUN";

/* --- marks ------------------------------------------------------------------------------------------------------------------ */
void tsr__mark_text(tsr__sha256 *sha, const char *text) {
    size_t size = text ? strlen(text) + 1 : 0;
    TSR__MARK(sha, size);
    if (size) tsr__sha256_add(sha, text, size);
}

/* Seed, range and noise are a run's own. */
void tsr__mark_solver(tsr__sha256 *sha, const tsr_solver_options *options) {
    static const tsr_solver_options usual = TSR_SOLVER_OPTIONS_INIT;
    if (!options) options = &usual;
    TSR__MARK(sha, options->eta);
    TSR__MARK(sha, options->s_noise);
    TSR__MARK(sha, options->order);
    TSR__MARK(sha, options->r);
    TSR__MARK(sha, options->power);
}

void tsr__mark_values(tsr__sha256 *sha, const float *values, size_t count) {
    if (!values) count = 0;
    TSR__MARK(sha, count);
    if (count) tsr__sha256_add(sha, values, count * sizeof *values);
}

void tsr__mark_mask(tsr__sha256 *sha, const tsr_mask *mask) {
    int width = mask ? mask->width : 0, height = mask ? mask->height : 0;
    TSR__MARK(sha, width);
    TSR__MARK(sha, height);
    if (mask) tsr__mark_values(sha, mask->values, (size_t)width * (size_t)height);
}

void tsr__mark_latent(tsr__sha256 *sha, const tsr_latent *latent) {
    int has_index = latent->batch_index != NULL;
    tsr__mark_values(sha, latent->values, tsr_latent_count(latent));
    tsr__mark_mask(sha, latent->noise_mask);
    TSR__MARK(sha, has_index);
    if (has_index) tsr__sha256_add(sha, latent->batch_index, (size_t)latent->shape[0] * sizeof *latent->batch_index);
}

void tsr__mark_guide(tsr__sha256 *sha, const tsr_guide *guide) {
    const tsr_denoiser *denoiser = guide->denoiser;
    int same = guide->positive == guide->negative;
    float low = tsr_sigma_table_min(denoiser->table), high = tsr_sigma_table_max(denoiser->table);
    TSR__MARK(sha, guide->cfg);
    TSR__MARK(sha, same);
    TSR__MARK(sha, low);
    TSR__MARK(sha, high);
    TSR__MARK(sha, denoiser->latent_scale);
    if (guide->differential != 0.0)
        TSR__MARK(sha, guide->differential); /* states from before there was one stay good */
    if (guide->rescale != 0.0) TSR__MARK(sha, guide->rescale);
}

void tsr__state_add_part(tsr__state_id *id, const char *what, tsr__sha256 *sha) {
    unsigned char hash[32];
    tsr__sha256_end(sha, hash);
    id->parts[id->n_parts].what = what;
    memcpy(id->parts[id->n_parts++].mark, hash, TSR__MARK_SIZE);
}

/* --- writing ---------------------------------------------------------------------------------------------------------------- */
static void write_all(tsr__stream *io, const tsr__state_id *id, int64_t evaluations, tsr__state_visit body,
                      void *user) {
    tsr__state_id written = *id;
    char head[MAGIC_SIZE];
    uint32_t version = VERSION;
    uint64_t done = (uint64_t)evaluations;
    memcpy(head, magic, sizeof head);
    tsr__stream_bytes(io, head, sizeof head);
    tsr__stream_word32(io, &version);
    tsr__stream_whole(io, &written.kind);
    tsr__stream_word64(io, &done);
    for (int i = 0; i < 4; i++) tsr__stream_whole(io, &written.shape[i]);
    for (int i = 0; i < id->n_parts; i++) tsr__stream_bytes(io, written.parts[i].mark, TSR__MARK_SIZE);
    body(user, io);
}

tsr_status tsr__state_make(void **out, size_t *size_out, const tsr__state_id *id, int64_t evaluations,
                           tsr__state_visit body, void *user, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__stream io = { 0 };
    unsigned char *data = NULL;
    *out = NULL;
    *size_out = 0;
    write_all(&io, id, evaluations, body, user);
    TSR_ALLOC(err, data, io.at + CHECKSUM_SIZE);
    io = (tsr__stream){ .out = data };
    write_all(&io, id, evaluations, body, user);
    uint64_t sum = tsr__stream_checksum(data, io.at);
    tsr__stream_word64(&io, &sum);
    *out = data;
    *size_out = io.at;
done:
    return status;
}

/* --- reading ------------------------------------------------------------------------------------------------------------------ */
tsr_status tsr__state_damaged(tsr_error *err, const char *what) {
    return tsr__fail(err, TSR_BAD_FORMAT, "state: %s; it is damaged or was not saved by a run", what);
}

static tsr_status check_id(tsr__stream *io, const tsr__state_id *id, tsr_error *err) {
    int shape[4], same = 1;
    for (int i = 0; i < 4; i++) {
        tsr__stream_whole(io, &shape[i]);
        same &= shape[i] == id->shape[i];
    }
    if (!same && !io->short_of_data)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "state: of a latent of %dx%dx%dx%d, this run's is %dx%dx%dx%d",
                         shape[0], shape[1], shape[2], shape[3], id->shape[0], id->shape[1], id->shape[2],
                         id->shape[3]);
    for (int i = 0; i < id->n_parts; i++) {
        unsigned char mark[TSR__MARK_SIZE];
        tsr__stream_bytes(io, mark, sizeof mark);
        if (io->short_of_data) break;
        if (memcmp(mark, id->parts[i].mark, sizeof mark) != 0)
            return tsr__fail(err, TSR_BAD_ARGUMENT,
                             "state: of a run with another %s; a state goes on only with what it was saved from",
                             id->parts[i].what);
    }
    return io->short_of_data ? tsr__state_damaged(err, "truncated") : TSR_OK;
}

tsr_status tsr__state_open(tsr__stream *io, const tsr__state_id *id, const void *state, size_t size,
                           int64_t *evaluations, tsr_error *err) {
    tsr_status status = TSR_OK;
    char head[MAGIC_SIZE];
    uint32_t version = 0;
    uint64_t done = 0, sum = 0;
    int kind = -1;
    *io = (tsr__stream){ .in = state, .size = size };
    tsr__stream_bytes(io, head, sizeof head);
    if (io->short_of_data || memcmp(head, magic, sizeof head) != 0) TSR_TRY(tsr__state_damaged(err, "no state"));
    tsr__stream_word32(io, &version);
    if (!io->short_of_data && version != VERSION)
        TSR_FAIL(err, TSR_UNSUPPORTED, "state: of version %u, this library (%s) reads %d", version, tsr_version(),
                 VERSION);
    if (tsr__stream_left(io) < CHECKSUM_SIZE) TSR_TRY(tsr__state_damaged(err, "truncated"));
    tsr__stream tail = { .in = io->in, .at = size - CHECKSUM_SIZE, .size = size };
    tsr__stream_word64(&tail, &sum);
    io->size -= CHECKSUM_SIZE;
    if (sum != tsr__stream_checksum(state, io->size)) TSR_TRY(tsr__state_damaged(err, "truncated, or bytes changed"));
    tsr__stream_whole(io, &kind);
    tsr__stream_word64(io, &done);
    if (!io->short_of_data && kind != id->kind)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "state: of a run %s; a state goes on only with what it was saved from",
                 kind == TSR__STATE_PLAN ? "with regions" : "without regions");
    TSR_TRY(check_id(io, id, err));
    *evaluations = done > INT64_MAX ? 0 : (int64_t)done;
done:
    return status;
}

tsr_status tsr__state_close(const tsr__stream *io, tsr_error *err) {
    if (io->short_of_data || tsr__stream_left(io) != 0) return tsr__state_damaged(err, "lengths do not fit");
    return TSR_OK;
}
