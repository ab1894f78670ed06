/* sample/cond_list.c - see cond_list.h. */
#include "sample/cond_list.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum { RAMP = 8, MIN_BOUNDS = 8 };

/* Where an entry acts on a latent of a known size. */
typedef struct placed {
    const tsr__cond_entry *entry; /* all but its handle */
    const void *cond;
    int has_area;
    int y, x, h, w;
    tsr_mask *mask; /* of the whole latent's size; owned by the entry's first place, borrowed by copies */
    int owns_mask;
} placed;

typedef struct side {
    struct tsr__cond_pair *pair;
    tsr__cond_entry *entries; /* as given */
    int n_entries;
    placed *places; /* for pair->h x pair->w */
    int n_places, cap_places;
} side;

struct tsr__cond_pair {
    side sides[2];
    int h, w; /* what the places are for; 0: nothing yet */
};

/* --- pairs -------------------------------------------------------------------------------------------------------------- */
static void clear_places(side *s) {
    for (int i = 0; i < s->n_places; i++)
        if (s->places[i].owns_mask) tsr_mask_free(s->places[i].mask);
    s->n_places = 0;
}

void tsr__cond_pair_free(tsr__cond_pair *pair) {
    if (!pair) return;
    for (int i = 0; i < 2; i++) {
        clear_places(&pair->sides[i]);
        free(pair->sides[i].places);
        free(pair->sides[i].entries);
    }
    free(pair);
}

tsr_status tsr__cond_pair_new(tsr__cond_pair **out, const tsr__cond_entry *positive, int n_positive,
                              const tsr__cond_entry *negative, int n_negative, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__cond_pair *pair = NULL;
    const tsr__cond_entry *given[2] = { positive, negative };
    const int n[2] = { n_positive, n_negative };
    *out = NULL;
    TSR_ALLOC_ZERO(err, pair, 1);
    for (int i = 0; i < 2; i++) {
        side *s = &pair->sides[i];
        s->pair = pair;
        TSR_ALLOC_ZERO(err, s->entries, n[i] + 1);
        if (n[i] > 0) memcpy(s->entries, given[i], (size_t)n[i] * sizeof *s->entries);
        s->n_entries = n[i];
        /* Each entry of the other side may add one here, and each of those one there. */
        s->cap_places = 2 * (n_positive + n_negative) + 2;
        TSR_ALLOC_ZERO(err, s->places, s->cap_places);
    }
    *out = pair;
    pair = NULL;
done:
    tsr__cond_pair_free(pair);
    return status;
}

const void *tsr__cond_pair_side(const tsr__cond_pair *pair, int negative) {
    return &pair->sides[negative != 0];
}

/* --- places ------------------------------------------------------------------------------------------------------------- */
/* The box around what is not 0, at least MIN_BOUNDS long where the latent has room. */
static void set_bounds(placed *p, int height, int width) {
    int top = height, left = width, bottom = -1, right = -1;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            if (p->mask->values[(size_t)y * (size_t)width + (size_t)x] == 0.0f) continue;
            if (y < top) top = y;
            if (x < left) left = x;
            if (y > bottom) bottom = y;
            if (x > right) right = x;
        }
    p->has_area = 1;
    p->y = bottom < 0 ? 0 : top;
    p->x = bottom < 0 ? 0 : left;
    p->h = bottom < 0 ? MIN_BOUNDS : bottom - top + 1;
    p->w = bottom < 0 ? MIN_BOUNDS : right - left + 1;
    if (p->h < MIN_BOUNDS) p->h = MIN_BOUNDS;
    if (p->w < MIN_BOUNDS) p->w = MIN_BOUNDS;
}

/* Python's round: half to even, which is what rint does. */
static void set_area(placed *p, const tsr__cond_entry *entry, int height, int width) {
    const double sides[4] = { height, width, height, width };
    double v[4];
    for (int i = 0; i < 4; i++) {
        v[i] = entry->area_kind == TSR__AREA_SHARE ? rint(entry->area[i] * sides[i]) : entry->area[i];
        if (i < 2 && entry->area_kind == TSR__AREA_SHARE && v[i] < 1.0) v[i] = 1.0;
        v[i] = fmin(fmax(v[i], 0.0), 65536.0);
    }
    p->has_area = 1;
    p->h = (int)v[0];
    p->w = (int)v[1];
    p->y = (int)v[2];
    p->x = (int)v[3];
}

static tsr_status place(side *s, const tsr__cond_entry *entry, int height, int width, tsr_error *err) {
    tsr_status status = TSR_OK;
    placed p = { .entry = entry, .cond = entry->cond, .h = height, .w = width };
    if (entry->mask) {
        TSR_TRY(tsr_mask_resize(&p.mask, entry->mask, width, height, err));
        p.owns_mask = 1;
    }
    if (entry->area_kind != TSR__AREA_NONE) set_area(&p, entry, height, width);
    if (entry->mask && entry->mask_bounds) set_bounds(&p, height, width);
    if (p.h > height - p.y) p.h = height - p.y;
    if (p.w > width - p.x) p.w = width - p.x;
    if (p.h < 1 || p.w < 1) { /* outside the latent: it has no effect */
        tsr_mask_free(p.mask);
        return TSR_OK;
    }
    s->places[s->n_places++] = p;
done:
    return status;
}

static int covers(const placed *outer, const placed *inner) {
    return inner->y >= outer->y && inner->x >= outer->x && outer->y + outer->h >= inner->y + inner->h &&
           outer->x + outer->w >= inner->x + inner->w;
}

/* An area of one side that the other side lacks: the other side's smallest conditioning around it is evaluated there. */
static void add_opposite(side *s, const placed *area) {
    const placed *smallest = NULL;
    if (!area->has_area) return;
    for (int i = 0; i < s->n_places; i++) {
        const placed *p = &s->places[i];
        if (!p->has_area) {
            if (!smallest) smallest = p;
        } else if (covers(p, area)) {
            if (!smallest || !smallest->has_area || smallest->h * smallest->w > p->h * p->w) smallest = p;
        }
    }
    if (!smallest || s->n_places == s->cap_places) return;
    if (smallest->has_area && smallest->h == area->h && smallest->w == area->w && smallest->y == area->y &&
        smallest->x == area->x)
        return;
    placed made = *area;
    made.cond = smallest->cond;
    made.owns_mask = 0;
    s->places[s->n_places++] = made;
}

static tsr_status place_all(tsr__cond_pair *pair, int height, int width, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (pair->h == height && pair->w == width) return TSR_OK;
    pair->h = pair->w = 0;
    for (int i = 0; i < 2; i++) {
        side *s = &pair->sides[i];
        clear_places(s);
        for (int k = 0; k < s->n_entries; k++) TSR_TRY(place(s, &s->entries[k], height, width, err));
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < pair->sides[i].n_places; k++) add_opposite(&pair->sides[1 - i], &pair->sides[i].places[k]);
    pair->h = height;
    pair->w = width;
done:
    return status;
}

/* --- evaluation ----------------------------------------------------------------------------------------------------------- */
/* One network evaluation. */
typedef struct job {
    const float *x; /* as asked: the identity */
    float sigma;
    const void *cond;
    int y, x0, h, w;
    const tsr_denoise_call *asked;
    float *in;  /* owned crop, or NULL: the whole x */
    float *out; /* owned [n, c, h, w] */
    int done;
} job;

typedef struct work {
    const int *shape;
    job *jobs;
    int n_jobs, cap_jobs;
    tsr_denoise_call *batch;
    float *weights; /* [h, w] of the call in hand */
} work;

static int is_active(const placed *p, float sigma) {
    return !(sigma > p->entry->start_sigma || sigma < p->entry->end_sigma);
}

static int find_job(const work *w, const tsr_denoise_call *call, const placed *p) {
    for (int i = 0; i < w->n_jobs; i++) {
        const job *j = &w->jobs[i];
        if (j->x == call->x && j->sigma == call->sigma && j->cond == p->cond && j->y == p->y && j->x0 == p->x &&
            j->h == p->h && j->w == p->w)
            return i;
    }
    return -1;
}

static void crop(float *to, const float *from, const int shape[4], const job *j) {
    size_t width = (size_t)shape[3], planes = (size_t)shape[0] * (size_t)shape[1];
    for (size_t plane = 0; plane < planes; plane++)
        for (int y = 0; y < j->h; y++, to += j->w)
            memcpy(to, from + (plane * (size_t)shape[2] + (size_t)(j->y + y)) * width + (size_t)j->x0,
                   (size_t)j->w * sizeof *to);
}

static tsr_status add_job(work *w, const tsr_denoise_call *call, const placed *p, tsr_error *err) {
    tsr_status status = TSR_OK;
    job *j = &w->jobs[w->n_jobs];
    size_t count = (size_t)w->shape[0] * (size_t)w->shape[1] * (size_t)p->h * (size_t)p->w;
    job made = {
        .x = call->x, .sigma = call->sigma, .cond = p->cond, .asked = call, .y = p->y, .x0 = p->x, .h = p->h, .w = p->w
    };
    *j = made;
    w->n_jobs++;
    TSR_ALLOC(err, j->out, count);
    if (p->h != w->shape[2] || p->w != w->shape[3]) {
        TSR_ALLOC(err, j->in, count);
        crop(j->in, call->x, w->shape, j);
    }
done:
    return status;
}

/* All evaluations of one size go to the network together. */
static tsr_status run_jobs(work *w, const tsr_denoiser *network, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int first = 0; first < w->n_jobs; first++) {
        int n = 0, shape[4] = { w->shape[0], w->shape[1], w->jobs[first].h, w->jobs[first].w };
        if (w->jobs[first].done) continue;
        for (int i = first; i < w->n_jobs; i++) {
            job *j = &w->jobs[i];
            if (j->done || j->h != shape[2] || j->w != shape[3]) continue;
            /* A part of it is a canvas of its own to control networks, as in ComfyUI. */
            tsr_denoise_call call = { .x = j->in ? j->in : j->x,
                                      .sigma = j->sigma,
                                      .cond = j->cond,
                                      .denoised = j->out,
                                      .start = j->asked->start,
                                      .start_left = j->asked->start_left + j->x0,
                                      .start_top = j->asked->start_top + j->y };
            w->batch[n++] = call;
            j->done = 1;
        }
        TSR_TRY(network->denoise(network->user, shape, w->batch, n, err));
    }
done:
    return status;
}

/* The ramp of an area's border at distance t from it, over rr pixels. */
static float ramp(int t, int rr) {
    return t < rr ? (1.0f / (float)rr) * (float)(t + 1) : 1.0f;
}

static float weight_at(const placed *p, const int shape[4], int y, int x) {
    float weight = p->entry->strength;
    if (p->mask)
        return p->mask->values[(size_t)(p->y + y) * (size_t)shape[3] + (size_t)(p->x + x)] * p->entry->mask_strength *
               weight;
    if (!p->has_area) return weight;
    int ry = p->h / 4 < RAMP ? p->h / 4 : RAMP, rx = p->w / 4 < RAMP ? p->w / 4 : RAMP;
    if (p->y != 0) weight *= ramp(y, ry);
    if (p->y + p->h < shape[2]) weight *= ramp(p->h - 1 - y, ry);
    if (p->x != 0) weight *= ramp(x, rx);
    if (p->x + p->w < shape[3]) weight *= ramp(p->w - 1 - x, rx);
    return weight;
}

static void add_prediction(work *w, const tsr_denoise_call *call, const placed *p, const float *prediction) {
    const int *shape = w->shape;
    size_t planes = (size_t)shape[0] * (size_t)shape[1], whole = (size_t)shape[2] * (size_t)shape[3];
    size_t part = (size_t)p->h * (size_t)p->w;
    for (int y = 0; y < p->h; y++)
        for (int x = 0; x < p->w; x++) {
            float weight = weight_at(p, shape, y, x);
            size_t at = (size_t)(p->y + y) * (size_t)shape[3] + (size_t)(p->x + x);
            size_t from = (size_t)y * (size_t)p->w + (size_t)x;
            for (size_t plane = 0; plane < planes; plane++)
                call->denoised[plane * whole + at] += prediction[plane * part + from] * weight;
            w->weights[at] += weight;
        }
}

static void combine(work *w, const tsr_denoise_call *call) {
    const side *s = call->cond;
    size_t whole = (size_t)w->shape[2] * (size_t)w->shape[3];
    size_t count = whole * (size_t)w->shape[0] * (size_t)w->shape[1];
    memset(call->denoised, 0, count * sizeof *call->denoised);
    for (size_t i = 0; i < whole; i++) w->weights[i] = 1e-37f; /* so that nothing divided by nothing is 0 */
    for (int i = 0; i < s->n_places; i++)
        if (is_active(&s->places[i], call->sigma))
            add_prediction(w, call, &s->places[i], w->jobs[find_job(w, call, &s->places[i])].out);
    for (size_t i = 0; i < count; i++) call->denoised[i] /= w->weights[i % whole];
}

static tsr_status denoise_lists(void *user, const int shape[4], const tsr_denoise_call *calls, int count,
                                tsr_error *err) {
    tsr__cond_denoiser *self = user;
    tsr_status status = TSR_OK;
    work w = { .shape = shape };
    for (int i = 0; i < count; i++) {
        const side *s = calls[i].cond;
        TSR_TRY(place_all(s->pair, shape[2], shape[3], err));
        w.cap_jobs += s->n_places;
    }
    TSR_ALLOC_ZERO(err, w.jobs, w.cap_jobs + 1);
    TSR_ALLOC_ZERO(err, w.batch, w.cap_jobs + 1);
    TSR_ALLOC(err, w.weights, (size_t)shape[2] * (size_t)shape[3]);
    for (int i = 0; i < count; i++) {
        const side *s = calls[i].cond;
        for (int k = 0; k < s->n_places; k++)
            if (is_active(&s->places[k], calls[i].sigma) && find_job(&w, &calls[i], &s->places[k]) < 0)
                TSR_TRY(add_job(&w, &calls[i], &s->places[k], err));
    }
    TSR_TRY(run_jobs(&w, self->network, err));
    for (int i = 0; i < count; i++) combine(&w, &calls[i]);
done:
    for (int i = 0; i < w.n_jobs; i++) {
        free(w.jobs[i].in);
        free(w.jobs[i].out);
    }
    free(w.jobs);
    free(w.batch);
    free(w.weights);
    return status;
}

static int is_ready(void *user) {
    const tsr_denoiser *network = ((const tsr__cond_denoiser *)user)->network;
    return network->is_ready(network->user);
}

void tsr__cond_denoiser_init(tsr__cond_denoiser *out, const tsr_denoiser *network) {
    out->network = network;
    out->denoiser = *network;
    out->denoiser.struct_size = sizeof out->denoiser;
    out->denoiser.user = out;
    out->denoiser.denoise = denoise_lists;
    out->denoiser.is_ready = network->is_ready ? is_ready : NULL;
    /* A list's areas and masks are places on the whole canvas. */
    out->denoiser.native_size = 0;
    out->denoiser.couple = NULL;
    out->denoiser.uncouple = NULL;
}
