/* tessera/region.h - several prompts, models, guidances and samplers in one picture, during sampling.
 *
 *   tsr_plan_new(&plan, &base, regions, n, &options, latent->shape, &err);  // checks everything, costs nothing
 *   tsr_plan_text(&text, plan, &err);                                       // --dry-run
 *   tsr_plan_run(&result, plan, latent, &hooks, &err);
 *   tsr_plan_free(plan);
 *
 * Two histories: `keep` (docs/keep.md: every sampler, soft masks, one shared canvas) and `restart` (docs/restart.md:
 * the Impact Pack number for number). Needs no weights.
 * Threads: a plan is immutable after tsr_plan_new; each run uses its own memory. */
#ifndef TSR_REGION_H
#define TSR_REGION_H

#include "tessera/mask.h"
#include "tessera/sample.h"
#include "tessera/solver.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tsr_variation_method { TSR_VARIATION_LINEAR = 0, TSR_VARIATION_SLERP = 1 } tsr_variation_method;

/* One region. Borrowed while tsr_plan_new runs, except the denoiser and the conditionings: until the plan is freed. */
typedef struct tsr_region {
    size_t struct_size;
    const char *name;     /* for messages; NULL: "region k" */
    const tsr_mask *mask; /* at picture resolution, 1 = this region, soft values welcome (keep) */
    tsr_guide guide;
    const char *sampler;   /* NULL: the base's */
    const char *scheduler; /* NULL: the base's */
    float strength;        /* keep: opacity 0..1 */
    float feather_px;      /* keep: softens the mask, in pixels of the picture */
    float sigma_factor;    /* restart: multiplies the sigmas of this region's calls */
    uint64_t variation_seed;
    float variation_strength; /* 0..1, 0 = the canvas noise */
    tsr_variation_method variation_method;
    float start; /* keep: takes part in the steps between these two shares of the run; before and after, the base (or */
    float end;   /* whoever else claims its pixels) goes on from the same canvas */
    const char
        *sampler_opt; /* NULL, or what runs in the place of `sampler`, as the Impact Pack's input of that name. restart:
                                in the recovery's too, with the noise of a call of its own; `sampler` still decides
                                whether there is a recovery */
    const tsr_solver_options *solver; /* eta, s_noise and the like of sampler_opt; NULL: the usual */
} tsr_region;
#define TSR_REGION_INIT                                                                                                \
    {                                                                                                                  \
        sizeof(tsr_region), 0, 0, { 0, 0, 0, 1.0f, 0.0, 0.0 }, 0, 0, 1.0f, 0.0f, 1.0f, 0, 0.0f, TSR_VARIATION_LINEAR,  \
            0.0f, 1.0f, 0, 0                                                                                           \
    }

/* What is painted where no region is. */
typedef struct tsr_region_base {
    size_t struct_size;
    tsr_guide guide;
    const char *sampler;   /* NULL: "euler" */
    const char *scheduler; /* NULL: "normal" */
    float sigma_factor;
    const char *sampler_opt; /* as a region's */
    const tsr_solver_options *solver;
} tsr_region_base;
#define TSR_REGION_BASE_INIT                                                                                           \
    { sizeof(tsr_region_base), { 0, 0, 0, 1.0f, 0.0, 0.0 }, 0, 0, 1.0f, 0, 0 }

typedef enum tsr_history { TSR_HISTORY_KEEP = 0, TSR_HISTORY_RESTART = 1 } tsr_history;

/* keep: how far regions share the network (docs/modes.md). */
typedef enum tsr_sharing {
    TSR_SHARING_AUTO = 0, /* crop where it is clearly cheaper and the picture is large for the model, else full */
    TSR_SHARING_FULL,     /* every region over the whole canvas, in one batch */
    TSR_SHARING_CROP,     /* every region on its own part of the canvas and some context */
    TSR_SHARING_COUPLE /* one pass, where the prompts meet in cross-attention; one sampler, cfg and negative for all */
} tsr_sharing;

/* keep: who gets pixels that several regions claim. */
typedef enum tsr_overlap_policy {
    TSR_OVERLAP_BLEND = 0, /* all of them, by their claims */
    TSR_OVERLAP_STACK      /* later regions cover earlier ones */
} tsr_overlap_policy;

/* Which node's options are read. keep honours both. */
typedef enum tsr_system {
    TSR_SYSTEM_REGIONAL = 0,         /* RegionalSampler */
    TSR_SYSTEM_REGIONAL_ADVANCED = 1 /* RegionalSamplerAdvanced: a window of steps */
} tsr_system;

/* ComfyUI's names: ignore, fixed, seed+seed_2nd, seed-seed_2nd, increment, decrement, randomize. */
typedef enum tsr_seed_2nd_mode {
    TSR_SEED_2ND_IGNORE = 0,
    TSR_SEED_2ND_FIXED,
    TSR_SEED_2ND_ADD,
    TSR_SEED_2ND_SUBTRACT,
    TSR_SEED_2ND_INCREMENT,
    TSR_SEED_2ND_DECREMENT,
    TSR_SEED_2ND_RANDOMIZE
} tsr_seed_2nd_mode;

/* ComfyUI's names: DISABLE, ratio additional, ratio between. */
typedef enum tsr_recovery_mode {
    TSR_RECOVERY_DISABLE = 0,
    TSR_RECOVERY_RATIO_ADDITIONAL,
    TSR_RECOVERY_RATIO_BETWEEN
} tsr_recovery_mode;

/* Names to values; -1 when there is no such name. */
TSR_API int tsr_history_find(const char *name); /* "keep", "restart" */
TSR_API int tsr_seed_2nd_mode_find(const char *name);
TSR_API int tsr_recovery_mode_find(const char *name);
TSR_API int tsr_variation_method_find(const char *name); /* "linear", "slerp" */
TSR_API int tsr_sharing_find(const char *name);          /* "auto", "full", "crop", "couple" */
TSR_API int tsr_overlap_policy_find(const char *name);   /* "blend", "stack" */
/* Values to names; NULL out of range. */
TSR_API const char *tsr_history_name(int history);
TSR_API const char *tsr_seed_2nd_mode_name(int mode);
TSR_API const char *tsr_recovery_mode_name(int mode);
TSR_API const char *tsr_variation_method_name(int method);
TSR_API const char *tsr_sharing_name(int sharing);
TSR_API const char *tsr_overlap_policy_name(int policy);

typedef struct tsr_regional_options {
    size_t struct_size;
    tsr_system system;
    tsr_history history;
    int steps; /* 1..10000 */
    uint64_t seed;
    int overlap; /* in picture pixels. restart: overlap_factor, how far masks grow; keep: width of a soft ramp across
                    every region border. 0 = none */
    int width;   /* of the picture, which the masks must match; 0: 8 * latent width */
    int height;
    /* TSR_SYSTEM_REGIONAL */
    double denoise;      /* in (0, 1] */
    int base_only_steps; /* first steps that only the base takes */
    uint64_t seed_2nd;   /* restart only, as the next one */
    tsr_seed_2nd_mode seed_2nd_mode;
    /* TSR_SYSTEM_REGIONAL_ADVANCED */
    int start_step;
    int end_step;
    int add_noise;
    int leftover_noise;
    /* restart only */
    int restore_latent;
    tsr_recovery_mode recovery_mode;
    const char *recovery_sampler; /* NULL or "AUTO", or a sampler's name */
    float recovery_ratio;
    int allow_empty; /* 1: a region whose mask is empty is a warning, as in the nodes, not an error */
    /* keep only */
    tsr_sharing sharing;
    tsr_overlap_policy overlap_policy;
    int crop_context; /* latent pixels around a crop's region, up to 4096; 0: an eighth of the model's own size */
} tsr_regional_options;
/* The nodes' defaults, but history keep and overlap 0. */
#define TSR_REGIONAL_OPTIONS_INIT                                                                                      \
    {                                                                                                                  \
        sizeof(tsr_regional_options), TSR_SYSTEM_REGIONAL, TSR_HISTORY_KEEP, 20, 0, 0, 0, 0, 1.0, 0, 0,                \
            TSR_SEED_2ND_IGNORE, 0, 10000, 1, 0, 1, TSR_RECOVERY_RATIO_BETWEEN, 0, 0.3f, 0, TSR_SHARING_AUTO,          \
            TSR_OVERLAP_BLEND, 0                                                                                       \
    }

typedef struct tsr_plan tsr_plan;

/* Checks everything that can be checked before the network runs, and lists what a run will do. Errors: BAD_ARGUMENT (a
 * mask of a wrong size, a region that covers nothing, ...), NOT_FOUND (sampler or scheduler, with the nearest name). */
TSR_API tsr_status tsr_plan_new(tsr_plan **out, const tsr_region_base *base, const tsr_region *regions, int n_regions,
                                const tsr_regional_options *options, const int latent_shape[4], tsr_error *err);
TSR_API void tsr_plan_free(tsr_plan *plan); /* NULL is allowed */

typedef enum tsr_plan_kind {
    TSR_PLAN_NOISE = 0, /* makes the canvas noise */
    TSR_PLAN_CALL,      /* restart: one sampler call of the base or a region */
    TSR_PLAN_COMPOSITE, /* restart: puts the region's result into the base's */
    TSR_PLAN_LOCKSTEP,  /* keep: base and regions take one canvas step together */
    TSR_PLAN_FINISH     /* the result */
} tsr_plan_kind;

typedef struct tsr_plan_step {
    tsr_plan_kind kind;
    tsr_phase phase;
    int region; /* 0 = base, k = region k; -1: all of them */
    int step;   /* of the whole run, from 0; -1: none */
    float sigma_from, sigma_to;
    const char *sampler; /* NULL where several or none act; the plan's memory */
    int64_t evaluations; /* of the network; exact except for dpm_adaptive */
} tsr_plan_step;

TSR_API int tsr_plan_count(const tsr_plan *plan);
TSR_API tsr_plan_step tsr_plan_at(const tsr_plan *plan, int index); /* zeros out of range */
TSR_API int tsr_plan_steps(const tsr_plan *plan);                   /* sampling steps of the run */
TSR_API int64_t tsr_plan_evaluations(const tsr_plan *plan);
/* Of them, those of one network: regions may have networks of their own. */
TSR_API int64_t tsr_plan_evaluations_of(const tsr_plan *plan, const tsr_denoiser *denoiser);
/* How the plan shares the network: never AUTO. */
TSR_API tsr_sharing tsr_plan_sharing(const tsr_plan *plan);
/* What a way to share would cost here. Returns 0 when it is not available (always in restart). */
typedef struct tsr_plan_cost {
    int64_t evaluations;
    double relative; /* network work by area, 1 = a plain run of the base */
} tsr_plan_cost;
TSR_API int tsr_plan_cost_of(const tsr_plan *plan, tsr_sharing sharing, tsr_plan_cost *out);
/* What is legal but perhaps not meant ("no pixel is left for the base"); NULL out of range. The plan's memory. */
TSR_API const char *tsr_plan_warning(const tsr_plan *plan, int index);
/* A readable list, one line a step, equal steps folded; *out is released with tsr_free. */
TSR_API tsr_status tsr_plan_text(char **out, const tsr_plan *plan, tsr_error *err);

/* Runs the plan on a latent of the planned shape. hooks may be NULL. */
TSR_API tsr_status tsr_plan_run(tsr_latent **out, const tsr_plan *plan, const tsr_latent *latent,
                                const tsr_run_hooks *hooks, tsr_error *err);

/* keep's weights, for a page or a picture that shows who paints what: how much of each latent pixel belongs to the base
 * (index 0) and to each region. out: [height, width] of the latent. Restart plans: WRONG_STATE. */
TSR_API tsr_status tsr_plan_weights(float *out, const tsr_plan *plan, int index, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_REGION_H */
