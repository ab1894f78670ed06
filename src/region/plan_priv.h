/* region/plan_priv.h - what a plan is made of, shared by the planner, the two systems and the runner. */
#ifndef TSR_PLAN_PRIV_H
#define TSR_PLAN_PRIV_H

#include "sample/evaluate.h"
#include "tessera/region.h"

/* The base (index 0) or a region, with everything a run needs. Strings and memory are the plan's. */
typedef struct tsr__actor {
    char *label; /* "base", "region 2", "region 2 (cat)" */
    tsr_guide guide;
    char *sampler;
    char *scheduler;
    char *sampler_opt; /* restart: what runs in the sampler's place, or NULL. keep: NULL, it is the sampler */
    tsr_solver_options solver;
    double sigma_factor;
    float strength;
    float feather_px;
    uint64_t variation_seed;
    float variation_strength;
    tsr_variation_method variation_method;
    float start, end; /* keep: shares of the run */
    tsr_mask *mask;   /* picture resolution; NULL for the base */

    tsr_mask *grown; /* restart: the Impact Pack's region mask */

    int64_t network_evaluations; /* of this actor's network, in the whole plan */

    /* keep */
    float *claims;  /* [h, w] of the latent: how much of each pixel it would take; NULL for the base */
    float *weights; /* [h, w]: its share of each pixel when everybody takes part */
    int used;       /* is active in some step */
    int first;      /* canvas step at which it starts */
    int last;       /* canvas step before which it ends */
    tsr__crop crop; /* what its network sees */
    float *sigmas;  /* the canvas sigmas and this actor's own between them */
    int n_sigmas;
    int *boundary; /* [n canvas sigmas]: index of each canvas sigma in `sigmas` */
    uint64_t seed; /* of its solver */
    int own_pace;  /* its solver spreads sigmas of its own between the first and the last */
} tsr__actor;

/* Which noise mask a restart call gets. */
typedef enum tsr__call_mask { TSR__MASK_INPUT, TSR__MASK_INVERSE, TSR__MASK_REGION } tsr__call_mask;

/* One step of a plan: what is shown, and what the runner needs besides. */
typedef struct tsr__op {
    tsr_plan_step shown;
    uint64_t seed;  /* NOISE, CALL */
    int start, end; /* CALL: schedule steps */
    int schedule_steps;
    int add_noise, leftover, recovers, uses_noise;
    tsr__call_mask mask;
} tsr__op;

struct tsr_plan {
    tsr_regional_options options; /* recovery_sampler points to the next field */
    char *recovery_sampler;
    int shape[4];
    tsr__actor *actors; /* [n_regions + 1] */
    int n_actors;
    tsr__op *ops;
    int n_ops, cap_ops;
    char **warnings;
    int n_warnings;
    int steps;
    int first_regional; /* restart: the step at which regions start */
    int64_t evaluations;
    tsr_mask *inverse; /* restart: 1 where no region is */
    float *sigmas;     /* keep: the canvas sigmas */
    int n_sigmas;
    unsigned char *active; /* keep: [steps, n_actors], who takes part in which step */
    tsr_sharing sharing;   /* the one that runs */
    int crops_base;        /* no step has the base alone in a place it does not own */
    tsr_plan_cost costs[TSR_SHARING_COUPLE + 1];
    char *no_couple; /* why couple is not available; NULL: it is */
};

/* Gives the actor, whose sampler is set, what runs in its place; both may be NULL. */
tsr_status tsr__actor_set_opt(tsr__actor *actor, const char *sampler_opt, const tsr_solver_options *solver, int keep,
                              tsr_error *err);
/* A restart's factor, which the node allows to be 0: the reference then divides by the sigmas it made 0. */
tsr_status tsr__check_factor(double sigma_factor, const char *label, tsr_error *err);
tsr_status tsr__plan_add(tsr_plan *plan, const tsr__op *op, tsr_error *err);
tsr_status tsr__plan_warn(tsr_plan *plan, tsr_error *err, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* Fill actors' derived fields and the op list. */
tsr_status tsr__plan_restart(tsr_plan *plan, tsr_error *err);
tsr_status tsr__plan_keep(tsr_plan *plan, tsr_error *err);

/* keep: every actor's claims and weights from masks, feather, strength and overlap. */
tsr_status tsr__plan_set_weights(tsr_plan *plan, tsr_error *err);
/* Shares of `count` pixels from claims (claims[0] is not read), those of the actors that take part. */
void tsr__plan_share(const tsr_plan *plan, float *const *shares, const float *const *claims,
                     const unsigned char *takes_part, size_t count);
/* Fills plan->active from the actors' first and last steps, and `used`. */
tsr_status tsr__plan_set_active(tsr_plan *plan, tsr_error *err);
/* Settles plan->sharing and the costs of each way; says why a way that was asked for is not available. */
tsr_status tsr__plan_set_sharing(tsr_plan *plan, tsr_error *err);
/* Plans every actor's crop for plan->sharing. */
void tsr__plan_set_crops(tsr_plan *plan);

/* Noise with the regions' variations. out: [n, c, h, w].
 * restart: the Impact Pack's rule, region by region. keep: mixed by the weights so that the variance stays 1. */
tsr_status tsr__restart_noise(float *out, const tsr_plan *plan, const tsr_latent *latent, uint64_t seed,
                              tsr_error *err);
tsr_status tsr__keep_noise(float *out, const tsr_plan *plan, const tsr_latent *latent, tsr_error *err);
/* 1 when some region varies the noise. */
int tsr__plan_varies(const tsr_plan *plan);

#endif /* TSR_PLAN_PRIV_H */
