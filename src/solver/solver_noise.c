/* solver/solver_noise.c - fresh noise for the stochastic families: a generator, a Brownian tree, or the caller's function.
 *
 * Each noise has a key made of where it came from, so that solvers that share a canvas can tell equal noise. */
#include <string.h>

#include "core/check.h"
#include "solver_priv.h"

enum { SOURCE_GENERATOR = 1, SOURCE_TREE = 2, SOURCE_CALLER = 3 };

/* One round of splitmix64's mixing over what was hashed before. */
uint64_t tsr__hash(uint64_t hash, uint64_t word) {
    uint64_t z = (hash ^ word) + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t bits_of(float a, float b) {
    uint32_t low, high;
    memcpy(&low, &a, sizeof low);
    memcpy(&high, &b, sizeof high);
    return (uint64_t)high << 32 | low;
}

static void tree_range(const tsr_solver *s, float *low, float *high) {
    *low = s->options.sigma_min;
    *high = s->options.sigma_max;
    if (*low != 0 || *high != 0) return;
    int last = s->n_sigmas - 1;
    *low = s->sigmas[last] > 0 ? s->sigmas[last] : s->sigmas[last - 1];
    *high = s->sigmas[0];
}

static tsr_status draw_from_tree(tsr_solver *s, float from, float to, uint64_t *key, tsr_error *err) {
    tsr_status status = TSR_OK;
    float low, high;
    tree_range(s, &low, &high);
    *key = tsr__hash(tsr__hash(tsr__hash(SOURCE_TREE, s->options.seed), bits_of(from, to)), bits_of(low, high));
    if (from == to) {
        memset(s->draw, 0, s->count * sizeof *s->draw);
        goto done;
    }
    if (!s->tree) TSR_TRY(tsr_brownian_new(&s->tree, s->count, low, high, s->options.seed, err));
    TSR_TRY(tsr_brownian_query(s->tree, from, to, s->draw, err));
done:
    return status;
}

tsr_status tsr__draw(tsr_solver *s, double from, double to, uint64_t *key, tsr_error *err) {
    float sigma_from = (float)from, sigma_to = (float)to;
    if (s->options.noise) {
        *key = tsr__hash(tsr__hash(SOURCE_CALLER, s->options.seed), bits_of(sigma_from, sigma_to));
        return s->options.noise(s->options.noise_user, sigma_from, sigma_to, s->draw, s->count, err);
    }
    if (s->kind->flags & TSR_SAMPLER_BROWNIAN) return draw_from_tree(s, sigma_from, sigma_to, key, err);
    *key = tsr__hash(tsr__hash(SOURCE_GENERATOR, s->options.seed), s->draws++);
    tsr_rng_randn(&s->rng, s->draw, s->count);
    return TSR_OK;
}

tsr_status tsr__add_noise(tsr_solver *s, float *value, double amount, double from, double to, tsr_error *err) {
    tsr_status status = TSR_OK;
    float scale = (float)(amount * s->options.s_noise);
    if (scale == 0) goto done;
    TSR_TRY(tsr__draw(s, from, to, &s->part_key, err));
    TSR__COMBINE(s, value, { 1.0, value }, { scale, s->draw });
    s->part = TSR__NOISE_DRAW;
    s->part_amount = scale;
done:
    return status;
}
