/* nn/cpu/cpu_ops.c - norms, elementwise operations and layout changes: splits the work between the context's threads.
 *
 * Every split is by data, never by thread count where sums are involved: results do not depend on the threads. */
#include "nn/nn_priv.h"
#include <math.h>
#include <string.h>

enum { CHUNK = 16384 }; /* elements a task of an elementwise operation */

static const tsr__kernels *kernels_of(const tsr__nn *nn, const tsr__tensor *x) {
    return nn->kernels[x->dtype];
}

static char *element(const tsr__tensor *x, size_t index) {
    return (char *)x->data + index * tsr__type_size(x->dtype);
}

/* Rows a task, so that a task has about CHUNK elements. */
static size_t rows_per_task(int c) {
    return (size_t)c >= CHUNK ? 1 : CHUNK / (size_t)c;
}

static size_t tasks_of(size_t count, size_t each) {
    return (count + each - 1) / each;
}

static size_t task_size(size_t task, size_t each, size_t count) {
    return count - task * each < each ? count - task * each : each;
}

/* --- norms -------------------------------------------------------------------------------------------------------- */
/* Joins the chunks' means and squared distances (Chan et al.) in order, then the factors of every channel. */
static void join_stats(const double *stats, size_t chunks, size_t each, size_t pixels, int c,
                       const tsr__norm_call *call, float *means) {
    int width = c / call->groups;
    float *scale = means + c, *shift = scale + c;
    for (int g = 0; g < call->groups; g++) {
        double count = 0, mean = 0, squares = 0;
        for (size_t i = 0; i < chunks; i++) {
            const double *s = stats + (i * (size_t)call->groups + (size_t)g) * 2;
            double more = (double)task_size(i, each, pixels) * width, delta = s[0] - mean;
            squares += s[1] + delta * delta * count * more / (count + more);
            mean += delta * more / (count + more);
            count += more;
        }
        double factor = 1.0 / sqrt(squares / count + (double)call->eps);
        for (int i = g * width; i < (g + 1) * width; i++) {
            means[i] = (float)mean;
            scale[i] = (float)(factor * (double)call->gamma[i]);
            /* The kernel subtracts the rounded mean. */
            shift[i] = (float)((double)call->beta[i] + ((double)means[i] - mean) * factor * (double)call->gamma[i]);
        }
    }
}

tsr_status tsr__cpu_group_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__kernels *kernels = kernels_of(nn, x);
    size_t pixels = (size_t)x->h * (size_t)x->w, c = (size_t)x->c, each = rows_per_task(x->c);
    size_t chunks = tasks_of(pixels, each), tasks = chunks * (size_t)x->n, groups = (size_t)call->groups;
    double *stats = tsr__pool_take(&nn->pool, tasks * groups * 2 * sizeof *stats);
    float *work = tsr__pool_take(&nn->pool, tasks * 2 * c * sizeof *work);
    float *factors = tsr__pool_take(&nn->pool, (size_t)x->n * 3 * c * sizeof *factors);
    if (!stats || !work || !factors)
        TSR_FAIL(err, TSR_NO_MEMORY, "out of memory in group norm of [%d, %d, %d, %d]", x->n, x->h, x->w, x->c);
#pragma omp parallel num_threads(nn->threads) if (tasks > 1)
    {
#pragma omp for schedule(static)
        for (size_t t = 0; t < tasks; t++) {
            size_t at = (t / chunks * pixels + t % chunks * each) * c;
            kernels->group_stats(stats + t * groups * 2, element(x, at), task_size(t % chunks, each, pixels), x->c,
                                 call->groups, work + t * 2 * c);
        }
#pragma omp for schedule(static)
        for (int s = 0; s < x->n; s++)
            join_stats(stats + (size_t)s * chunks * groups * 2, chunks, each, pixels, x->c, call,
                       factors + (size_t)s * 3 * c);
#pragma omp for schedule(static)
        for (size_t t = 0; t < tasks; t++) {
            size_t at = (t / chunks * pixels + t % chunks * each) * c;
            kernels->normalise(element(out, at), element(x, at), task_size(t % chunks, each, pixels), x->c,
                               factors + t / chunks * 3 * c, call->silu);
        }
    }
done:
    tsr__pool_give(&nn->pool, factors);
    tsr__pool_give(&nn->pool, work);
    tsr__pool_give(&nn->pool, stats);
    return status;
}

void tsr__cpu_layer_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call) {
    const tsr__kernels *kernels = kernels_of(nn, x);
    size_t rows = tsr__tensor_rows(x), each = rows_per_task(x->c), tasks = tasks_of(rows, each);
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++) {
        size_t at = t * each * (size_t)x->c;
        kernels->layer_norm(element(out, at), element(x, at), task_size(t, each, rows), x->c, call->eps, call->gamma,
                            call->beta);
    }
}

/* --- elementwise -------------------------------------------------------------------------------------------------- */
void tsr__cpu_geglu(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x) {
    const tsr__kernels *kernels = kernels_of(nn, x);
    size_t rows = tsr__tensor_rows(x), each = rows_per_task(x->c), tasks = tasks_of(rows, each);
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++)
        kernels->geglu(element(out, t * each * (size_t)out->c), element(x, t * each * (size_t)x->c),
                       task_size(t, each, rows), out->c);
}

void tsr__cpu_add(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x) {
    const tsr__kernels *kernels = kernels_of(nn, x);
    size_t count = tsr__tensor_count(x), tasks = tasks_of(count, CHUNK);
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++)
        kernels->add(element(inout, t * CHUNK), element(x, t * CHUNK), task_size(t, CHUNK, count));
}

void tsr__cpu_weigh_rows(tsr__nn *nn, tsr__tensor *inout, const tsr__tensor *x, const float *weights) {
    const tsr__kernels *kernels = kernels_of(nn, inout);
    size_t rows = tsr__tensor_rows(inout), c = (size_t)inout->c, each = rows_per_task(inout->c);
    size_t tasks = tasks_of(rows, each);
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++)
        for (size_t row = t * each; row < t * each + task_size(t, each, rows); row++)
            kernels->weigh(element(inout, row * c), x ? element(x, row * c) : NULL, weights[row], c);
}

void tsr__cpu_scale_channels(tsr__nn *nn, tsr__tensor *inout, const float *factors) {
    const tsr__kernels *kernels = kernels_of(nn, inout);
    size_t rows = tsr__tensor_rows(inout), each = rows_per_task(inout->c), tasks = tasks_of(rows, each);
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++) {
        void *at = element(inout, t * each * (size_t)inout->c);
        kernels->normalise(at, at, task_size(t, each, rows), inout->c, factors, 0);
    }
}

void tsr__cpu_copy(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x) {
    size_t count = tsr__tensor_count(x), tasks = tasks_of(count, CHUNK), size = tsr__type_size(x->dtype);
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++)
        memcpy(element(out, t * CHUNK), element(x, t * CHUNK), task_size(t, CHUNK, count) * size);
}

void tsr__cpu_activate(tsr__nn *nn, tsr__tensor *inout, tsr__act act) {
    const tsr__kernels *kernels = kernels_of(nn, inout);
    size_t count = tsr__tensor_count(inout), tasks = tasks_of(count, CHUNK);
    void (*function)(void *, size_t) = act == TSR__ACT_SILU         ? kernels->silu
                                       : act == TSR__ACT_GELU       ? kernels->gelu
                                       : act == TSR__ACT_QUICK_GELU ? kernels->quick_gelu
                                       : act == TSR__ACT_RELU       ? kernels->relu
                                                                    : NULL;
    if (!function) return;
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++) function(element(inout, t * CHUNK), task_size(t, CHUNK, count));
}

int tsr__cpu_is_finite(tsr__nn *nn, const tsr__tensor *x) {
    const tsr__kernels *kernels = kernels_of(nn, x);
    size_t count = tsr__tensor_count(x), tasks = tasks_of(count, CHUNK);
    int finite = 1;
#pragma omp parallel for num_threads(nn->threads) schedule(static) if (tasks > 1) reduction(&& : finite)
    for (size_t t = 0; t < tasks; t++)
        finite = finite && kernels->is_finite(element(x, t * CHUNK), task_size(t, CHUNK, count));
    return finite;
}

/* --- layout ------------------------------------------------------------------------------------------------------- */
void tsr__cpu_upsample2x(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x) {
    size_t lines = (size_t)x->n * (size_t)x->h, pixel = (size_t)x->c * tsr__type_size(x->dtype);
    size_t width = (size_t)x->w;
#pragma omp parallel for num_threads(nn->threads) schedule(static)
    for (size_t line = 0; line < lines; line++) {
        const char *in = (const char *)x->data + line * width * pixel;
        char *to = (char *)out->data + 2 * line * 2 * width * pixel;
        for (size_t i = 0; i < width; i++) {
            memcpy(to + 2 * i * pixel, in + i * pixel, pixel);
            memcpy(to + (2 * i + 1) * pixel, in + i * pixel, pixel);
        }
        memcpy(to + 2 * width * pixel, to, 2 * width * pixel);
    }
}

void tsr__cpu_concat(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *a, const tsr__tensor *b) {
    size_t rows = tsr__tensor_rows(a), size = tsr__type_size(a->dtype);
    size_t wide_a = (size_t)a->c * size, wide_b = (size_t)b->c * size;
#pragma omp parallel for num_threads(nn->threads) schedule(static)
    for (size_t row = 0; row < rows; row++) {
        char *to = (char *)out->data + row * (wide_a + wide_b);
        memcpy(to, (const char *)a->data + row * wide_a, wide_a);
        memcpy(to + wide_a, (const char *)b->data + row * wide_b, wide_b);
    }
}

/* A line of pixels is turned in pieces of this many channels by pixels, on the stack, in float32. */
enum { PIECE_C = 16, PIECE_W = 64 };

static void line_from_planes(const tsr__kernels *kernels, const tsr__tensor *out, const float *planes, size_t line) {
    size_t c = (size_t)out->c, w = (size_t)out->w, h = (size_t)out->h, plane = h * w;
    const float *in = planes + line / h * c * plane + line % h * w;
    for (size_t x0 = 0; x0 < w; x0 += PIECE_W)
        for (size_t c0 = 0; c0 < c; c0 += PIECE_C) {
            size_t nx = w - x0 < PIECE_W ? w - x0 : PIECE_W, nc = c - c0 < PIECE_C ? c - c0 : PIECE_C;
            float piece[PIECE_W][PIECE_C];
            for (size_t j = 0; j < nc; j++)
                for (size_t i = 0; i < nx; i++) piece[i][j] = in[(c0 + j) * plane + x0 + i];
            for (size_t i = 0; i < nx; i++)
                kernels->from_float(element(out, (line * w + x0 + i) * c + c0), piece[i], nc);
        }
}

static void line_to_planes(const tsr__kernels *kernels, float *planes, const tsr__tensor *x, size_t line) {
    size_t c = (size_t)x->c, w = (size_t)x->w, h = (size_t)x->h, plane = h * w;
    float *to = planes + line / h * c * plane + line % h * w;
    for (size_t x0 = 0; x0 < w; x0 += PIECE_W)
        for (size_t c0 = 0; c0 < c; c0 += PIECE_C) {
            size_t nx = w - x0 < PIECE_W ? w - x0 : PIECE_W, nc = c - c0 < PIECE_C ? c - c0 : PIECE_C;
            float piece[PIECE_W][PIECE_C];
            for (size_t i = 0; i < nx; i++) kernels->to_float(piece[i], element(x, (line * w + x0 + i) * c + c0), nc);
            for (size_t j = 0; j < nc; j++)
                for (size_t i = 0; i < nx; i++) to[(c0 + j) * plane + x0 + i] = piece[i][j];
        }
}

void tsr__cpu_from_nchw(tsr__nn *nn, tsr__tensor *out, const float *nchw) {
    const tsr__kernels *kernels = kernels_of(nn, out);
    size_t lines = (size_t)out->n * (size_t)out->h;
#pragma omp parallel for num_threads(nn->threads) schedule(static)
    for (size_t line = 0; line < lines; line++) line_from_planes(kernels, out, nchw, line);
}

void tsr__cpu_to_nchw(tsr__nn *nn, float *nchw, const tsr__tensor *x) {
    const tsr__kernels *kernels = kernels_of(nn, x);
    size_t lines = (size_t)x->n * (size_t)x->h;
#pragma omp parallel for num_threads(nn->threads) schedule(static)
    for (size_t line = 0; line < lines; line++) line_to_planes(kernels, nchw, x, line);
}

void tsr__cpu_from_rows(tsr__nn *nn, tsr__tensor *out, const float *rows) {
    kernels_of(nn, out)->from_float(out->data, rows, tsr__tensor_count(out));
}

void tsr__cpu_to_rows(tsr__nn *nn, float *rows, const tsr__tensor *x) {
    kernels_of(nn, x)->to_float(rows, x->data, tsr__tensor_count(x));
}
