/* engine/engine_control.c - control networks of prompts: found, opened once, run for the samples of a batch that have them.
 *
 * A picture is scaled to the canvas as ComfyUI does (cut to the canvas's proportions, nearest-exact) and cut as the network's
 * view of the canvas is; what depends on it alone is computed once for each view. */
#include "engine/engine_control.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "engine/engine_priv.h"
#include "weights/control_open.h"

enum { MAX_USES = 16, MAX_VIEWS = 64, CELL = 8 };

struct tsr__control_file {
    char *path;
    tsr__weights *weights; /* to be packed from; NULL: to be opened again */
    size_t values;         /* that it will have */
    tsr__control_net *net; /* NULL: not packed */
    int was_packed;        /* in this run */
    struct tsr__control_file *next;
};

/* The part of a canvas that a network looks at, in latent cells. */
typedef struct place {
    int left, top, w, h, canvas_w, canvas_h;
} place;

typedef struct view {
    place at;
    tsr__control_hint hint;
} view;

typedef struct use {
    char *path;
    tsr__nn *nn;             /* that views are made in */
    tsr__control_file *file; /* NULL: not opened yet */
    float *pixels;           /* [height, width, 3] */
    int width, height;
    float strength, start_sigma, end_sigma;
    int type;
    float *scaled; /* [3, CELL canvas_h, CELL canvas_w] of the canvas seen last */
    int canvas_w, canvas_h;
    view views[MAX_VIEWS];
    int n_views;
} use;

struct tsr__control_set {
    tsr_engine *engine; /* whose list it is in */
    int refs;
    use *items[MAX_USES];
    int count;
    struct tsr__control_set *next;
};

int tsr__control_type(const char *name) {
    static const char *const names[][2] = {
        { "openpose", "openpose" },
        { "depth", "depth" },
        { "scribble", "hed/pidi/scribble/ted" },
        { "canny", "canny/lineart/anime_lineart/mlsd" },
        { "normal", "normal" },
        { "segment", "segment" },
        { "tile", "tile" },
        { "repaint", "repaint" },
    };
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(name, names[i][0]) == 0 || strcmp(name, names[i][1]) == 0) return i;
    return -1;
}

/* --- sets --------------------------------------------------------------------------------------------------------------- */
/* Views outlive the packed network that made them. */
static void clear_views(use *u) {
    for (int i = 0; i < u->n_views; i++) {
        tsr__control_hint *hint = &u->views[i].hint;
        for (int k = 0; k < hint->count; k++) tsr__nn_release(u->nn, &hint->tensors[k]);
        free(hint->tensors);
    }
    u->n_views = 0;
}

static void free_set(tsr__control_set *set) {
    if (!set) return;
    for (int i = 0; i < set->count; i++) {
        use *u = set->items[i];
        clear_views(u);
        free(u->path);
        free(u->pixels);
        free(u->scaled);
        free(u);
    }
    free(set);
}

tsr__control_set *tsr__controls_ref(tsr__control_set *set) {
    if (set) set->refs++;
    return set;
}

void tsr__controls_unref(tsr__control_set *set) {
    if (!set || --set->refs > 0) return;
    tsr__control_set **at = &set->engine->control_sets;
    while (*at != set) at = &(*at)->next;
    *at = set->next;
    free_set(set);
}

void tsr__controls_free_files(tsr_engine *engine) {
    while (engine->control_files) {
        tsr__control_file *next = engine->control_files->next;
        tsr__control_net_free(engine->control_files->net);
        tsr__weights_close(engine->control_files->weights);
        free(engine->control_files->path);
        free(engine->control_files);
        engine->control_files = next;
    }
}

const char *tsr__controls_file(const tsr__control_set *set, int index) {
    return set && index >= 0 && index < set->count ? set->items[index]->path : NULL;
}

static tsr_status copy_use(use **out, const tsr_engine *engine, const tsr__control_use *from, const char *who,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    use *made = NULL;
    char *found = NULL;
    size_t count = (size_t)from->width * (size_t)from->height * 3;
    *out = NULL;
    TSR_ALLOC_ZERO(err, made, 1);
    made->nn = engine->nn;
    made->width = from->width;
    made->height = from->height;
    made->strength = from->strength;
    made->start_sigma = from->start_sigma;
    made->end_sigma = from->end_sigma;
    made->type = from->type;
    found = tsr__find_beside(engine, "controlnet", from->model);
    if (!found) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (access(found, R_OK) != 0)
        TSR_FAIL(err, TSR_NOT_FOUND, "%s: control %s: no such file, nor in controlnet/ beside the model", who,
                 from->model);
    TSR_TRY(tsr__control_path(&made->path, found, err));
    TSR_ALLOC(err, made->pixels, count);
    memcpy(made->pixels, from->pixels, count * sizeof *made->pixels);
    *out = made;
    made = NULL;
done:
    free(found);
    if (made) free(made->path);
    free(made);
    return status;
}

static int same_sets(const tsr__control_set *a, const tsr__control_set *b) {
    if (a->count != b->count) return 0;
    for (int i = 0; i < a->count; i++) {
        const use *u = a->items[i], *v = b->items[i];
        if (strcmp(u->path, v->path) != 0 || u->width != v->width || u->height != v->height ||
            u->strength != v->strength || u->type != v->type || u->start_sigma != v->start_sigma ||
            u->end_sigma != v->end_sigma ||
            memcmp(u->pixels, v->pixels, (size_t)u->width * (size_t)u->height * 3 * sizeof *u->pixels) != 0)
            return 0;
    }
    return 1;
}

tsr_status tsr__controls_get(tsr__control_set **out, tsr_engine *engine, const tsr__control_use *uses, int n,
                             const char *who, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__control_set *made = NULL;
    *out = NULL;
    if (n < 1) return TSR_OK;
    if (n > MAX_USES) return tsr__fail(err, TSR_TOO_LARGE, "%s: more than %d control networks", who, MAX_USES);
    TSR_ALLOC_ZERO(err, made, 1);
    for (; made->count < n; made->count++)
        TSR_TRY(copy_use(&made->items[made->count], engine, &uses[made->count], who, err));
    for (tsr__control_set *at = engine->control_sets; at && !*out; at = at->next)
        if (same_sets(at, made)) *out = at;
    if (*out) {
        (*out)->refs++;
        goto done;
    }
    made->engine = engine;
    made->refs = 1;
    made->next = engine->control_sets;
    engine->control_sets = *out = made;
    made = NULL;
done:
    free_set(made);
    return status;
}

/* --- networks ------------------------------------------------------------------------------------------------------------ */
static tsr_status open_weights(tsr__control_file *file, const tsr_engine *engine, tsr_error *err) {
    if (file->weights) return TSR_OK;
    tsr_status status = tsr__control_open(&file->weights, file->path, NULL, err);
    if (status == TSR_OK) file->values = tsr__control_values(file->weights, engine->weights);
    return status;
}

/* Differences from the model are whole only while they are packed: they are copies in memory, no mapped files. */
static tsr_status build(tsr__control_file *file, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *whole = NULL;
    const tsr__weights *from = file->weights;
    if (tsr__control_is_difference(from)) {
        TSR_TRY(tsr__control_open(&whole, file->path, engine->weights, err));
        from = whole;
    }
    TSR_TRY(tsr__control_net_new(&file->net, engine->nn, from, tsr__control_averages(from, file->path), err));
    TSR_TRY(tsr__control_net_fits(file->net, engine->unet, file->path, err));
done:
    tsr__weights_close(whole);
    return status;
}

/* Opened, not packed. */
static tsr_status find_file(tsr__control_file **out, tsr_engine *engine, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__control_file *made = NULL;
    for (*out = engine->control_files; *out; *out = (*out)->next)
        if (strcmp((*out)->path, path) == 0) return TSR_OK;
    TSR_ALLOC_ZERO(err, made, 1);
    made->path = tsr__strdup(path);
    if (!made->path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(open_weights(made, engine, err));
    made->next = engine->control_files;
    engine->control_files = *out = made;
    made = NULL;
done:
    if (made) free(made->path);
    free(made);
    return status;
}

tsr_status tsr__controls_look(const tsr__control_set *set, tsr_error *err) {
    for (int i = 0; set && i < set->count; i++) {
        if (set->items[i]->file) continue;
        tsr_status status = find_file(&set->items[i]->file, set->engine, set->items[i]->path, err);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

/* The engine's UNet is there. */
static tsr_status pack(tsr__control_file *file, tsr_engine *engine, size_t call, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t before;
    if (file->net) return TSR_OK;
    TSR_TRY(open_weights(file, engine, err));
    TSR_TRY(tsr__budget_make_room(engine, TSR__NETWORK_CONTROL, call, err));
    before = tsr__nn_held_bytes(engine->nn);
    double start = tsr__seconds();
    TSR_TRY(build(file, engine, err));
    if (file->was_packed) tsr__budget_swapped(engine, tsr__nn_held_bytes(engine->nn) - before, tsr__seconds() - start);
    file->was_packed = 1;
    tsr__budget_used(engine);
    if (tsr__budget_is_on(engine)) goto done; /* else it stays packed, and the file is not needed again */
    tsr__weights_close(file->weights);
    file->weights = NULL;
done:
    if (status != TSR_OK) {
        tsr__control_net_free(file->net);
        file->net = NULL;
    }
    return status;
}

static int counts(const use *u, float sigma) {
    return u->strength != 0.0f && !(sigma > u->start_sigma || sigma < u->end_sigma);
}

static tsr_status bind(const tsr__control_set *set, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__controls_look(set, err));
    TSR_TRY(tsr__engine_need_unet(engine, err));
    for (int i = 0; i < set->count; i++) TSR_TRY(pack(set->items[i]->file, engine, 0, err));
done:
    return status;
}

tsr_status tsr__controls_need(const tsr__control_set *set, tsr_engine *engine, float sigma, size_t call,
                              tsr_error *err) {
    tsr_status status = tsr__controls_look(set, err);
    for (int i = 0; set && i < set->count && status == TSR_OK; i++)
        if (counts(set->items[i], sigma)) status = pack(set->items[i]->file, engine, call, err);
    return status;
}

size_t tsr__controls_bytes(const tsr_engine *engine, int missing_only) {
    size_t values = 0;
    for (const tsr__control_file *file = engine->control_files; file; file = file->next) {
        int used = 0;
        for (const tsr__control_set *set = engine->control_sets; set && !used; set = set->next)
            for (int i = 0; i < set->count; i++) used |= set->items[i]->file == file;
        if (used && !(missing_only && file->net)) values += file->values;
    }
    return values * (tsr__nn_precision(engine->nn) == TSR__BF16 ? 2 : 4);
}

int tsr__controls_are_packed(const tsr_engine *engine) {
    for (const tsr__control_file *file = engine->control_files; file; file = file->next)
        if (file->net) return 1;
    return 0;
}

void tsr__controls_unpack(tsr_engine *engine) {
    for (tsr__control_file *file = engine->control_files; file; file = file->next) {
        tsr__control_net_free(file->net);
        file->net = NULL;
    }
}

void tsr__controls_begin_run(tsr_engine *engine) {
    for (tsr__control_file *file = engine->control_files; file; file = file->next) file->was_packed = file->net != NULL;
}

/* --- texts ---------------------------------------------------------------------------------------------------------------- */
static void forget_texts(tsr__conditioning *cond) {
    for (int i = 0; cond->control_texts && i < cond->controls->count; i++)
        tsr__unet_context_free(cond->control_texts[i]);
    free(cond->control_texts);
    cond->control_texts = NULL;
}

tsr_status tsr__controls_read_text(tsr_engine *engine, tsr__conditioning *cond, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__control_set *set = cond->controls;
    if (!set || cond->control_texts) return TSR_OK;
    TSR_TRY(bind(set, engine, err));
    TSR_ALLOC_ZERO(err, cond->control_texts, set->count);
    for (int i = 0; i < set->count; i++) {
        tsr__unet *reader = tsr__control_net_unet(set->items[i]->file->net);
        if (!reader) continue;
        TSR_TRY(tsr__unet_context_new(&cond->control_texts[i], reader, cond->values, cond->tokens, err));
    }
done:
    if (status != TSR_OK) forget_texts(cond);
    return status;
}

tsr_status tsr__controls_couple(tsr__conditioning *made, const void *const *conds, const float *const *weights, int n,
                                int height, int width, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__control_set *set = ((const tsr__conditioning *)conds[0])->controls;
    tsr__unet_context **parts = NULL;
    for (int k = 1; k < n; k++)
        if (((const tsr__conditioning *)conds[k])->controls != set)
            return tsr__fail(err, TSR_UNSUPPORTED,
                             "mode couple evaluates all regions at once: regions with a control of their own need full "
                             "or crop");
    if (!set) return TSR_OK;
    made->controls = tsr__controls_ref(((const tsr__conditioning *)conds[0])->controls);
    TSR_TRY(bind(set, set->engine, err));
    TSR_ALLOC_ZERO(err, made->control_texts, set->count);
    TSR_ALLOC_ZERO(err, parts, n);
    for (int i = 0; i < set->count; i++) {
        tsr__unet *reader = tsr__control_net_unet(set->items[i]->file->net);
        for (int k = 0; k < n; k++) parts[k] = ((const tsr__conditioning *)conds[k])->control_texts[i];
        if (!reader) continue;
        TSR_TRY(tsr__unet_context_couple(&made->control_texts[i], reader, parts, weights, n, height, width, err));
    }
done:
    free(parts);
    return status;
}

void tsr__controls_drop(tsr__conditioning *cond) {
    forget_texts(cond);
    tsr__controls_unref(cond->controls);
    cond->controls = NULL;
}

/* --- pictures -------------------------------------------------------------------------------------------------------------- */
static tsr_status scale_picture(use *u, int canvas_w, int canvas_h, tsr_error *err) {
    tsr_status status = TSR_OK;
    int wide = canvas_w * CELL, high = canvas_h * CELL, cut_x = 0, cut_y = 0;
    float *planes = NULL;
    if (u->scaled && u->canvas_w == canvas_w && u->canvas_h == canvas_h) return TSR_OK;
    free(u->scaled);
    u->scaled = NULL;
    tsr_resize_center_crop(&cut_x, &cut_y, u->width, u->height, wide, high);
    int from_w = u->width - 2 * cut_x, from_h = u->height - 2 * cut_y;
    const int shape[4] = { 1, 3, from_h, from_w };
    size_t plane = (size_t)from_w * (size_t)from_h;
    TSR_ALLOC(err, planes, plane * 3);
    TSR_ALLOC(err, u->scaled, (size_t)wide * (size_t)high * 3);
    for (size_t i = 0; i < plane; i++) {
        size_t y = i / (size_t)from_w + (size_t)cut_y, x = i % (size_t)from_w + (size_t)cut_x;
        for (size_t c = 0; c < 3; c++) planes[c * plane + i] = u->pixels[(y * (size_t)u->width + x) * 3 + c];
    }
    TSR_TRY(tsr_resize_nchw(u->scaled, high, wide, planes, shape, TSR_RESIZE_NEAREST_EXACT, err));
    u->canvas_w = canvas_w;
    u->canvas_h = canvas_h;
done:
    if (status != TSR_OK) {
        free(u->scaled);
        u->scaled = NULL;
    }
    free(planes);
    return status;
}

static place place_of(const tsr_denoise_call *call, const int shape[4]) {
    place at = { 0, 0, shape[3], shape[2], shape[3], shape[2] };
    if (call->canvas_width) {
        at.left = call->left;
        at.top = call->top;
        at.canvas_w = call->canvas_width;
        at.canvas_h = call->canvas_height;
    }
    return at;
}

/* The part of the scaled picture that belongs to a view. */
static tsr_status cut_picture(float **out, const use *u, const place *at, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t wide = (size_t)at->w * CELL, high = (size_t)at->h * CELL, whole = (size_t)at->canvas_w * CELL;
    TSR_ALLOC(err, *out, 3 * wide * high);
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < high; y++)
            memcpy(*out + (c * high + y) * wide,
                   u->scaled + (c * (size_t)at->canvas_h * CELL + (size_t)at->top * CELL + y) * whole +
                       (size_t)at->left * CELL,
                   wide * sizeof **out);
done:
    return status;
}

/* SDXL's T2I-Adapter takes cells of 16 pixels: as in ComfyUI, the picture is scaled to whole ones. Parts of a canvas begin and end
 * where they do. */
static place rounded(const place *at, int cells) {
    place whole = *at;
    if (at->w != at->canvas_w || at->h != at->canvas_h) return whole;
    whole.w = whole.canvas_w = (at->w + cells - 1) / cells * cells;
    whole.h = whole.canvas_h = (at->h + cells - 1) / cells * cells;
    return whole;
}

static tsr_status need_hint(const tsr__control_hint **out, use *u, const place *at, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *picture = NULL;
    for (int i = 0; i < u->n_views; i++)
        if (memcmp(&u->views[i].at, at, sizeof *at) == 0) {
            *out = &u->views[i].hint;
            return TSR_OK;
        }
    if (at->left < 0 || at->top < 0 || at->left + at->w > at->canvas_w || at->top + at->h > at->canvas_h)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "a call for a part that lies outside its canvas of %d x %d cells", at->canvas_w,
                 at->canvas_h);
    const place seen = rounded(at, tsr__control_net_cells(u->file->net));
    TSR_TRY(scale_picture(u, seen.canvas_w, seen.canvas_h, err));
    TSR_TRY(cut_picture(&picture, u, &seen, err));
    TSR_TRY(tsr__control_net_hint(&u->views[u->n_views].hint, u->file->net, picture, seen.h, seen.w, u->type, err));
    u->views[u->n_views].at = *at;
    *out = &u->views[u->n_views++].hint;
done:
    free(picture);
    return status;
}

/* --- one batch --------------------------------------------------------------------------------------------------------------- */
/* What one network gives for the samples that have it. */
typedef struct control_part {
    tsr__control_net *net;
    tsr__tensor *tensors;
    int n_tensors, n; /* samples */
    int *samples;
    float *strengths;
    float *x, *timesteps;
    tsr__unet_context **texts;
    const float **labels;
    const tsr__control_hint **hints;
} control_part;

static tsr_status part_alloc(control_part *p, size_t samples, size_t each, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_ALLOC(err, p->samples, samples);
    TSR_ALLOC(err, p->strengths, samples);
    TSR_ALLOC(err, p->x, samples * each);
    TSR_ALLOC(err, p->timesteps, samples);
    TSR_ALLOC(err, p->texts, samples);
    TSR_ALLOC(err, p->labels, samples);
    TSR_ALLOC(err, p->hints, samples);
done:
    return status;
}

static void part_clear(control_part *p) {
    if (p->net) tsr__control_net_release(p->net, p->tensors, p->n_tensors);
    free(p->samples);
    free(p->strengths);
    free(p->x);
    free(p->timesteps);
    free(p->texts);
    free(p->labels);
    free(p->hints);
}

/* How many uses of a file count in the batch. */
static int count_uses(const tsr__control_batch *batch, const tsr__control_file *file) {
    int n = 0;
    for (int i = 0; i < batch->count; i++) {
        const tsr__control_set *set = ((const tsr__conditioning *)batch->calls[i]->cond)->controls;
        for (int k = 0; set && k < set->count; k++)
            n += set->items[k]->file == file && counts(set->items[k], batch->calls[i]->sigma);
    }
    return n;
}

/* All pictures of one call with one use. */
static tsr_status add_use(control_part *p, const tsr__control_batch *batch, int call, int index, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int *shape = batch->shape;
    const tsr__conditioning *cond = batch->calls[call]->cond;
    use *u = cond->controls->items[index];
    size_t plane = (size_t)shape[2] * (size_t)shape[3], each = plane * (size_t)shape[1];
    const tsr__control_hint *hint = NULL;
    place at = place_of(batch->calls[call], shape);
    TSR_TRY(need_hint(&hint, u, &at, err));
    for (int k = 0; k < shape[0]; k++) {
        int sample = call * shape[0] + k;
        memcpy(p->x + (size_t)p->n * each, batch->in + (size_t)sample * plane * (size_t)batch->channels,
               each * sizeof *p->x);
        p->samples[p->n] = sample;
        p->strengths[p->n] = u->strength;
        p->timesteps[p->n] = batch->timestep;
        p->texts[p->n] = cond->control_texts[index];
        p->labels[p->n] = batch->labels ? batch->labels[sample] : NULL;
        p->hints[p->n++] = hint;
    }
done:
    return status;
}

static tsr_status run_file(control_part *p, tsr__unet_control *out, tsr__control_file *file,
                           const tsr__control_batch *batch, int uses, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int *shape = batch->shape;
    p->net = file->net;
    TSR_TRY(
        part_alloc(p, (size_t)uses * (size_t)shape[0], (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3], err));
    for (int i = 0; i < batch->count; i++) {
        const tsr__control_set *set = ((const tsr__conditioning *)batch->calls[i]->cond)->controls;
        for (int k = 0; set && k < set->count; k++)
            if (set->items[k]->file == file && counts(set->items[k], batch->calls[i]->sigma))
                TSR_TRY(add_use(p, batch, i, k, err));
    }
    TSR_TRY(tsr__control_net_run(p->net, &p->tensors, &p->n_tensors, &out->place, p->x, p->n, shape[2], shape[3],
                                 p->timesteps, p->texts, batch->labels ? p->labels : NULL, p->hints, err));
    out->tensors = p->tensors;
    out->count = p->n_tensors;
    out->m = p->n;
    out->samples = p->samples;
    out->strengths = p->strengths;
done:
    return status;
}

/* Room for the batch's views, so that none goes while it is read. */
static void make_room(const tsr__control_batch *batch) {
    for (int i = 0; i < batch->count; i++) {
        const tsr__control_set *set = ((const tsr__conditioning *)batch->calls[i]->cond)->controls;
        for (int k = 0; set && k < set->count; k++)
            if (set->items[k]->n_views + batch->count > MAX_VIEWS) clear_views(set->items[k]);
    }
}

tsr_status tsr__controls_run(tsr__control_result *out, tsr_engine *engine, const tsr__control_batch *batch,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    int files = 0;
    memset(out, 0, sizeof *out);
    for (tsr__control_file *file = engine->control_files; file; file = file->next) files++;
    if (!files) return TSR_OK;
    make_room(batch);
    TSR_ALLOC_ZERO(err, out->controls, files);
    TSR_ALLOC_ZERO(err, out->parts, files);
    for (tsr__control_file *file = engine->control_files; file; file = file->next) {
        int uses = count_uses(batch, file);
        if (!uses) continue;
        out->count++;
        TSR_TRY(run_file(&out->parts[out->count - 1], &out->controls[out->count - 1], file, batch, uses, err));
    }
done:
    if (status != TSR_OK) tsr__controls_result_clear(out);
    return status;
}

void tsr__controls_result_clear(tsr__control_result *result) {
    for (int i = 0; result->parts && i < result->count; i++) part_clear(&result->parts[i]);
    free(result->controls);
    free(result->parts);
    memset(result, 0, sizeof *result);
}
