/* noise/brownian.c - torchsde's Brownian tree: W(t) over [t0, t1] by repeated halving, each node with its own seed.
 *
 * A node's value follows from the seed and its path alone, so nothing is remembered: a query walks down from the root to
 * its two ends and keeps three buffers, whatever is asked. Times are sigmas rounded to 6 decimals. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "seed_sequence.h"
#include "tessera/noise.h"

enum { MAX_DEPTH = 63 }; /* a node's key doubles at each level and must fit 64 bits */

struct tsr_brownian {
    size_t count;
    double start, end; /* rounded */
    uint64_t seed;
    float *here;  /* [count] W of the node in hand */
    float *other; /* [count] W of the right half while the left half is walked */
    float *draw;  /* [count] normals of a node, then W of its left half */
};

typedef struct node {
    double start, end;
    uint64_t key;
    int depth;
    float *w; /* [count] W(end) - W(start), changed in place on the way down */
} node;

/* Python's round(t, 6): correctly rounded decimal, which only decimal conversion gives. */
static double round6(double t) {
    char text[400];
    snprintf(text, sizeof text, "%.6f", t);
    return strtod(text, NULL);
}

tsr_status tsr_brownian_new(tsr_brownian **out, size_t count, float sigma_min, float sigma_max, uint64_t seed,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_brownian *tree = NULL;
    *out = NULL;
    if (!count) TSR_FAIL(err, TSR_BAD_ARGUMENT, "Brownian tree: count must be positive");
    if (!isfinite(sigma_min) || !isfinite(sigma_max))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "Brownian tree: the sigma range is not finite");
    TSR_ALLOC_ZERO(err, tree, 1);
    tree->count = count;
    tree->start = round6(fmin(sigma_min, sigma_max));
    tree->end = round6(fmax(sigma_min, sigma_max));
    tree->seed = seed;
    if (!(tree->start < tree->end))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "Brownian tree: the sigma range %g..%g is empty", (double)sigma_min,
                 (double)sigma_max);
    TSR_ALLOC(err, tree->here, count);
    TSR_ALLOC(err, tree->other, count);
    TSR_ALLOC(err, tree->draw, count);
    *out = tree;
    tree = NULL;
done:
    tsr_brownian_free(tree);
    return status;
}

void tsr_brownian_free(tsr_brownian *tree) {
    if (!tree) return;
    free(tree->here);
    free(tree->other);
    free(tree->draw);
    free(tree);
}

static void draw_normals(tsr_brownian *tree, float *out, uint32_t seed) {
    tsr_rng rng;
    tsr_rng_seed(&rng, seed);
    tsr_rng_randn(&rng, out, tree->count);
}

static node root_of(tsr_brownian *tree) {
    node root = { tree->start, tree->end, 0, 0, tree->here };
    float scale = (float)sqrt(tree->end - tree->start);
    draw_normals(tree, root.w, tsr__seed_root(tree->seed));
    for (size_t i = 0; i < tree->count; i++) root.w[i] *= scale;
    return root;
}

static double middle_of(const node *at) {
    return round6(0.5 * (at->end + at->start));
}

/* tree->draw = W of the left half (a Brownian bridge); at->w -= that, so it holds W of the right half. */
static tsr_status split(tsr_brownian *tree, const node *at, double middle, tsr_error *err) {
    if (at->depth >= MAX_DEPTH || !(at->start < middle && middle < at->end))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "Brownian tree: the sigma range %g..%g is too wide to be halved",
                         tree->start, tree->end);
    double whole = at->end - at->start, left = middle - at->start, right = at->end - middle;
    float share = (float)(left / whole), spread = (float)sqrt(left * right / whole);
    draw_normals(tree, tree->draw, tsr__seed_spawn(tree->seed, at->key, (uint32_t)at->depth));
    for (size_t i = 0; i < tree->count; i++) {
        tree->draw[i] = at->w[i] * share + spread * tree->draw[i];
        at->w[i] = at->w[i] - tree->draw[i];
    }
    return TSR_OK;
}

/* After a split: `at` becomes its left or right half. */
static void go_left(tsr_brownian *tree, node *at, double middle) {
    memcpy(at->w, tree->draw, tree->count * sizeof *at->w);
    at->end = middle;
    at->key = 2 * at->key;
    at->depth++;
}

static void go_right(node *at, double middle) {
    at->start = middle;
    at->key = 2 * at->key + 1;
    at->depth++;
}

static void add(tsr_brownian *tree, float *sum, const float *w) {
    for (size_t i = 0; i < tree->count; i++) sum[i] += w[i];
}

/* sum += W(at->end) - W(t), t inside or at the start of the node. */
static tsr_status add_after(tsr_brownian *tree, node at, double t, float *sum, tsr_error *err) {
    tsr_status status = TSR_OK;
    while (t > at.start) {
        double middle = middle_of(&at);
        TSR_TRY(split(tree, &at, middle, err));
        if (t >= middle) {
            go_right(&at, middle);
        } else {
            add(tree, sum, at.w);
            go_left(tree, &at, middle);
        }
    }
    add(tree, sum, at.w);
done:
    return status;
}

/* sum += W(t) - W(at->start), t inside or at the end of the node. */
static tsr_status add_before(tsr_brownian *tree, node at, double t, float *sum, tsr_error *err) {
    tsr_status status = TSR_OK;
    while (t < at.end) {
        double middle = middle_of(&at);
        TSR_TRY(split(tree, &at, middle, err));
        if (t <= middle) {
            go_left(tree, &at, middle);
        } else {
            add(tree, sum, tree->draw);
            go_right(&at, middle);
        }
    }
    add(tree, sum, at.w);
done:
    return status;
}

/* sum += W(to) - W(from), both on the rounded grid, from < to. */
static tsr_status add_interval(tsr_brownian *tree, double from, double to, float *sum, tsr_error *err) {
    tsr_status status = TSR_OK;
    node at = root_of(tree), right;
    while (from > at.start || to < at.end) {
        double middle = middle_of(&at);
        TSR_TRY(split(tree, &at, middle, err));
        if (to <= middle) {
            go_left(tree, &at, middle);
        } else if (from >= middle) {
            go_right(&at, middle);
        } else {
            right = at;
            right.w = tree->other;
            memcpy(right.w, at.w, tree->count * sizeof *right.w);
            go_right(&right, middle);
            go_left(tree, &at, middle);
            TSR_TRY(add_after(tree, at, from, sum, err));
            TSR_TRY(add_before(tree, right, to, sum, err));
            goto done;
        }
    }
    add(tree, sum, at.w);
done:
    return status;
}

static double clamp_time(const tsr_brownian *tree, double t) {
    return t < tree->start ? tree->start : t > tree->end ? tree->end : round6(t);
}

tsr_status tsr_brownian_query(tsr_brownian *tree, float sigma_from, float sigma_to, float *out, tsr_error *err) {
    tsr_status status = TSR_OK;
    float scale;
    if (!isfinite(sigma_from) || !isfinite(sigma_to))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "Brownian tree: asked between sigmas that are not finite");
    memset(out, 0, tree->count * sizeof *out);
    double from = clamp_time(tree, fmin(sigma_from, sigma_to)), to = clamp_time(tree, fmax(sigma_from, sigma_to));
    if (!(from < to)) goto done;
    TSR_TRY(add_interval(tree, from, to, out, err));
    scale = sqrtf(fabsf(sigma_to - sigma_from));
    if (sigma_from > sigma_to) scale = -scale;
    for (size_t i = 0; i < tree->count; i++) out[i] /= scale;
done:
    return status;
}
