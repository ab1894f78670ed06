/* engine/engine_outpaint.c - init images under a mask: the canvas they lie on, what lies under the mask at the start, and their
 * own pixels put back at the end.
 *
 * Outpainting is a mask like any other, on a canvas larger than the picture. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "tessera/noise.h"

enum { MAX_SIDE = 8192 };

/* --- the canvas ------------------------------------------------------------------------------------------------------------- */
/* A side of the canvas; what is missing to a multiple of 8 is added to a margin: the one behind, unless only the one before is
 * asked for. */
static int settle_side(int side, int *before, int *behind) {
    int all = side + *before + *behind, more = (8 - all % 8) % 8;
    if (*behind > 0 || *before == 0) *behind += more;
    else *before += more;
    return all + more;
}

tsr_status tsr__outpaint_settle(int size[2], tsr__job *job, const tsr_image *image, tsr_error *err) {
    const tsr_scene *scene = job->scene;
    tsr_margins *m = &job->margins;
    m->left = tsr__scene_int(scene, TSR__OPT_OUTPAINT_LEFT);
    m->top = tsr__scene_int(scene, TSR__OPT_OUTPAINT_TOP);
    m->right = tsr__scene_int(scene, TSR__OPT_OUTPAINT_RIGHT);
    m->bottom = tsr__scene_int(scene, TSR__OPT_OUTPAINT_BOTTOM);
    int asked[2] = { image->width + m->left + m->right, image->height + m->top + m->bottom };
    int given[2] = { tsr__scene_int(scene, TSR__OPT_WIDTH), tsr__scene_int(scene, TSR__OPT_HEIGHT) };
    size[0] = settle_side(image->width, &m->left, &m->right);
    size[1] = settle_side(image->height, &m->top, &m->bottom);
    if (size[0] > MAX_SIDE || size[1] > MAX_SIDE)
        return tsr__fail(err, TSR_TOO_LARGE, "outpaint: the picture with its margins is %dx%d; sides are at most %d",
                         asked[0], asked[1], MAX_SIDE);
    if ((given[0] && given[0] != size[0]) || (given[1] && given[1] != size[1]))
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "outpaint: the picture with its margins is %dx%d, width and height say %dx%d; leave them out",
                         size[0], size[1], given[0] ? given[0] : size[0], given[1] ? given[1] : size[1]);
    if (asked[0] == size[0] && asked[1] == size[1]) return TSR_OK;
    char text[200];
    snprintf(
        text, sizeof text,
        "outpaint: %dx%d is no multiple of 8; the picture is %dx%d, with margins of %d left, %d above, %d right, %d "
        "below",
        asked[0], asked[1], size[0], size[1], m->left, m->top, m->right, m->bottom);
    return tsr__job_warn(job, text, err);
}

tsr_status tsr__outpaint_place(float **out, const tsr__job *job, const tsr_image *image, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *own = NULL, *rgb = NULL;
    size_t count = (size_t)job->width * (size_t)job->height * 3, row = (size_t)image->width * 3;
    *out = NULL;
    TSR_ALLOC(err, own, (size_t)image->height * row);
    TSR_ALLOC(err, rgb, count);
    tsr_image_to_floats(image, own);
    for (size_t i = 0; i < count; i++) rgb[i] = 0.5f;
    for (int y = 0; y < image->height; y++)
        memcpy(rgb + ((size_t)(y + job->margins.top) * (size_t)job->width + (size_t)job->margins.left) * 3,
               own + (size_t)y * row, row * sizeof *rgb);
    *out = rgb;
    rgb = NULL;
done:
    free(own);
    free(rgb);
    return status;
}

/* --- what lies under the mask --------------------------------------------------------------------------------------------------- */
static int is_margin(const tsr__job *job, int x, int y) {
    const tsr_margins *m = &job->margins;
    return x < m->left || y < m->top || x >= job->width - m->right || y >= job->height - m->bottom;
}

enum { KNOWN, OPEN, NEXT }; /* what a pixel of a hole is */

/* The pixels around pixel `at`, itself among them; returns how many there are. */
static int around(size_t out[9], int w, int h, size_t at) {
    int x0 = (int)(at % (size_t)w), y0 = (int)(at / (size_t)w), n = 0;
    for (int y = y0 - 1; y <= y0 + 1; y++)
        for (int x = x0 - 1; x <= x0 + 1; x++)
            if (x >= 0 && y >= 0 && x < w && y < h) out[n++] = (size_t)y * (size_t)w + (size_t)x;
    return n;
}

/* Mean colour of the known pixels around. */
static void mean_around(float *rgb, const unsigned char *hole, int w, int h, size_t at) {
    size_t near[9];
    double sum[3] = { 0 };
    int n = around(near, w, h, at), known = 0;
    for (int i = 0; i < n; i++) {
        if (hole[near[i]] != KNOWN) continue;
        for (size_t c = 0; c < 3; c++) sum[c] += (double)rgb[3 * near[i] + c];
        known++;
    }
    for (size_t c = 0; c < 3 && known; c++) rgb[3 * at + c] = (float)(sum[c] / known);
}

/* The OPEN pixels around pixel `at` join the ring. */
static size_t join(size_t *ring, size_t n, unsigned char *hole, int w, int h, size_t at) {
    size_t near[9];
    int count = around(near, w, h, at);
    for (int i = 0; i < count; i++) {
        if (hole[near[i]] != OPEN) continue;
        hole[near[i]] = NEXT;
        ring[n++] = near[i];
    }
    return n;
}

/* The colours around a hole grow into it, ring by ring. Where there are none at all, the hole stays as it is. */
static tsr_status grow_colors(float *rgb, unsigned char *hole, int w, int h, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = (size_t)w * (size_t)h, n = 0, *ring = NULL, *next = NULL;
    TSR_ALLOC(err, ring, count);
    TSR_ALLOC(err, next, count);
    for (size_t i = 0; i < count; i++)
        if (hole[i] == KNOWN) n = join(ring, n, hole, w, h, i);
    while (n) {
        size_t following = 0, *swap = ring;
        for (size_t i = 0; i < n; i++) mean_around(rgb, hole, w, h, ring[i]);
        for (size_t i = 0; i < n; i++) hole[ring[i]] = KNOWN;
        for (size_t i = 0; i < n; i++) following = join(next, following, hole, w, h, ring[i]);
        n = following;
        ring = next;
        next = swap;
    }
done:
    free(ring);
    free(next);
    return status;
}

/* auto: the picture as it is; in margins grey, as ComfyUI's node, or what is beside them where the start counts. */
tsr_status tsr__job_fill_mask(float *rgb, const tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *fill = tsr__scene_text(job->scene, TSR__OPT_MASK_FILL);
    int grey = strcmp(fill, "grey") == 0, edge = strcmp(fill, "edge") == 0;
    int margins_edge = edge || (!grey && tsr__scene_number(job->scene, TSR__OPT_DENOISE) < 1.0);
    unsigned char *hole = NULL;
    size_t count = (size_t)job->width * (size_t)job->height, open = 0;
    if (!job->noise_mask) return TSR_OK;
    TSR_ALLOC(err, hole, count);
    for (size_t i = 0; i < count; i++) {
        int margin = is_margin(job, (int)(i % (size_t)job->width), (int)(i / (size_t)job->width));
        int covered = margin || ((grey || edge) && rintf(job->noise_mask->values[i]) > 0.0f);
        for (size_t c = 0; c < 3 && covered; c++) rgb[3 * i + c] = 0.5f;
        hole[i] = covered && (margin ? margins_edge : edge) ? OPEN : KNOWN;
        open += hole[i];
    }
    if (open) TSR_TRY(grow_colors(rgb, hole, job->width, job->height, err));
done:
    free(hole);
    return status;
}

/* Noise of a seed of its own: the run's noise is added to it. */
tsr_status tsr__job_fill_noise(tsr__job *job, float latent_scale, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *small = NULL;
    float *noise = NULL;
    const tsr_latent *latent = job->latent;
    if (!job->noise_mask || strcmp(tsr__scene_text(job->scene, TSR__OPT_MASK_FILL), "noise") != 0) return TSR_OK;
    size_t count = tsr_latent_count(latent), plane = (size_t)latent->shape[2] * (size_t)latent->shape[3];
    TSR_ALLOC(err, noise, count);
    TSR_TRY(tsr_initial_noise(noise, latent->shape, tsr__scene_seed(job->scene, TSR__OPT_SEED) + 2, NULL, err));
    TSR_TRY(tsr_mask_resize(&small, job->noise_mask, latent->shape[3], latent->shape[2], err));
    for (size_t i = 0; i < count; i++) {
        float m = small->values[i % plane];
        latent->values[i] = latent->values[i] * (1.0f - m) + noise[i] / latent_scale * m;
    }
done:
    tsr_mask_free(small);
    free(noise);
    return status;
}

/* --- the picture's own pixels --------------------------------------------------------------------------------------------------- */
/* A change map's grey says when a pixel is painted, not how much of it: what is painted at all counts, and only the darkest
 * eighth fades. */
static float share_of_paint(const tsr__job *job, float mask) {
    float rate = tsr__scene_flag(job->scene, TSR__OPT_DIFFERENTIAL) ? 8.0f : 1.0f;
    return fminf(rate * mask, 1.0f);
}

tsr_status tsr__job_keep_original(tsr__job *job, const float *rgb, tsr_error *err) {
    if (!job->noise_mask || !tsr__scene_flag(job->scene, TSR__OPT_PASTE_BACK)) return TSR_OK;
    tsr_status status = tsr_image_new(&job->original, job->width, job->height, 4, err);
    if (status != TSR_OK) return status;
    for (size_t i = 0; i < (size_t)job->width * (size_t)job->height; i++) {
        unsigned char *to = job->original->pixels + 4 * i;
        for (size_t c = 0; c < 3; c++) to[c] = (unsigned char)lrintf(255.0f * rgb[3 * i + c]);
        to[3] = (unsigned char)lrintf(255.0f * share_of_paint(job, job->noise_mask->values[i]));
    }
    return TSR_OK;
}

void tsr__job_paste_back(tsr_image *image, const tsr__job *job) {
    const tsr_image *own = job->original;
    if (!own) return; /* it has the picture's size */
    for (size_t i = 0; i < (size_t)own->width * (size_t)own->height; i++) {
        const unsigned char *from = own->pixels + 4 * i;
        unsigned char *to = image->pixels + (size_t)image->channels * i;
        for (int c = 0; c < 3; c++) to[c] = (unsigned char)((to[c] * from[3] + from[c] * (255 - from[3]) + 127) / 255);
    }
}
