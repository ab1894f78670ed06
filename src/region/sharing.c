/* region/sharing.c - keep: which part of the canvas each actor's network sees, what each way to share costs, and which
 * one is taken when nobody says. Source of the rules: docs/modes.md. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/canvas.h"
#include "region/plan_priv.h"

/* auto takes crop when it costs at most this share of full, and the picture has this many times the pixels that the
 * model paints best. */
#define CROP_PAYS     0.85
#define LARGE_PICTURE 2
/* Latent pixels around a region for a network that does not say what it paints best. */
#define UNKNOWN_CONTEXT 8

/* --- crops ---------------------------------------------------------------------------------------------------------- */
/* Columns (or rows) lo..hi with context, at least the model's own size but no more than half the canvas for its sake,
 * a multiple of what the model wants, inside the canvas. */
static void widen(int *lo, int *hi, int size, int context, const tsr_denoiser *denoiser) {
    int multiple = denoiser->multiple > 1 ? denoiser->multiple : 1, half = (size + 1) / 2;
    int least = denoiser->native_size < half ? denoiser->native_size : half;
    *lo = *lo > context ? *lo - context : 0;
    *hi = *hi + context < size ? *hi + context : size;
    int side = *hi - *lo > least ? *hi - *lo : least;
    side = (side + multiple - 1) / multiple * multiple;
    if (side > size) side = size;
    *lo -= (side - (*hi - *lo)) / 2;
    if (*lo < 0) *lo = 0;
    if (*lo + side > size) *lo = size - side;
    *hi = *lo + side;
}

/* Asked for, or an eighth of what the model paints best. */
static int context_of(const tsr_plan *plan, const tsr_denoiser *denoiser) {
    int native = denoiser->native_size;
    if (plan->options.crop_context > 0) return plan->options.crop_context;
    return native > 0 ? (native + 7) / 8 : UNKNOWN_CONTEXT;
}

/* The box around all pixels above 0. */
static void bound(int box[4], const float *values, int height, int width) {
    box[0] = width;
    box[1] = height;
    box[2] = box[3] = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            if (values[(size_t)y * (size_t)width + (size_t)x] <= 0.0f) continue;
            if (x < box[0]) box[0] = x;
            if (y < box[1]) box[1] = y;
            if (x + 1 > box[2]) box[2] = x + 1;
            if (y + 1 > box[3]) box[3] = y + 1;
        }
}

void tsr__plan_set_crops(tsr_plan *plan) {
    int height = plan->shape[2], width = plan->shape[3], box[4];
    for (int k = 0; k < plan->n_actors; k++) {
        tsr__actor *actor = &plan->actors[k];
        memset(&actor->crop, 0, sizeof actor->crop);
        if (plan->sharing != TSR_SHARING_CROP || !actor->used || (k == 0 && !plan->crops_base)) continue;
        int context = context_of(plan, actor->guide.denoiser);
        bound(box, k == 0 ? actor->weights : actor->claims, height, width);
        widen(&box[0], &box[2], width, context, actor->guide.denoiser);
        widen(&box[1], &box[3], height, context, actor->guide.denoiser);
        if (box[2] - box[0] == width && box[3] - box[1] == height) continue;
        actor->crop.x = box[0];
        actor->crop.y = box[1];
        actor->crop.width = box[2] - box[0];
        actor->crop.height = box[3] - box[1];
    }
}

/* --- couple ---------------------------------------------------------------------------------------------------------- */
/* What a region has of its own that one pass cannot give it; NULL: nothing. */
static const char *own_thing(const tsr__actor *base, const tsr__actor *actor) {
    if (actor->guide.denoiser != base->guide.denoiser) return "a model";
    if (actor->guide.negative != base->guide.negative) return "a negative prompt";
    if (actor->guide.cfg != base->guide.cfg) return "a cfg";
    if (actor->guide.rescale != base->guide.rescale) return "a rescaled cfg";
    if (strcmp(actor->sampler, base->sampler) != 0) return "a sampler";
    if (strcmp(actor->scheduler, base->scheduler) != 0) return "a scheduler";
    if (actor->start > 0.0f || actor->end < 1.0f) return "steps (start, end, denoise)";
    return NULL;
}

static tsr_status find_obstacle(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__actor *base = &plan->actors[0];
    if (!base->guide.denoiser->couple) {
        plan->no_couple = tsr__strdup("this network cannot couple prompts");
        if (!plan->no_couple) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    for (int k = 1; k < plan->n_actors && !plan->no_couple; k++) {
        const char *thing = own_thing(base, &plan->actors[k]);
        if (!thing) continue;
        plan->no_couple = tsr__format("%s has %s of its own", plan->actors[k].label, thing);
        if (!plan->no_couple) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
done:
    return status;
}

/* --- costs ----------------------------------------------------------------------------------------------------------- */
static tsr_status count_work(int64_t *evaluations, int64_t *pixels, tsr_plan *plan, tsr_sharing sharing,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__canvas *dry = NULL;
    plan->sharing = sharing;
    *evaluations = *pixels = 0;
    tsr__plan_set_crops(plan);
    TSR_TRY(tsr__canvas_new_dry(&dry, plan, err));
    for (int i = 0; i < plan->steps; i++) {
        tsr__work work;
        TSR_TRY(tsr__canvas_step(dry, i, &work, err));
        *evaluations += work.evaluations;
        *pixels += work.pixels;
    }
done:
    tsr__canvas_free(dry);
    return status;
}

static int crop_pays(const tsr_plan *plan) {
    int64_t native = plan->actors[0].guide.denoiser->native_size;
    return native > 0 && (int64_t)plan->shape[2] * plan->shape[3] >= LARGE_PICTURE * native * native &&
           plan->costs[TSR_SHARING_CROP].relative <= CROP_PAYS * plan->costs[TSR_SHARING_FULL].relative;
}

tsr_status tsr__plan_set_sharing(tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_sharing asked = plan->options.sharing;
    int64_t plain = 0;
    plan->sharing = TSR_SHARING_FULL;
    if (plan->n_actors == 1) goto done; /* nobody to share with */
    TSR_TRY(find_obstacle(plan, err));
    if (asked == TSR_SHARING_COUPLE && plan->no_couple)
        TSR_FAIL(err, TSR_UNSUPPORTED, "mode couple: %s; make it the same for all, or take mode full or crop",
                 plan->no_couple);
    for (int sharing = TSR_SHARING_COUPLE; sharing >= TSR_SHARING_FULL; sharing--) {
        tsr_plan_cost *cost = &plan->costs[sharing];
        int64_t pixels = 0;
        TSR_TRY(count_work(&cost->evaluations, &pixels, plan, (tsr_sharing)sharing, err));
        if (sharing == TSR_SHARING_COUPLE) plain = pixels; /* one pass is what a plain run of the base costs */
        cost->relative = plain > 0 ? (double)pixels / (double)plain : 0.0;
    }
    if (plan->no_couple) memset(&plan->costs[TSR_SHARING_COUPLE], 0, sizeof *plan->costs);
    plan->sharing = asked != TSR_SHARING_AUTO ? asked : crop_pays(plan) ? TSR_SHARING_CROP : TSR_SHARING_FULL;
    tsr__plan_set_crops(plan);
done:
    return status;
}
