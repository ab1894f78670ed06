/* weights/lora_bound.c - differences made of the weight itself, as ComfyUI 0.8.0 computes them.
 *
 *   GLoRA  alpha / r * (W a1 a2 + b1 b2)               old files: alpha / r * (W a2 a1 + b2 b1)
 *   OFT    strength * (R^T - I) W, block by block      R = (I + Q) (I - Q)^-1, Q = B - B^T
 *   BOFT   strength * (butterfly(W) - W)               some rounds of blocks R, rows dealt anew in each
 *
 * OFT counts the strength twice (once here, once when the difference is added), BOFT bends each R towards I besides: both as the
 * reference. alpha is the most that Q's length may be; 0 or none: any. A convolution's weight [out, in, k, k] is the matrix
 * [out, in k k]. */
#include "weights/lora_bound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

int tsr__lora_bound_is(const tsr__lora_layer *layer) {
    return layer->parts[TSR__GLORA_A1] || layer->parts[TSR__OFT_BLOCKS];
}

static tsr_status read_floats(float **out, const tsr__tensor_view *view, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_ALLOC(err, *out, view->count + 1);
    TSR_TRY(tsr__tensor_to_f32(view, *out, err));
done:
    return status;
}

static tsr_status read_alpha(float *out, const tsr__lora_layer *layer, float otherwise, tsr_error *err) {
    const tsr__tensor_view *alpha = layer->parts[TSR__LORA_ALPHA];
    *out = otherwise;
    if (!alpha) return TSR_OK;
    return alpha->count == 1 ? tsr__tensor_to_f32(alpha, out, err) : TSR_BAD_ARGUMENT;
}

/* --- GLoRA ---------------------------------------------------------------------------------------------------------------- */
typedef struct glora {
    const tsr__tensor_view *into, *back, *up, *down; /* W into back + up down */
    size_t rank, inputs;                             /* into is [inputs, rank] */
} glora;

static size_t side(const tsr__tensor_view *view, int axis) {
    return view->rank > axis ? (size_t)view->shape[axis] : 0;
}

/* Which of the two orders the file has; the sizes tell, and a square layer has the old one. 0: neither. */
static int sort_glora(glora *out, const tsr__lora_layer *layer, size_t rows, size_t columns) {
    const tsr__tensor_view *a1 = layer->parts[TSR__GLORA_A1], *a2 = layer->parts[TSR__GLORA_A2],
                           *b1 = layer->parts[TSR__GLORA_B1], *b2 = layer->parts[TSR__GLORA_B2];
    const size_t old_rank = side(a1, 0), rank = side(a2, 0);
    int old = side(b2, 1) == old_rank && side(b1, 0) == old_rank && side(a2, 1) == old_rank;
    const int is_new = side(b2, 0) == rank && side(b1, 1) == rank && side(a1, 1) == rank;
    if (is_new && !(old && rank == rows && rows == columns)) old = 0;
    else if (!old) return 0;
    *out = old ? (glora){ a2, a1, b2, b1, old_rank, columns } : (glora){ a1, a2, b1, b2, rank, side(a1, 0) };
    const size_t r = out->rank, in = out->inputs;
    return r && in && columns % in == 0 && out->into->count == in * r && out->back->count == r * in &&
           out->up->count == rows * r && out->down->count == r * columns;
}

/* w [inputs, taps] += scale * (its own into back + one row of up down) */
static void glora_row(float *w, const glora *g, const float *into, const float *back, const float *up,
                      const float *down, size_t taps, float scale, double *low) {
    for (size_t t = 0; t < taps; t++)
        for (size_t r = 0; r < g->rank; r++) {
            low[t * g->rank + r] = 0.0;
            for (size_t i = 0; i < g->inputs; i++)
                low[t * g->rank + r] += (double)w[i * taps + t] * (double)into[i * g->rank + r];
        }
    for (size_t j = 0; j < g->inputs; j++)
        for (size_t t = 0; t < taps; t++) {
            double sum = 0.0;
            for (size_t r = 0; r < g->rank; r++)
                sum += low[t * g->rank + r] * (double)back[r * g->inputs + j] +
                       (double)up[r] * (double)down[(r * g->inputs + j) * taps + t];
            w[j * taps + t] += scale * (float)sum;
        }
}

static tsr_status add_glora(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    glora g;
    float *into = NULL, *back = NULL, *up = NULL, *down = NULL, alpha;
    double *low = NULL;
    if (!sort_glora(&g, layer, rows, columns)) return TSR_BAD_ARGUMENT;
    const size_t taps = columns / g.inputs;
    TSR_TRY(read_alpha(&alpha, layer, (float)g.rank, err));
    TSR_TRY(read_floats(&into, g.into, err));
    TSR_TRY(read_floats(&back, g.back, err));
    TSR_TRY(read_floats(&up, g.up, err));
    TSR_TRY(read_floats(&down, g.down, err));
    TSR_ALLOC(err, low, taps * g.rank);
    for (size_t o = 0; o < rows; o++)
        glora_row(weight + o * columns, &g, into, back, up + o * g.rank, down, taps, strength * alpha / (float)g.rank,
                  low);
done:
    free(into);
    free(back);
    free(up);
    free(down);
    free(low);
    return status;
}

/* --- OFT and BOFT ---------------------------------------------------------------------------------------------------------- */
/* Solves x (I - q) = I + q, q [n, n] skew, by elimination on the transposed system; work [n, 2n]. I - q is never singular:
 * the eigenvalues of q are imaginary. */
static void cayley(double *x, const double *q, size_t n, double *work) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            work[i * 2 * n + j] = (i == j ? 1.0 : 0.0) - q[j * n + i];
            work[i * 2 * n + n + j] = (i == j ? 1.0 : 0.0) + q[j * n + i];
        }
    for (size_t c = 0; c < n; c++) {
        size_t best = c;
        for (size_t i = c + 1; i < n; i++)
            if (fabs(work[i * 2 * n + c]) > fabs(work[best * 2 * n + c])) best = i;
        for (size_t j = 0; best != c && j < 2 * n; j++) {
            const double other = work[c * 2 * n + j];
            work[c * 2 * n + j] = work[best * 2 * n + j];
            work[best * 2 * n + j] = other;
        }
        const double pivot = work[c * 2 * n + c];
        for (size_t j = c; j < 2 * n; j++) work[c * 2 * n + j] /= pivot;
        for (size_t i = 0; i < n; i++) {
            const double by = work[i * 2 * n + c];
            for (size_t j = c; i != c && by != 0.0 && j < 2 * n; j++) work[i * 2 * n + j] -= by * work[c * 2 * n + j];
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) x[j * n + i] = work[i * 2 * n + n + j];
}

/* All rotations [count, n, n] of the layer's blocks. */
static tsr_status read_rotations(double **out, const tsr__lora_layer *layer, size_t n, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = layer->parts[TSR__OFT_BLOCKS];
    float *blocks = NULL, alpha;
    double *q = NULL, *made = NULL, *work = NULL, squares = 0.0;
    TSR_TRY(read_alpha(&alpha, layer, 0.0f, err));
    TSR_TRY(read_floats(&blocks, view, err));
    TSR_ALLOC(err, q, view->count);
    TSR_ALLOC(err, made, view->count);
    TSR_ALLOC(err, work, 2 * n * n);
    for (size_t i = 0; i < view->count; i++) {
        const size_t block = i / (n * n) * n * n, row = i % (n * n) / n, column = i % n;
        q[i] = (double)blocks[i] - (double)blocks[block + column * n + row];
        squares += q[i] * q[i];
    }
    const double length = sqrt(squares) + 1e-8,
                 by = alpha > 0.0f && length > (double)alpha ? (double)alpha / length : 1;
    for (size_t i = 0; i < view->count; i++) q[i] *= by;
    for (size_t i = 0; i < view->count; i += n * n) cayley(made + i, q + i, n, work);
    *out = made;
    made = NULL;
done:
    free(blocks);
    free(q);
    free(made);
    free(work);
    return status;
}

/* to [n, columns] = m from, or its transpose's, rows of `from` where the table says. */
static void turn(float *to, const float *from, const size_t *rows, const double *m, int transposed, size_t n,
                 size_t columns) {
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < columns; c++) {
            double sum = 0.0;
            for (size_t j = 0; j < n; j++)
                sum += (transposed ? m[j * n + i] : m[i * n + j]) * (double)from[rows[j] * columns + c];
            to[i * columns + c] = (float)sum;
        }
}

static tsr_status add_oft(const double *rotations, size_t n, size_t rows, size_t columns, float strength, float *weight,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    float *turned = NULL;
    size_t *table = NULL;
    TSR_ALLOC(err, turned, n * columns + 1);
    TSR_ALLOC(err, table, n);
    for (size_t i = 0; i < n; i++) table[i] = i;
    for (size_t first = 0; first < rows; first += n) {
        float *w = weight + first * columns;
        turn(turned, w, table, rotations + first * n, 1, n, columns);
        for (size_t i = 0; i < n * columns; i++) w[i] += strength * strength * (turned[i] - w[i]);
    }
done:
    free(turned);
    free(table);
    return status;
}

/* Where row i of a round's blocks lies: pairs 2^round n / 2 apart stand side by side in a block. */
static size_t dealt(size_t i, size_t apart) {
    return (i / (2 * apart) * 2 + i % 2) * apart + i % (2 * apart) / 2;
}

static tsr_status add_boft(const tsr__lora_layer *layer, double *rotations, size_t rounds, size_t n, size_t rows,
                           size_t columns, float strength, float *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *rescale = layer->parts[TSR__OFT_RESCALE];
    float *now = NULL, *turned = NULL, *lengths = NULL;
    size_t *table = NULL;
    if (rescale && rescale->count != rows) return TSR_BAD_ARGUMENT;
    if (rescale) TSR_TRY(read_floats(&lengths, rescale, err));
    TSR_ALLOC(err, now, rows * columns + 1);
    TSR_ALLOC(err, turned, n * columns + 1);
    TSR_ALLOC(err, table, rows);
    memcpy(now, weight, rows * columns * sizeof *now);
    for (size_t i = 0; i < rounds * rows * n; i++) /* [rounds, rows / n, n, n] */
        rotations[i] = rotations[i] * (double)strength + (i / n % n == i % n ? 1.0 - (double)strength : 0.0);
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < rows; i++) table[i] = dealt(i, ((size_t)1 << round) * (n / 2));
        for (size_t first = 0; first < rows; first += n) {
            turn(turned, now, table + first, rotations + (round * rows + first) * n, 0, n, columns);
            for (size_t i = 0; i < n; i++)
                memcpy(now + table[first + i] * columns, turned + i * columns, columns * sizeof *now);
        }
    }
    for (size_t i = 0; i < rows * columns; i++)
        weight[i] += strength * (now[i] * (lengths ? lengths[i / columns] : 1.0f) - weight[i]);
done:
    free(now);
    free(turned);
    free(lengths);
    free(table);
    return status;
}

static tsr_status add_rotated(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = layer->parts[TSR__OFT_BLOCKS];
    const int butterfly = view->rank == 4;
    double *rotations = NULL;
    if (view->rank != 3 && view->rank != 4) return TSR_BAD_ARGUMENT;
    const size_t rounds = butterfly ? side(view, 0) : 1, n = side(view, view->rank - 1);
    if (n == 0 || side(view, view->rank - 2) != n || rows % n || side(view, view->rank - 3) != rows / n)
        return TSR_BAD_ARGUMENT;
    if (butterfly && (n % 2 || rounds == 0 || rounds > 30 || rows % (n << (rounds - 1)))) return TSR_BAD_ARGUMENT;
    TSR_TRY(read_rotations(&rotations, layer, n, err));
    status = butterfly ? add_boft(layer, rotations, rounds, n, rows, columns, strength, weight, err)
                       : add_oft(rotations, n, rows, columns, strength, weight, err);
done:
    free(rotations);
    return status;
}

tsr_status tsr__lora_bound_add(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                               tsr_error *err) {
    return layer->parts[TSR__GLORA_A1] ? add_glora(layer, rows, columns, strength, weight, err)
                                       : add_rotated(layer, rows, columns, strength, weight, err);
}
