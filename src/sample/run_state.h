/* sample/run_state.h - the frame of a saved run: what it is a state of, the body its owner gives it, a checksum.
 *
 *   "TSRRUN" 0 0 | version | kind | evaluations done | shape | marks of the run's arguments | body | checksum
 *
 * A mark is a hash of some of a run's arguments: a state goes on only where all marks are equal. Knows no body. */
#ifndef TSR_RUN_STATE_H
#define TSR_RUN_STATE_H

#include "core/sha256.h"
#include "core/stream.h"
#include "sample/run.h"

enum { TSR__STATE_SAMPLE = 1, TSR__STATE_PLAN = 2 }; /* kinds */
enum { TSR__STATE_PARTS = 4, TSR__MARK_SIZE = 16 };

typedef struct tsr__state_id {
    int kind;
    int shape[4];
    int n_parts;
    struct {
        const char *what; /* for the message when they differ */
        unsigned char mark[TSR__MARK_SIZE];
    } parts[TSR__STATE_PARTS];
} tsr__state_id;

/* Bytes within a state. */
typedef struct tsr__block {
    const void *data;
    size_t size;
} tsr__block;

typedef void (*tsr__state_visit)(void *user, tsr__stream *io);

/* *out is released with free(). */
tsr_status tsr__state_make(void **out, size_t *size_out, const tsr__state_id *id, int64_t evaluations,
                           tsr__state_visit body, void *user, tsr_error *err);
/* Checks checksum, version and marks; then io stands at the body. */
tsr_status tsr__state_open(tsr__stream *io, const tsr__state_id *id, const void *state, size_t size,
                           int64_t *evaluations, tsr_error *err);
/* After the body: fails unless it had exactly the right length. */
tsr_status tsr__state_close(const tsr__stream *io, tsr_error *err);
tsr_status tsr__state_damaged(tsr_error *err, const char *what);

/* Marks: tsr__sha256_init, any of these, tsr__state_add_part. */
#define TSR__MARK(sha, scalar) tsr__sha256_add((sha), &(scalar), sizeof(scalar))
void tsr__mark_text(tsr__sha256 *sha, const char *text);                    /* NULL is allowed */
void tsr__mark_solver(tsr__sha256 *sha, const tsr_solver_options *options); /* NULL is allowed: the usual */
void tsr__mark_values(tsr__sha256 *sha, const float *values, size_t count); /* NULL is allowed */
void tsr__mark_mask(tsr__sha256 *sha, const tsr_mask *mask);                /* NULL is allowed */
void tsr__mark_latent(tsr__sha256 *sha, const tsr_latent *latent);
/* cfg, which conditionings are equal, and the denoiser's sigmas and scale: not what a conditioning holds. */
void tsr__mark_guide(tsr__sha256 *sha, const tsr_guide *guide);
void tsr__state_add_part(tsr__state_id *id, const char *what, tsr__sha256 *sha);

#endif /* TSR_RUN_STATE_H */
