/* Drives one solver by hand, saves it in the middle of its run, goes on from the copy, and gets the same bits.
 *
 * The "network" is an exact one: it knows that every clean value is 0.5 plus or minus a little. */
#include <stdio.h>
#include <tessera/tessera.h>

enum { COUNT = 16, STEPS = 8 };

/* The best guess of the clean value, for values spread around 0.5 with a deviation of 0.1. */
static void denoise(const float *x, float sigma, float *denoised) {
    const float spread = 0.1f * 0.1f, noise = sigma * sigma;
    for (int i = 0; i < COUNT; i++) denoised[i] = (spread * x[i] + noise * 0.5f) / (spread + noise);
}

/* Runs until `stop` steps have ended, or to the end. */
static tsr_status advance(tsr_solver *solver, int stop, tsr_error *err) {
    float denoised[COUNT];
    while (tsr_solver_step(solver) < stop) {
        const tsr_solver_event event = tsr_solver_next(solver, err);
        if (event == TSR_SOLVER_DONE) break;
        if (event == TSR_SOLVER_FAILED) return err->status;
        if (event != TSR_SOLVER_WANT_DENOISED) continue; /* STEPPED: the latent could be looked at or changed */
        const tsr_solver_query query = tsr_solver_pending(solver);
        denoise(query.x, query.sigma, denoised);
        const tsr_status status = tsr_solver_supply(solver, denoised, NULL, err);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

int main(void) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_sigma_table *table = NULL;
    tsr_solver *solver = NULL, *copy = NULL;
    float *sigmas = NULL, start[COUNT];
    void *snapshot = NULL;
    size_t size = 0;
    int count = 0, same = 0;
    tsr_rng rng;

    tsr_rng_seed(&rng, 1);
    tsr_rng_randn(&rng, start, COUNT);
    if (tsr_sigma_table_new(&table, 0.00085, 0.012, 1000, &err) == TSR_OK &&
        tsr_schedule_sigmas(&sigmas, &count, table, "karras", STEPS, &err) == TSR_OK &&
        tsr_solver_new(&solver, "dpmpp_2m_sde", NULL, &err) == TSR_OK) {
        for (int i = 0; i < COUNT; i++) start[i] *= sigmas[0];
        if (tsr_solver_begin(solver, start, COUNT, sigmas, count, &err) == TSR_OK &&
            advance(solver, STEPS / 2, &err) == TSR_OK && tsr_solver_save(solver, &snapshot, &size, &err) == TSR_OK &&
            tsr_solver_restore(&copy, snapshot, size, &err) == TSR_OK && advance(solver, STEPS, &err) == TSR_OK &&
            advance(copy, STEPS, &err) == TSR_OK) {
            same = 1;
            for (int i = 0; i < COUNT; i++)
                if (tsr_solver_latent(solver)[i] != tsr_solver_latent(copy)[i]) same = 0;
            printf("a snapshot of %zu bytes after step %d; first value %.6f, from the copy %.6f: %s\n", size, STEPS / 2,
                   tsr_solver_latent(solver)[0], tsr_solver_latent(copy)[0], same ? "the same bits" : "DIFFERENT");
        }
    }
    if (err.status != TSR_OK) fprintf(stderr, "%s: %s\n", tsr_status_name(err.status), err.message);

    tsr_free(snapshot);
    tsr_free(sigmas);
    tsr_solver_free(copy);
    tsr_solver_free(solver);
    tsr_sigma_table_free(table);
    return !same;
}
