/* engine/engine_state.h - a stopped run as one file: scene, models, start, and what region/ or sample/ saved.
 *
 *   "TSRSTATE" | version | precision | files | scene | finished | start or result | run [| picture] [| concat] | checksum */
#ifndef TSR_ENGINE_STATE_H
#define TSR_ENGINE_STATE_H

#include "engine/engine_priv.h"
#include "sample/run_state.h"

/* Which file a model or an adapter was: not its path, which may change. */
typedef struct tsr__file_mark {
    char *path; /* owned; where it was */
    uint64_t size;
    unsigned char hash[32]; /* of its start, middle and end */
} tsr__file_mark;

typedef struct tsr__engine_state {
    char *precision;
    int adapters;          /* the base's model had adapters merged in */
    tsr__file_mark *files; /* the picture's model, then all others and all adapters, each once */
    int n_files;
    tsr_scene *scene;
    int finished;        /* sampling had ended: latent is the result */
    tsr_latent *latent;  /* else what the run started from */
    tsr_image *original; /* what the finished picture gets back of its init image, or NULL */
    tsr_latent *concat;  /* what inpainting networks saw beside it, or NULL */
    tsr__block run;      /* points into the bytes */
} tsr__engine_state;

tsr_status tsr__engine_state_read(tsr__engine_state *out, const void *data, size_t size, tsr_error *err);
void tsr__engine_state_clear(tsr__engine_state *state);
/* Refuses an engine with another model or precision, before anything is computed. job: whose regions' models are open. */
tsr_status tsr__engine_state_check(const tsr__engine_state *state, const tsr_engine *engine, const tsr__job *job,
                                   tsr_error *err);

/* Makes states of one run. Zero-initialise, set the first two, release with _clear. */
typedef struct tsr__engine_saver {
    const tsr_engine *engine;
    const tsr__job *job;
    tsr__engine_state known; /* files, looked at once */
} tsr__engine_saver;
/* Hands a state to the callbacks' save. result: the finished latent, or NULL while `run` is under way. */
tsr_status tsr__engine_save(tsr__engine_saver *saver, const tsr_latent *result, const void *run, size_t run_size,
                            tsr_error *err);
void tsr__engine_saver_clear(tsr__engine_saver *saver);

#endif /* TSR_ENGINE_STATE_H */
