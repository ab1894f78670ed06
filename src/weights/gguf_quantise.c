/* weights/gguf_quantise.c - float32 to GGUF's block types; the other direction of gguf_blocks.c.
 *
 * Q8_0 divides by the largest magnitude. Q4_0 and Q5_0 put the largest magnitude on the end of their range that has one
 * value more (-8, -16). Q4_1 and Q5_1 span minimum to maximum. The K types fit each group's scale (and minimum) by least
 * squares over a few ranges of whole numbers, then round the groups' scales to a shared one and the values to those. */
#include <math.h>
#include <string.h>

#include "weights/gguf.h"
#include "weights/tensor_pack.h"

enum { LARGEST_GROUP = 32 };

/* To the nearest whole number of a range; halves to even. What is no number becomes the lowest. */
static int clamp(float value, int low, int high) {
    if (!(value > (float)low)) return low;
    return value < (float)high ? (int)lrintf(value) : high;
}

/* Writes a scale as a half and gives back what a reader will see. */
static float put_half(unsigned char *to, float value) {
    const float largest = 65504.0f, held = fminf(fmaxf(value, -largest), largest);
    float seen;
    (void)tsr__tensor_from_f32(to, TSR_DTYPE_F16, &held, 1);
    tsr__f16_to_f32(&seen, to, 1);
    return seen;
}

/* Multiplying instead of dividing; a block of zeros stays one. */
static float inverse(float scale) {
    return scale != 0.0f ? 1.0f / scale : 0.0f;
}

/* --- 32 elements ------------------------------------------------------------------------------------------------------ */
/* The value furthest from 0, with its sign. */
static float extreme(const float *in, int n) {
    float found = 0.0f;
    for (int i = 0; i < n; i++)
        if (fabsf(in[i]) > fabsf(found)) found = in[i];
    return found;
}

static void span(const float *in, int n, float *low, float *high) {
    *low = *high = in[0];
    for (int i = 1; i < n; i++) {
        *low = fminf(*low, in[i]);
        *high = fmaxf(*high, in[i]);
    }
}

static void put_nibbles(unsigned char *to, const int q[32]) {
    for (int i = 0; i < 16; i++) to[i] = (unsigned char)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void put_fifth_bits(unsigned char *to, const int q[32]) {
    memset(to, 0, 4);
    for (int i = 0; i < 32; i++) to[i / 8] |= (unsigned char)((q[i] >> 4 & 1) << (i % 8));
}

/* Q4_0, Q5_0: values from -half to half - 1, kept from 0. */
static void write_signed(unsigned char *block, const float *in, int half) {
    int q[32];
    const float id = inverse(put_half(block, extreme(in, 32) / (float)-half));
    for (int i = 0; i < 32; i++) q[i] = clamp(in[i] * id, -half, half - 1) + half;
    if (half == 16) put_fifth_bits(block + 2, q);
    put_nibbles(block + (half == 16 ? 6 : 2), q);
}

/* Q4_1, Q5_1: steps above the minimum. */
static void write_offset(unsigned char *block, const float *in, int steps) {
    int q[32];
    float low, high;
    span(in, 32, &low, &high);
    const float id = inverse(put_half(block, (high - low) / (float)steps)), seen = put_half(block + 2, low);
    for (int i = 0; i < 32; i++) q[i] = clamp((in[i] - seen) * id, 0, steps);
    if (steps == 31) put_fifth_bits(block + 4, q);
    put_nibbles(block + (steps == 31 ? 8 : 4), q);
}

static void write_q8(unsigned char *block, const float *in) {
    const float id = inverse(put_half(block, fabsf(extreme(in, 32)) / 127.0f));
    for (int i = 0; i < 32; i++) block[2 + i] = (unsigned char)clamp(in[i] * id, -127, 127);
}

/* --- fits of one group ------------------------------------------------------------------------------------------------ */
/* A group's values as scale * q + offset. */
typedef struct fit {
    float scale, offset;
    float error; /* sum of squares */
} fit;

static float squares(const float *in, const int *q, int n, float scale, float offset) {
    float sum = 0.0f;
    for (int i = 0; i < n; i++) {
        const float difference = scale * (float)q[i] + offset - in[i];
        sum += difference * difference;
    }
    return sum;
}

/* The best scale and offset <= 0 for whole numbers that are given. */
static fit solve_offset(const float *in, const int *q, int n) {
    double sq = 0, sqq = 0, sx = 0, sqx = 0;
    fit result = { 0, 0, 0 };
    for (int i = 0; i < n; i++) {
        sq += q[i];
        sqq += (double)q[i] * q[i];
        sx += in[i];
        sqx += (double)q[i] * in[i];
    }
    const double determinant = n * sqq - sq * sq;
    if (determinant > 0) {
        result.scale = (float)((n * sqx - sq * sx) / determinant);
        result.offset = (float)((sqq * sx - sq * sqx) / determinant);
    }
    if (determinant <= 0 || result.offset > 0) {
        result.scale = sqq > 0 ? (float)(sqx / sqq) : 0.0f;
        result.offset = 0.0f;
    }
    result.error = squares(in, q, n, result.scale, result.offset);
    return result;
}

/* Whole numbers 0..steps and an offset that is not above 0, as the formats take it off. */
static fit fit_offset(const float *in, int n, int steps) {
    enum { TRIES = 12 };
    float low, high;
    int q[LARGEST_GROUP];
    span(in, n, &low, &high);
    low = fminf(low, 0.0f);
    fit best = { 0.0f, low, INFINITY };
    if (high <= low) return best;
    for (int try = 0; try < TRIES; try++) {
        /* ranges a little wider and narrower than the values': the ends may be cut to serve the rest */
        fit now = { (high - low) / ((float)steps - 0.6f + 0.15f * (float)try), low, 0 };
        for (int again = 0; again < 2; again++) {
            const float id = inverse(now.scale);
            for (int i = 0; i < n; i++) q[i] = clamp((in[i] - now.offset) * id, 0, steps);
            now = solve_offset(in, q, n);
            if (now.scale > 0.0f && now.error < best.error) best = now;
        }
    }
    return best;
}

/* Whole numbers -half..half - 1 without an offset. */
static fit fit_signed(const float *in, int n, int half) {
    enum { TRIES = 15 };
    const float far = extreme(in, n);
    int q[LARGEST_GROUP];
    fit best = { 0.0f, 0.0f, INFINITY };
    if (far == 0.0f) return best;
    for (int try = 0; try < TRIES; try++) {
        const float id = -((float)half - 0.9f + 0.15f * (float)try) / far;
        double sqq = 0, sqx = 0;
        for (int i = 0; i < n; i++) {
            q[i] = clamp(in[i] * id, -half, half - 1);
            sqq += (double)q[i] * q[i];
            sqx += (double)q[i] * in[i];
        }
        if (sqq <= 0) continue;
        fit now = { (float)(sqx / sqq), 0, 0 };
        now.error = squares(in, q, n, now.scale, 0.0f);
        if (now.error < best.error) best = now;
    }
    return best;
}

/* --- 256 elements ------------------------------------------------------------------------------------------------------ */
/* Scales and minima of all groups as whole numbers 0..steps of a shared half each. */
typedef struct shared {
    float scale, minimum;
    int scales[16], minima[16];
} shared;

static shared share(const fit *fits, int groups, int steps, unsigned char *scale, unsigned char *minimum) {
    shared result = { 0 };
    float largest = 0.0f, deepest = 0.0f;
    for (int g = 0; g < groups; g++) {
        largest = fmaxf(largest, fits[g].scale);
        deepest = fmaxf(deepest, -fits[g].offset);
    }
    result.scale = put_half(scale, largest / (float)steps);
    result.minimum = put_half(minimum, deepest / (float)steps);
    for (int g = 0; g < groups; g++) {
        result.scales[g] = clamp(fits[g].scale * inverse(result.scale), 0, steps);
        result.minima[g] = clamp(-fits[g].offset * inverse(result.minimum), 0, steps);
    }
    return result;
}

/* All values with what readers will compute as scales. */
static void requantise(int q[256], const float *in, const shared *s, int group_size, int steps) {
    for (int i = 0; i < 256; i++) {
        const int g = i / group_size;
        const float id = inverse(s->scale * (float)s->scales[g]), minimum = s->minimum * (float)s->minima[g];
        q[i] = clamp((in[i] + minimum) * id, 0, steps);
    }
}

static void write_q2_k(unsigned char *block, const float *in) {
    fit fits[16];
    int q[256];
    for (int g = 0; g < 16; g++) fits[g] = fit_offset(in + 16 * g, 16, 3);
    const shared s = share(fits, 16, 15, block + 80, block + 82);
    requantise(q, in, &s, 16, 3);
    for (int g = 0; g < 16; g++) block[g] = (unsigned char)(s.scales[g] | s.minima[g] << 4);
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 32; i++) {
            const int *from = q + 128 * half + i;
            block[16 + 32 * half + i] = (unsigned char)(from[0] | from[32] << 2 | from[64] << 4 | from[96] << 6);
        }
}

/* Signed scales of 16 groups of 16: whole numbers -half..half - 1 of one half, which is written. */
static float share_signed(int scales[16], const float *in, int value_half, int scale_half, unsigned char *scale) {
    fit fits[16];
    float far = 0.0f;
    for (int g = 0; g < 16; g++) {
        fits[g] = fit_signed(in + 16 * g, 16, value_half);
        if (fabsf(fits[g].scale) > fabsf(far)) far = fits[g].scale;
    }
    const float seen = put_half(scale, far / (float)-scale_half);
    for (int g = 0; g < 16; g++) scales[g] = clamp(fits[g].scale * inverse(seen), -scale_half, scale_half - 1);
    return seen;
}

static void write_q3_k(unsigned char *block, const float *in) {
    unsigned char *mask = block, *qs = block + 32, *packed = block + 96;
    int scales[16];
    const float scale = share_signed(scales, in, 4, 32, block + 108);
    memset(block, 0, 108);
    for (int g = 0; g < 16; g++) {
        const int code = scales[g] + 32, half = g / 8, part = g % 8 / 2, at = 16 * (g % 2);
        const float id = inverse(scale * (float)scales[g]);
        packed[g % 8] |= (unsigned char)((code & 15) << (g < 8 ? 0 : 4));
        packed[8 + g % 4] |= (unsigned char)((code >> 4) << (2 * (g / 4)));
        for (int i = 0; i < 16; i++) {
            const int value = clamp(in[16 * g + i] * id, -4, 3) + 4;
            qs[32 * half + at + i] |= (unsigned char)((value & 3) << (2 * part));
            mask[at + i] |= (unsigned char)((value >> 2) << (4 * half + part));
        }
    }
}

/* 8 scales and minima of 6 bits in 12 bytes. */
static void pack_scales(unsigned char *to, const shared *s) {
    for (int g = 0; g < 4; g++) {
        to[g] = (unsigned char)(s->scales[g] | (s->scales[g + 4] >> 4) << 6);
        to[g + 4] = (unsigned char)(s->minima[g] | (s->minima[g + 4] >> 4) << 6);
        to[g + 8] = (unsigned char)((s->scales[g + 4] & 15) | (s->minima[g + 4] & 15) << 4);
    }
}

/* Q4_K and Q5_K. high: NULL, or the fifth bits. */
static void write_q45_k(unsigned char *block, unsigned char *high, unsigned char *qs, const float *in) {
    const int steps = high ? 31 : 15;
    fit fits[8];
    int q[256];
    for (int g = 0; g < 8; g++) fits[g] = fit_offset(in + 32 * g, 32, steps);
    const shared s = share(fits, 8, 63, block, block + 2);
    requantise(q, in, &s, 32, steps);
    pack_scales(block + 4, &s);
    for (int pair = 0; pair < 4; pair++)
        for (int i = 0; i < 32; i++) {
            const int low = q[64 * pair + i], up = q[64 * pair + 32 + i];
            qs[32 * pair + i] = (unsigned char)((low & 15) | (up & 15) << 4);
        }
    if (!high) return;
    memset(high, 0, 32);
    for (int i = 0; i < 256; i++) high[i % 32] |= (unsigned char)((q[i] >> 4) << (i / 32));
}

static void write_q6_k(unsigned char *block, const float *in) {
    unsigned char *low = block, *high = block + 128;
    int scales[16];
    const float scale = share_signed(scales, in, 32, 128, block + 208);
    memset(block, 0, 192);
    for (int g = 0; g < 16; g++) block[192 + g] = (unsigned char)scales[g];
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, part = i % 128 / 32, at = i % 32, g = i / 16;
        const int value = clamp(in[i] * inverse(scale * (float)scales[g]), -32, 31) + 32;
        low[64 * half + 32 * (part % 2) + at] |= (unsigned char)((value & 15) << (part < 2 ? 0 : 4));
        high[32 * half + at] |= (unsigned char)((value >> 4) << (2 * part));
    }
}

int tsr__gguf_block_from_f32(tsr__dtype dtype, const float *in, unsigned char *block) {
    switch (dtype) {
    case TSR_DTYPE_Q4_0: write_signed(block, in, 8); return 1;
    case TSR_DTYPE_Q5_0: write_signed(block, in, 16); return 1;
    case TSR_DTYPE_Q4_1: write_offset(block, in, 15); return 1;
    case TSR_DTYPE_Q5_1: write_offset(block, in, 31); return 1;
    case TSR_DTYPE_Q8_0: write_q8(block, in); return 1;
    case TSR_DTYPE_Q2_K: write_q2_k(block, in); return 1;
    case TSR_DTYPE_Q3_K: write_q3_k(block, in); return 1;
    case TSR_DTYPE_Q4_K: write_q45_k(block, NULL, block + 16, in); return 1;
    case TSR_DTYPE_Q5_K: write_q45_k(block, block + 16, block + 48, in); return 1;
    case TSR_DTYPE_Q6_K: write_q6_k(block, in); return 1;
    default: return 0;
    }
}
