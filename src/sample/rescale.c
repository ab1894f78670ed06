/* sample/rescale.c - see rescale.h. */
#include "sample/rescale.h"

#include <math.h>

/* A clean latent and v are the two ways to read one output: v = (x / (sigma^2 + 1) - clean) sqrt(sigma^2 + 1) / sigma. */
typedef struct reading {
    float share, scale; /* v = (x share - clean) scale */
} reading;

static float to_v(const reading *r, float x, float clean) {
    return (x * r->share - clean) * r->scale;
}

/* Sums for a standard deviation, by Welford's updates: values far from 0 cost no digits. */
typedef struct spread {
    double mean, squares;
    size_t n;
} spread;

static void see(spread *s, double value) {
    double from = value - s->mean;
    s->mean += from / (double)++s->n;
    s->squares += from * (value - s->mean);
}

void tsr__guide_rescaled(float *out, const float *x, const float *positive, const float *negative, size_t count,
                         float sigma, const tsr_guide *guide) {
    const float wide = sigma * sigma + 1.0f, cfg = guide->cfg;
    const reading r = { 1.0f / wide, sqrtf(wide) / sigma };
    spread own = { 0 }, guided = { 0 };
    for (size_t i = 0; i < count; i++) {
        float a = to_v(&r, x[i], positive[i]), b = to_v(&r, x[i], negative[i]);
        see(&own, (double)a);
        see(&guided, (double)(b + cfg * (a - b)));
    }
    const double back = guided.squares > 0.0 ? sqrt(own.squares / guided.squares) : 1.0;
    const float factor = (float)(guide->rescale * back + (1.0 - guide->rescale));
    for (size_t i = 0; i < count; i++) {
        float a = to_v(&r, x[i], positive[i]), b = to_v(&r, x[i], negative[i]);
        out[i] = x[i] * r.share - (b + cfg * (a - b)) * factor / r.scale;
    }
}
