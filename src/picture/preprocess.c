/* picture/preprocess.c - see preprocess.h. */
#include "picture/preprocess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "tessera/latent.h"

#define CANNY_LOW       0.4f
#define CANNY_HIGH      0.8f
#define SCRIBBLE_SIGMA  2.0f
#define SCRIBBLE_RADIUS 6
#define SCRIBBLE_SHARE  0.2f /* of the steepest edge */
#define TILE_FACTOR     4

int tsr__preprocess_find(const char *name) {
    static const char *const names[] = { "none", "canny", "scribble", "tile", "invert", "inpaint" };
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

/* --- pieces ------------------------------------------------------------------------------------------------------------ */
static int reflect(int i, int n) {
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

static int clamp(int i, int n) {
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

static void to_grey(float *grey, const float *rgb, size_t count) {
    for (size_t i = 0; i < count; i++)
        grey[i] = 0.299f * rgb[3 * i] + 0.587f * rgb[3 * i + 1] + 0.114f * rgb[3 * i + 2];
}

static void from_grey(float *rgb, const float *grey, size_t count) {
    for (size_t i = 0; i < 3 * count; i++) rgb[i] = grey[i / 3];
}

/* Gaussian, normed, by rows and then by columns; borders are reflected. room: as large as the picture. */
static void blur(float *grey, float *room, int width, int height, float sigma, int radius) {
    float taps[2 * SCRIBBLE_RADIUS + 1], sum = 0.0f;
    for (int k = -radius; k <= radius; k++) {
        taps[k + radius] = expf(-(float)(k * k) / (2.0f * sigma * sigma));
        sum += taps[k + radius];
    }
    for (int pass = 0; pass < 2; pass++) {
        const float *from = pass ? room : grey;
        float *to = pass ? grey : room;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                float value = 0.0f;
                for (int k = -radius; k <= radius; k++) {
                    int u = pass ? x : reflect(x + k, width), v = pass ? reflect(y + k, height) : y;
                    value += taps[k + radius] / sum * from[(size_t)v * (size_t)width + (size_t)u];
                }
                to[(size_t)y * (size_t)width + (size_t)x] = value;
            }
    }
}

static void sobel(float *across, float *down, const float *grey, int width, int height) {
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const float *a = grey + (size_t)clamp(y - 1, height) * (size_t)width, *b = grey + (size_t)y * (size_t)width,
                        *c = grey + (size_t)clamp(y + 1, height) * (size_t)width;
            int l = clamp(x - 1, width), r = clamp(x + 1, width);
            size_t at = (size_t)y * (size_t)width + (size_t)x;
            across[at] = (a[r] - a[l]) + 2.0f * (b[r] - b[l]) + (c[r] - c[l]);
            down[at] = (c[l] - a[l]) + 2.0f * (c[x] - a[x]) + (c[r] - a[r]);
        }
}

/* --- Canny --------------------------------------------------------------------------------------------------------------- */
static float steepness_at(const float *steep, int x, int y, int width, int height) {
    return x < 0 || y < 0 || x >= width || y >= height ? 0.0f : steep[(size_t)y * (size_t)width + (size_t)x];
}

/* The step along the gradient, in eighths of a turn. */
static void direction(int *dx, int *dy, float across, float down) {
    static const int steps[8][2] = { { 1, 0 },  { 1, 1 },   { 0, 1 },  { -1, 1 },
                                     { -1, 0 }, { -1, -1 }, { 0, -1 }, { 1, -1 } };
    int eighth = (int)lrintf(atan2f(down, across) / 0.78539816f) & 7;
    *dx = steps[eighth][0];
    *dy = steps[eighth][1];
}

/* 0: no edge; 1: perhaps; 2: surely. */
static void classify(unsigned char *kind, const float *steep, const float *across, const float *down, int width,
                     int height, float low, float high) {
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            size_t at = (size_t)y * (size_t)width + (size_t)x;
            int dx, dy;
            direction(&dx, &dy, across[at], down[at]);
            int peak = steep[at] > steepness_at(steep, x + dx, y + dy, width, height) &&
                       steep[at] > steepness_at(steep, x - dx, y - dy, width, height);
            kind[at] = (unsigned char)(!peak || steep[at] <= low ? 0 : steep[at] > high ? 2 : 1);
        }
}

/* What hangs together with a sure edge becomes one. queue: as long as the picture. */
static void follow(unsigned char *kind, size_t *queue, int width, int height) {
    size_t count = (size_t)width * (size_t)height, head = 0, tail = 0;
    for (size_t i = 0; i < count; i++)
        if (kind[i] == 2) queue[tail++] = i;
    while (head < tail) {
        int x = (int)(queue[head] % (size_t)width), y = (int)(queue[head] / (size_t)width);
        head++;
        for (int v = y - 1; v <= y + 1; v++)
            for (int u = x - 1; u <= x + 1; u++) {
                if (u < 0 || v < 0 || u >= width || v >= height) continue;
                size_t at = (size_t)v * (size_t)width + (size_t)u;
                if (kind[at] != 1) continue;
                kind[at] = 2;
                queue[tail++] = at;
            }
    }
}

tsr_status tsr__canny(float *rgb, int width, int height, float low, float high, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = (size_t)width * (size_t)height;
    float *grey = NULL, *across = NULL, *down = NULL, *steep = NULL;
    unsigned char *kind = NULL;
    size_t *queue = NULL;
    TSR_ALLOC(err, grey, count);
    TSR_ALLOC(err, across, count);
    TSR_ALLOC(err, down, count);
    TSR_ALLOC(err, steep, count);
    TSR_ALLOC(err, kind, count);
    TSR_ALLOC(err, queue, count);
    to_grey(grey, rgb, count);
    blur(grey, steep, width, height, 1.0f, 2);
    sobel(across, down, grey, width, height);
    for (size_t i = 0; i < count; i++) steep[i] = sqrtf(across[i] * across[i] + down[i] * down[i]);
    classify(kind, steep, across, down, width, height, low, high);
    follow(kind, queue, width, height);
    for (size_t i = 0; i < count; i++) grey[i] = kind[i] == 2 ? 1.0f : 0.0f;
    from_grey(rgb, grey, count);
done:
    free(grey);
    free(across);
    free(down);
    free(steep);
    free(kind);
    free(queue);
    return status;
}

/* --- the others ------------------------------------------------------------------------------------------------------------ */
/* Soft edges made strokes: what is steep after a wide blur, against the steepest. */
static tsr_status scribble(float *rgb, int width, int height, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = (size_t)width * (size_t)height;
    float *grey = NULL, *across = NULL, *down = NULL, most = 0.0f;
    TSR_ALLOC(err, grey, count);
    TSR_ALLOC(err, across, count);
    TSR_ALLOC(err, down, count);
    to_grey(grey, rgb, count);
    blur(grey, across, width, height, SCRIBBLE_SIGMA, SCRIBBLE_RADIUS);
    sobel(across, down, grey, width, height);
    for (size_t i = 0; i < count; i++) {
        grey[i] = sqrtf(across[i] * across[i] + down[i] * down[i]);
        if (grey[i] > most) most = grey[i];
    }
    /* A flat picture has no edges: rounding would make some. */
    for (size_t i = 0; i < count; i++) grey[i] = most > 1e-3f && grey[i] > SCRIBBLE_SHARE * most ? 1.0f : 0.0f;
    from_grey(rgb, grey, count);
done:
    free(grey);
    free(across);
    free(down);
    return status;
}

/* Down by means and up again, softly. */
static tsr_status tile(float *rgb, int width, int height, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = (size_t)width * (size_t)height;
    int w = (width + TILE_FACTOR - 1) / TILE_FACTOR, h = (height + TILE_FACTOR - 1) / TILE_FACTOR;
    const int whole[4] = { 1, 3, height, width }, part[4] = { 1, 3, h, w };
    float *planes = NULL, *small = NULL;
    TSR_ALLOC(err, planes, count * 3);
    TSR_ALLOC(err, small, (size_t)w * (size_t)h * 3);
    for (size_t i = 0; i < count * 3; i++) planes[i % 3 * count + i / 3] = rgb[i];
    TSR_TRY(tsr_resize_nchw(small, h, w, planes, whole, TSR_RESIZE_AREA, err));
    TSR_TRY(tsr_resize_nchw(planes, height, width, small, part, TSR_RESIZE_BILINEAR, err));
    for (size_t i = 0; i < count * 3; i++) rgb[i] = planes[i % 3 * count + i / 3];
done:
    free(planes);
    free(small);
    return status;
}

tsr_status tsr__preprocess(float *rgb, int width, int height, tsr__preprocess_kind kind, tsr_error *err) {
    switch (kind) {
    case TSR__PREPROCESS_NONE:
    case TSR__PREPROCESS_INPAINT: break;
    case TSR__PREPROCESS_CANNY: return tsr__canny(rgb, width, height, CANNY_LOW, CANNY_HIGH, err);
    case TSR__PREPROCESS_SCRIBBLE: return scribble(rgb, width, height, err);
    case TSR__PREPROCESS_TILE: return tile(rgb, width, height, err);
    case TSR__PREPROCESS_INVERT:
        for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++) rgb[i] = 1.0f - rgb[i];
        break;
    }
    return TSR_OK;
}

/* The mask's column or row behind pixel i of `side`, of which `cut` at both ends lie outside the canvas; -1: none. */
static int behind(int i, int side, int cut, int mask_side) {
    if (i < cut || i >= side - cut) return -1;
    return clamp((int)(((double)(i - cut) + 0.5) * mask_side / (side - 2 * cut)), mask_side);
}

void tsr__blank_masked(float *rgb, int width, int height, const float *mask, int mask_width, int mask_height) {
    int cut_x = 0, cut_y = 0;
    tsr_resize_center_crop(&cut_x, &cut_y, width, height, mask_width, mask_height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int u = behind(x, width, cut_x, mask_width), v = behind(y, height, cut_y, mask_height);
            if (u < 0 || v < 0 || mask[(size_t)v * (size_t)mask_width + (size_t)u] <= 0.5f) continue;
            for (size_t c = 0; c < 3; c++) rgb[3 * ((size_t)y * (size_t)width + (size_t)x) + c] = -1.0f;
        }
}
