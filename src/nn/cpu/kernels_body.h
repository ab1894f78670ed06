/* nn/cpu/kernels_body.h - elementwise and norm kernels, written once and compiled once for each table.
 *
 * The including file has chosen vec_*.h (v_: vectors of VL floats) and elem_*.h (e_: elements in memory, read as
 * floats), and defines KERNELS (the table) and KERNELS_NAME. */
#include "nn/cpu/kernels.h"
#include <math.h>
#include <stddef.h>

/* Runs BODY on full vectors and once more on a short one: `i` is the index, `n` how many elements. */
#define EACH_VECTOR(count, FULL, SHORT)                                                                                \
    do {                                                                                                               \
        size_t i = 0;                                                                                                  \
        for (; i + VL <= (count); i += VL) {                                                                           \
            FULL;                                                                                                      \
        }                                                                                                              \
        size_t n = (count)-i;                                                                                          \
        if (n) {                                                                                                       \
            SHORT;                                                                                                     \
        }                                                                                                              \
    } while (0)

/* 2^x: 2^f = sum (f ln 2)^k / k!, |f| <= 1/2, remainder 6e-9. */
static inline vf v_exp2(vf x) {
    vf whole, f = v_split(x, &whole);
    vf p = v_set(1.5252733804059841e-5f);
    p = v_fma(p, f, v_set(1.5403530393381608e-4f));
    p = v_fma(p, f, v_set(1.3333558146428443e-3f));
    p = v_fma(p, f, v_set(9.618129107628477e-3f));
    p = v_fma(p, f, v_set(5.5504108664821576e-2f));
    p = v_fma(p, f, v_set(0.24022650695910072f));
    p = v_fma(p, f, v_set(0.6931471805599453f));
    p = v_fma(p, f, v_set(1.0f));
    return v_pow2(p, whole);
}

/* e^x with the product x log2(e) split in two, so that large |x| keep their last bits. */
static inline vf v_exp(vf x) {
    x = v_min(v_max(x, v_set(-87.5f)), v_set(87.5f));
    vf magic = v_set(12582912.0f), rounded = v_fma(x, v_set(1.44269504f), magic), n = rounded - magic;
    vf f = v_fma(n, v_set(-0.693359375f), x); /* ln 2 = 0.693359375 - 2.12194440e-4, the first exact in 10 bits */
    f = v_fma(n, v_set(2.12194440e-4f), f);
    vf p = v_set(1.9841270e-4f);
    p = v_fma(p, f, v_set(1.3888889e-3f));
    p = v_fma(p, f, v_set(8.3333333e-3f));
    p = v_fma(p, f, v_set(4.1666667e-2f));
    p = v_fma(p, f, v_set(0.16666667f));
    p = v_fma(p, f, v_set(0.5f));
    p = v_fma(p, f, v_set(1.0f));
    p = v_fma(p, f, v_set(1.0f));
    return p * v_shift_exponent(rounded);
}

static inline vf v_swish(vf x, float alpha) {
    return x / (v_set(1.0f) + v_exp(x * v_set(-alpha)));
}

/* erf by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7. */
static inline vf v_erf(vf x) {
    vf a = v_abs(x), t = v_set(1.0f) / v_fma(a, v_set(0.3275911f), v_set(1.0f));
    vf p = v_set(1.061405429f);
    p = v_fma(p, t, v_set(-1.453152027f));
    p = v_fma(p, t, v_set(1.421413741f));
    p = v_fma(p, t, v_set(-0.284496736f));
    p = v_fma(p, t, v_set(0.254829592f));
    vf y = v_set(1.0f) - p * t * v_exp(v_set(0.0f) - a * a);
    return v_sign_of(v_max(y, v_set(0.0f)), x);
}

static inline vf v_gelu(vf x) {
    vf half = x * v_set(0.5f);
    return v_fma(half, v_erf(x * v_set(0.70710678f)), half);
}

static void to_float(float *out, const void *x, size_t count) {
    const elem *in = x;
    EACH_VECTOR(count, v_store(out + i, e_load(in + i)), v_store_n(out + i, e_load_n(in + i, n), n));
}

static void from_float(void *out, const float *x, size_t count) {
    elem *result = out;
    EACH_VECTOR(count, e_store(result + i, v_load(x + i)), e_store_n(result + i, v_load_n(x + i, n), n));
}

static void add(void *inout, const void *x, size_t count) {
    elem *a = inout;
    const elem *b = x;
    EACH_VECTOR(count, e_store(a + i, e_load(a + i) + e_load(b + i)),
                e_store_n(a + i, e_load_n(a + i, n) + e_load_n(b + i, n), n));
}

static void weigh(void *inout, const void *x, float weight, size_t count) {
    elem *a = inout;
    const elem *b = x;
    vf w = v_set(weight);
    if (x)
        EACH_VECTOR(count, e_store(a + i, v_fma(e_load(b + i), w, e_load(a + i))),
                    e_store_n(a + i, v_fma(e_load_n(b + i, n), w, e_load_n(a + i, n)), n));
    else EACH_VECTOR(count, e_store(a + i, e_load(a + i) * w), e_store_n(a + i, e_load_n(a + i, n) * w, n));
}

static void silu(void *inout, size_t count) {
    elem *a = inout;
    EACH_VECTOR(count, e_store(a + i, v_swish(e_load(a + i), 1.0f)),
                e_store_n(a + i, v_swish(e_load_n(a + i, n), 1.0f), n));
}

/* NaN stays NaN: a maximum gives its second operand then. */
static void relu(void *inout, size_t count) {
    elem *a = inout;
    EACH_VECTOR(count, e_store(a + i, v_max(v_set(0.0f), e_load(a + i))),
                e_store_n(a + i, v_max(v_set(0.0f), e_load_n(a + i, n)), n));
}

static void quick_gelu(void *inout, size_t count) {
    elem *a = inout;
    EACH_VECTOR(count, e_store(a + i, v_swish(e_load(a + i), 1.702f)),
                e_store_n(a + i, v_swish(e_load_n(a + i, n), 1.702f), n));
}

static void gelu(void *inout, size_t count) {
    elem *a = inout;
    EACH_VECTOR(count, e_store(a + i, v_gelu(e_load(a + i))), e_store_n(a + i, v_gelu(e_load_n(a + i, n)), n));
}

static void geglu(void *out, const void *x, size_t rows, int c) {
    for (size_t row = 0; row < rows; row++) {
        const elem *a = (const elem *)x + row * 2 * (size_t)c, *b = a + c;
        elem *y = (elem *)out + row * (size_t)c;
        EACH_VECTOR((size_t)c, e_store(y + i, e_load(a + i) * v_gelu(e_load(b + i))),
                    e_store_n(y + i, e_load_n(a + i, n) * v_gelu(e_load_n(b + i, n)), n));
    }
}

/* x * 0 is 0 for every finite x and NaN for the others, and NaN survives a sum. */
static int is_finite(const void *x, size_t count) {
    const elem *in = x;
    vf sum = v_set(0.0f), zero = v_set(0.0f);
    EACH_VECTOR(count, sum = v_fma(e_load(in + i), zero, sum), sum = v_fma(e_load_n(in + i, n), zero, sum));
    return v_sum(sum) == 0.0f;
}

/* Sums of every channel over pixels: of x when mean is NULL, else of (x - mean)^2. */
static void channel_sums(float *out, const elem *x, size_t pixels, size_t c, const float *mean) {
    for (size_t at = 0; at < c; at += VL) {
        size_t n = c - at < VL ? c - at : VL;
        vf sum = v_set(0.0f), sum2 = sum, centre = mean ? v_load_n(mean + at, n) : sum;
        if (n == VL && !mean) {
            size_t p = 0;
            for (; p + 2 <= pixels; p += 2) {
                sum += e_load(x + p * c + at);
                sum2 += e_load(x + (p + 1) * c + at);
            }
            if (p < pixels) sum += e_load(x + p * c + at);
        } else if (n == VL) {
            for (size_t p = 0; p < pixels; p++) {
                vf d = e_load(x + p * c + at) - centre;
                sum = v_fma(d, d, sum);
            }
        } else {
            for (size_t p = 0; p < pixels; p++) {
                vf d = e_load_n(x + p * c + at, n) - centre;
                if (mean) sum = v_fma(d, d, sum);
                else sum += d;
            }
        }
        v_store_n(out + at, sum + sum2, n);
    }
}

static void group_stats(double *out, const void *x, size_t pixels, int c, int groups, float *work) {
    int each = c / groups;
    float *means = work, *sums = work + c;
    channel_sums(sums, x, pixels, (size_t)c, NULL);
    for (int g = 0; g < groups; g++) {
        double total = 0;
        for (int i = g * each; i < (g + 1) * each; i++) total += (double)sums[i];
        out[2 * g] = total / ((double)pixels * each);
        for (int i = g * each; i < (g + 1) * each; i++) means[i] = (float)out[2 * g];
    }
    channel_sums(sums, x, pixels, (size_t)c, means);
    for (int g = 0; g < groups; g++) {
        double total = 0;
        for (int i = g * each; i < (g + 1) * each; i++) total += (double)sums[i];
        /* The sum was taken around the rounded mean. */
        double slip = out[2 * g] - (double)means[g * each];
        out[2 * g + 1] = total - slip * slip * (double)pixels * each;
    }
}

/* (x - mean) first: where the mean is large against the spread, x * scale + (shift - mean * scale) would cancel. */
static inline vf normalise(vf x, vf mean, vf scale, vf shift, int use_silu) {
    vf y = v_fma(x - mean, scale, shift);
    return use_silu ? v_swish(y, 1.0f) : y;
}

static void normalise_pixels(void *out, const void *x, size_t pixels, int c, const float *factors, int use_silu) {
    const float *mean = factors, *scale = mean + c, *shift = scale + c;
    for (size_t p = 0; p < pixels; p++) {
        const elem *in = (const elem *)x + p * (size_t)c;
        elem *y = (elem *)out + p * (size_t)c;
        EACH_VECTOR(
            (size_t)c,
            e_store(y + i, normalise(e_load(in + i), v_load(mean + i), v_load(scale + i), v_load(shift + i), use_silu)),
            e_store_n(y + i,
                      normalise(e_load_n(in + i, n), v_load_n(mean + i, n), v_load_n(scale + i, n),
                                v_load_n(shift + i, n), use_silu),
                      n));
    }
}

static void layer_norm(void *out, const void *x, size_t rows, int c, float eps, const float *gamma, const float *beta) {
    size_t width = (size_t)c;
    for (size_t row = 0; row < rows; row++) {
        const elem *in = (const elem *)x + row * width;
        elem *y = (elem *)out + row * width;
        vf sum = v_set(0.0f), squares = v_set(0.0f);
        EACH_VECTOR(width, sum += e_load(in + i), sum += e_load_n(in + i, n));
        vf mean = v_set(v_sum(sum) / (float)c);
        EACH_VECTOR(
            width,
            {
                vf d = e_load(in + i) - mean;
                squares = v_fma(d, d, squares);
            },
            {
                vf d = v_keep(e_load_n(in + i, n) - mean, n, v_set(0.0f));
                squares = v_fma(d, d, squares);
            });
        vf scale = v_set(1.0f / sqrtf(v_sum(squares) / (float)c + eps));
        EACH_VECTOR(
            width, e_store(y + i, v_fma((e_load(in + i) - mean) * scale, v_load(gamma + i), v_load(beta + i))),
            e_store_n(y + i, v_fma((e_load_n(in + i, n) - mean) * scale, v_load_n(gamma + i, n), v_load_n(beta + i, n)),
                      n));
    }
}

#include "nn/cpu/attention_body.h"

const tsr__kernels KERNELS = {
    .name = KERNELS_NAME,
    .to_float = to_float,
    .from_float = from_float,
    .group_stats = group_stats,
    .normalise = normalise_pixels,
    .layer_norm = layer_norm,
    .geglu = geglu,
    .add = add,
    .weigh = weigh,
    .silu = silu,
    .gelu = gelu,
    .quick_gelu = quick_gelu,
    .relu = relu,
    .is_finite = is_finite,
    .block_rows = BLOCK_ROWS,
    .packed_k_size = packed_k_size,
    .packed_v_size = packed_v_size,
    .attention_scratch = attention_scratch,
    .pack_k = pack_k,
    .pack_v = pack_v,
    .attention = attention,
};
