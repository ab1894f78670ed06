/* weights/gguf_blocks.c - GGUF's block types to float32.
 *
 * Layouts as the ggml project defines them: a block holds 32 elements (Q4_0 ... Q8_0: one scale, perhaps one minimum) or
 * 256 (the K types: groups of 16 or 32 with small integer scales of their own). Little-endian. */
#include <string.h>

#include "weights/gguf.h"

static float half_at(const unsigned char *bytes) {
    float value;
    tsr__f16_to_f32(&value, bytes, 1);
    return value;
}

static int signed_byte(unsigned char byte) {
    return byte < 128 ? byte : (int)byte - 256;
}

/* --- 32 elements ------------------------------------------------------------------------------------------------------ */
/* Elements 0..15 sit in the low halves of 16 bytes, 16..31 in the high ones. */
static void read_q4(const unsigned char *qs, float scale, float offset, float *out) {
    for (int i = 0; i < 16; i++) {
        out[i] = (float)(qs[i] & 15) * scale + offset;
        out[i + 16] = (float)(qs[i] >> 4) * scale + offset;
    }
}

/* The fifth bits stand in 32 bits of their own. */
static void read_q5(const unsigned char *high, const unsigned char *qs, float scale, float offset, float *out) {
    for (int i = 0; i < 16; i++) {
        const int low_bit = (high[i / 8] >> (i % 8)) & 1, high_bit = (high[2 + i / 8] >> (i % 8)) & 1;
        out[i] = (float)((qs[i] & 15) | low_bit << 4) * scale + offset;
        out[i + 16] = (float)((qs[i] >> 4) | high_bit << 4) * scale + offset;
    }
}

static void read_q8(const unsigned char *block, float *out) {
    const float scale = half_at(block);
    for (int i = 0; i < 32; i++) out[i] = (float)signed_byte(block[2 + i]) * scale;
}

/* --- 256 elements ----------------------------------------------------------------------------------------------------- */
/* 16 groups of 16; a byte of scale (low half) and minimum (high half) each; 2 bits an element. */
static void read_q2_k(const unsigned char *block, float *out) {
    const unsigned char *qs = block + 16;
    const float scale = half_at(block + 80), minimum = half_at(block + 82);
    for (int group = 0; group < 16; group++) {
        const int half = group / 8, shift = group % 8 / 2 * 2, from = 32 * half + 16 * (group % 2);
        const float d = scale * (float)(block[group] & 15), m = minimum * (float)(block[group] >> 4);
        for (int i = 0; i < 16; i++) out[16 * group + i] = d * (float)((qs[from + i] >> shift) & 3) - m;
    }
}

/* The 6-bit scale of a group: 4 low bits in the first 8 bytes, 2 high bits in the last 4. */
static int q3_scale(const unsigned char *scales, int group) {
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
    return (low | high << 4) - 32;
}

/* 2 bits in qs, the third in a mask: where it is 0, 4 is taken off. */
static void read_q3_k(const unsigned char *block, float *out) {
    const unsigned char *mask = block, *qs = block + 32, *scales = block + 96;
    const float scale = half_at(block + 108);
    for (int group = 0; group < 16; group++) {
        const int half = group / 8, part = group % 8 / 2, at = 16 * (group % 2), shift = 2 * part;
        const float d = scale * (float)q3_scale(scales, group);
        for (int i = 0; i < 16; i++) {
            const int high = (mask[at + i] >> (4 * half + part)) & 1;
            const int value = ((qs[32 * half + at + i] >> shift) & 3) - (high ? 0 : 4);
            out[16 * group + i] = d * (float)value;
        }
    }
}

/* The 6-bit scale and minimum of one of 8 groups of 32, packed in 12 bytes. */
static void k_scale(const unsigned char *packed, int group, int *scale, int *minimum) {
    if (group < 4) {
        *scale = packed[group] & 63;
        *minimum = packed[group + 4] & 63;
    } else {
        *scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
        *minimum = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
    }
}

/* 4 bits an element, groups in pairs: low halves, then high halves. high: NULL, or the fifth bits. */
static void read_q45_k(const unsigned char *block, const unsigned char *high, const unsigned char *qs, float *out) {
    const float scale = half_at(block), minimum = half_at(block + 2);
    for (int group = 0; group < 8; group++) {
        int s, m;
        k_scale(block + 4, group, &s, &m);
        const float d = scale * (float)s, offset = minimum * (float)m;
        const unsigned char *from = qs + 32 * (group / 2);
        for (int i = 0; i < 32; i++) {
            int value = group % 2 ? from[i] >> 4 : from[i] & 15;
            if (high && ((high[i] >> group) & 1)) value += 16;
            out[32 * group + i] = d * (float)value - offset;
        }
    }
}

/* 4 low bits, 2 high bits, 16 signed scales. */
static void read_q6_k(const unsigned char *block, float *out) {
    const unsigned char *low = block, *high = block + 128, *scales = block + 192;
    const float scale = half_at(block + 208);
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, part = i % 128 / 32, at = i % 32;
        const unsigned char packed = low[64 * half + 32 * (part % 2) + at];
        const int bits = part < 2 ? packed & 15 : packed >> 4;
        const int value = (bits | ((high[32 * half + at] >> (2 * part)) & 3) << 4) - 32;
        out[i] = scale * (float)signed_byte(scales[i / 16]) * (float)value;
    }
}

/* --- 4 bits that stand for values of a table ------------------------------------------------------------------------------ */
/* ggml's, spaced like the values of a bell curve. */
static const float IQ4_VALUES[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

static void read_iq4(const unsigned char *qs, float scale, float *out) {
    for (int i = 0; i < 16; i++) {
        out[i] = scale * IQ4_VALUES[qs[i] & 15];
        out[i + 16] = scale * IQ4_VALUES[qs[i] >> 4];
    }
}

/* 8 groups of 32 with 6-bit scales: 2 high bits in bytes 2 and 3, 4 low bits in bytes 4 to 7. */
static void read_iq4_xs(const unsigned char *block, float *out) {
    const float scale = half_at(block);
    for (int group = 0; group < 8; group++) {
        const int high = (block[2 + group / 4] >> (2 * (group % 4))) & 3;
        const int low = (block[4 + group / 2] >> (4 * (group % 2))) & 15;
        read_iq4(block + 8 + 16 * group, scale * (float)((low | high << 4) - 32), out + 32 * group);
    }
}

void tsr__gguf_block_to_f32(tsr__dtype dtype, const unsigned char *block, float *out) {
    const float scale = half_at(block);
    switch (dtype) {
    case TSR_DTYPE_Q4_0: read_q4(block + 2, scale, -8.0f * scale, out); break;
    case TSR_DTYPE_Q4_1: read_q4(block + 4, scale, half_at(block + 2), out); break;
    case TSR_DTYPE_Q5_0: read_q5(block + 2, block + 6, scale, -16.0f * scale, out); break;
    case TSR_DTYPE_Q5_1: read_q5(block + 4, block + 8, scale, half_at(block + 2), out); break;
    case TSR_DTYPE_Q8_0: read_q8(block, out); break;
    case TSR_DTYPE_Q2_K: read_q2_k(block, out); break;
    case TSR_DTYPE_Q3_K: read_q3_k(block, out); break;
    case TSR_DTYPE_Q4_K: read_q45_k(block, NULL, block + 16, out); break;
    case TSR_DTYPE_Q5_K: read_q45_k(block, block + 16, block + 48, out); break;
    case TSR_DTYPE_Q6_K: read_q6_k(block, out); break;
    case TSR_DTYPE_IQ4_NL: read_iq4(block + 2, scale, out); break;
    case TSR_DTYPE_IQ4_XS: read_iq4_xs(block, out); break;
    default: memset(out, 0, tsr__dtype_block(dtype) * sizeof *out); break; /* callers ask for block types only */
    }
}
