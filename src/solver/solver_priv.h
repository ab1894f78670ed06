/* solver/solver_priv.h - what the sampler families see of a solver, and what they do with it.
 *
 * A family is one function, called when the answer to the pending query is there. It reads the latent, the answers and its
 * history, and either asks again (tsr__ask) or writes the next latent and returns: then the step has ended. All its state
 * lives in the solver, so that a snapshot needs no help from it.
 *
 * Every value is computed pixel by pixel from coefficients that depend on sigmas alone: a pixel's result is the same bits
 * whatever the others hold. */
#ifndef TSR_SOLVER_PRIV_H
#define TSR_SOLVER_PRIV_H

#include "tessera/noise.h"
#include "tessera/solver.h"

typedef enum tsr__phase {
    TSR__PHASE_NEW,     /* no latent yet */
    TSR__PHASE_BETWEEN, /* between steps */
    TSR__PHASE_WAITING, /* for an answer */
    TSR__PHASE_ANSWERED,
    TSR__PHASE_FAILED
} tsr__phase;

typedef enum tsr__noise_source { TSR__NOISE_NONE, TSR__NOISE_DRAW, TSR__NOISE_MIXED } tsr__noise_source;

enum {
    TSR__MAX_HISTORY = 6,
    TSR__MAX_SCALARS = 8,
    TSR__MAX_SIGMAS = 1 << 20,
    TSR__FIXED_ARRAYS = 6 /* latent, middle, answer, uncond, x0, draw */
};

/* A private flag: the method weighs slopes by the first sigma, which must be the largest. */
#define TSR__SAMPLER_ONE_WAY 0x10000u

typedef struct tsr__solver_kind {
    const char *name, *summary;
    unsigned flags; /* TSR_SAMPLER_..., TSR__SAMPLER_ONE_WAY */
    int stages;     /* evaluations a step, at most */
    int history;    /* arrays the family keeps; array 0 may be reported as mixed noise */
    int variant;    /* the family's own constant */
    tsr_status (*advance)(tsr_solver *s, tsr_error *err);
    tsr_status (*plan)(tsr_solver *s, tsr_error *err); /* NULL: one step a sigma */
} tsr__solver_kind;

struct tsr_solver {
    const tsr__solver_kind *kind;
    tsr_solver_options options;
    tsr__phase phase;

    size_t count;
    float *sigmas; /* [n_sigmas] */
    int n_sigmas;
    int step, n_steps; /* steps ended, steps in all (INT32_MAX: not known yet) */
    int stage;         /* of the pending or answered query */
    int asks_middle;   /* the query's x is middle, else latent */
    int asks;          /* set by the family: it wants another answer */
    int has_x0;
    int own_sigmas; /* set by plan: the family sets latent_sigma itself */
    float query_sigma;
    float latent_sigma; /* of the latent */

    float *slab; /* one block for all arrays below, each [count] */
    float *latent, *middle;
    float *answer, *uncond;           /* newest answer */
    float *x0;                        /* the answer to stage 0 of the newest step */
    float *draw;                      /* newest noise */
    float *history[TSR__MAX_HISTORY]; /* kind->history of them; families permute the pointers */
    double scalars[TSR__MAX_SCALARS]; /* the family's own */

    tsr_rng rng;        /* ancestral kinds */
    uint64_t draws;     /* made from it */
    tsr_brownian *tree; /* SDE kinds; made at first use */

    tsr__noise_source part;
    float part_amount;
    uint64_t part_key;
};

/* solver_table.c */
const tsr__solver_kind *tsr__solver_kind_at(int index); /* NULL out of range */

/* solver.c: memory, and the check of begin and restore alike. */
tsr_status tsr__solver_check_sigmas(const tsr__solver_kind *kind, const float *sigmas, int n_sigmas, tsr_error *err);
tsr_status tsr__solver_set_size(tsr_solver *s, size_t count, int n_sigmas, tsr_error *err);
/* n_steps and the family's scalars, from the sigmas; nothing but them. */
tsr_status tsr__solver_plan(tsr_solver *s, tsr_error *err);

/* For families. The sigmas of the step in hand, and of one `back` steps before it. */
static inline double tsr__sigma(const tsr_solver *s) {
    return s->sigmas[s->step];
}
static inline double tsr__sigma_next(const tsr_solver *s) {
    return s->sigmas[s->step + 1];
}
static inline double tsr__sigma_back(const tsr_solver *s, int back) {
    return s->sigmas[s->step - back];
}

/* Asks for the denoised s->middle at that sigma, as the next stage. */
void tsr__ask(tsr_solver *s, double sigma);
/* history[0] becomes history[1] and so on; history[0] is then free to be written. */
void tsr__shift_history(tsr_solver *s, int n);

/* out = sum of c * a, from the first term to the last; out may be one of the arrays. */
typedef struct tsr__term {
    double c;
    const float *a;
} tsr__term;
void tsr__combine(float *out, size_t count, const tsr__term *terms, int n);
#define TSR__COMBINE(s, out, ...)                                                                                      \
    tsr__combine((out), (s)->count, (const tsr__term[]){ __VA_ARGS__ },                                                \
                 (int)(sizeof((const tsr__term[]){ __VA_ARGS__ }) / sizeof(tsr__term)))
void tsr__copy(const tsr_solver *s, float *out, const float *in);

/* latent = latent moved from sigma to sigma_next along the straight line through `denoised`. */
void tsr__euler_move(tsr_solver *s, const float *denoised, double sigma, double sigma_next);

/* Splits the move from one sigma to another into a deterministic part down to *down and noise of *up. */
void tsr__ancestral(double from, double to, double eta, double *down, double *up);
/* Solves the n x n system a x = b by elimination with pivoting; a is row-major, n <= 4; both are overwritten, b = x. */
void tsr__solve(double *a, double *b, int n);

/* value += amount * s_noise * noise, noting it as the value's noise part; nothing when amount is 0. */
tsr_status tsr__add_noise(tsr_solver *s, float *value, double amount, double from, double to, tsr_error *err);
/* Fills s->draw; *key names the noise. */
tsr_status tsr__draw(tsr_solver *s, double from, double to, uint64_t *key, tsr_error *err);
uint64_t tsr__hash(uint64_t hash, uint64_t word);

/* The families; each advance function is described where it is defined. */
tsr_status tsr__advance_euler(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_euler_ancestral(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_euler_cfg_pp(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_lcm(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_ddpm(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_heun(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_heunpp2(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpm_2(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpmpp_2s(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpmpp_2m(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpmpp_2m_cfg_pp(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpmpp_sde(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpmpp_2m_sde(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpmpp_3m_sde(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_uni_pc(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_adams(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_res(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_gradient(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpm_fast(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_dpm_adaptive(tsr_solver *s, tsr_error *err);
tsr_status tsr__plan_dpm_fast(tsr_solver *s, tsr_error *err);
tsr_status tsr__plan_dpm_adaptive(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_er_sde(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_seeds(tsr_solver *s, tsr_error *err);
tsr_status tsr__advance_sa(tsr_solver *s, tsr_error *err);
tsr_status tsr__plan_sa(tsr_solver *s, tsr_error *err);

/* Variants. */
enum { TSR__VARIANT_PLAIN = 0, TSR__VARIANT_ANCESTRAL = 1, TSR__VARIANT_CFG_PP = 2 }; /* flags, may be joined */
enum { TSR__SDE_MIDPOINT, TSR__SDE_HEUN };
enum { TSR__UNI_PC_BH1, TSR__UNI_PC_BH2 };
enum { TSR__ADAMS_LMS, TSR__ADAMS_IPNDM, TSR__ADAMS_IPNDM_V, TSR__ADAMS_DEIS };
enum { TSR__SEEDS_2, TSR__SEEDS_3, TSR__SEEDS_HEUN, TSR__SEEDS_HEUN_SDE };
enum { TSR__SA_PEC, TSR__SA_PECE };

#endif /* TSR_SOLVER_PRIV_H */
