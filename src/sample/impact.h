/* sample/impact.h - one KSAMPLER_ADVANCED call of the Impact Pack: a window of a schedule, with its recovery pass.
 *
 * Source of the rules: reference/comfyui-sampling.md, "Impact Pack wrappers". Must not know regions. */
#ifndef TSR_IMPACT_H
#define TSR_IMPACT_H

#include "sample/sample_priv.h"

typedef enum tsr__recovery { TSR__RECOVERY_DISABLE, TSR__RECOVERY_ADDITIONAL, TSR__RECOVERY_BETWEEN } tsr__recovery;

typedef struct tsr__impact_call {
    const tsr_guide *guide;
    const char *sampler;
    const char *scheduler;
    const char *sampler_opt;          /* NULL, or what both passes run; `sampler` only says whether there are two */
    const tsr_solver_options *solver; /* of sampler_opt; NULL: the usual */
    double sigma_factor;
    int add_noise;
    uint64_t seed;
    int steps; /* of the whole schedule */
    int start, end;
    int leftover; /* 1: result is x at sigma[end]; 0: the last prediction of the clean latent */
    tsr__recovery recovery;
    const char *recovery_sampler; /* NULL or "AUTO", or a name */
    double recovery_ratio;
    const float *noise; /* NULL, or unit noise for the first pass */
} tsr__impact_call;

/* What a call comes to: up to two sampler runs. */
typedef struct tsr__impact_pass {
    const char *sampler;
    float *sigmas; /* owned */
    int n_sigmas;
    float brownian_min, brownian_max;
} tsr__impact_pass;

typedef struct tsr__impact_passes {
    tsr__impact_pass pass[2];
    int runs[2];  /* pass i is executed */
    int recovers; /* the first pass's result is composited over the input through the noise mask */
} tsr__impact_passes;

tsr_status tsr__impact_passes_init(tsr__impact_passes *passes, const tsr__impact_call *call, tsr_error *err);
void tsr__impact_passes_clear(tsr__impact_passes *passes);

/* Network evaluations of each pass. */
tsr_status tsr__impact_count(int64_t out[2], const tsr__impact_passes *passes, const tsr_guide *guide, tsr_error *err);

/* run: step totals and region are the caller's; its phase is set to recovery during the second pass. */
tsr_status tsr__impact_run(tsr_latent **out, const tsr_latent *latent, const tsr__impact_call *call, tsr__run *run,
                           tsr_error *err);

#endif /* TSR_IMPACT_H */
