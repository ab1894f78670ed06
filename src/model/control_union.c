/* model/control_union.c - see control_union.h. After Xinsir's ControlNet++ union.
 *
 * Its transformer attends over the pictures' mean features, one token a picture. There is one picture here, as in ComfyUI, and
 * attention over one token gives that token's value: queries, keys and the number of heads do not count. Vectors of a few
 * hundred values, once a picture: plain floats. */
#include "model/control_union.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"

enum { MAX_TYPES = 256, MAX_LAYERS = 8 };

/* [out, in] and [out] */
typedef struct dense {
    float *weight, *bias;
    int out, in;
} dense;

typedef struct layer {
    tsr__norm norm1, norm2;
    dense value, out, wide, narrow;
} layer;

struct tsr__control_union {
    int types, channels, embed;
    float *tasks; /* [types, channels] */
    layer layers[MAX_LAYERS];
    int depth;
    dense project;
    float *times; /* [types + 1, embed]; the last without a type */
};

/* --- loading -------------------------------------------------------------------------------------------------------- */
int tsr__control_union_is(const tsr__loader *loader) {
    return tsr__load_has(loader, "control_add_embedding.linear_1.weight");
}

static tsr_status read_floats(float **out, const tsr__tensor_view *view, size_t first, size_t count, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    *out = NULL;
    TSR_ALLOC(err, values, count);
    TSR_TRY(tsr__tensor_part_to_f32(view, first, count, values, err));
    *out = values;
    values = NULL;
done:
    free(values);
    return status;
}

/* Rows from `skip` on of weight and bias, which are `rows` in all. */
static tsr_status load_rows(dense *d, const tsr__loader *loader, const char *weight, const char *bias, int rows, int in,
                            int skip, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = NULL;
    const int64_t shape[2] = { rows, in };
    d->out = rows - skip;
    d->in = in;
    TSR_TRY(tsr__load_shaped(loader, &view, weight, 2, shape, err));
    TSR_TRY(read_floats(&d->weight, view, (size_t)skip * (size_t)in, (size_t)d->out * (size_t)in, err));
    TSR_TRY(tsr__load_shaped(loader, &view, bias, 1, shape, err));
    TSR_TRY(read_floats(&d->bias, view, (size_t)skip, (size_t)d->out, err));
done:
    return status;
}

static tsr_status load_dense(dense *d, const tsr__loader *loader, const char *name, int out, int in, tsr_error *err) {
    return load_rows(d, loader, tsr__name_of("%s.weight", name).text, tsr__name_of("%s.bias", name).text, out, in, 0,
                     err);
}

static tsr_status load_layer(layer *l, tsr__loader *loader, int index, int c, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__name at = tsr__name_of("transformer_layes.%d", index); /* as the files spell it */
    const char *joined = tsr__load_has(loader, "%s.attn.in_proj.weight", at.text) ? "." : "_";
    TSR_TRY(tsr__norm_load(&l->norm1, loader, c, tsr__name_of("%s.ln_1", at.text).text, err));
    TSR_TRY(tsr__norm_load(&l->norm2, loader, c, tsr__name_of("%s.ln_2", at.text).text, err));
    TSR_TRY(load_rows(&l->value, loader, tsr__name_of("%s.attn.in_proj%sweight", at.text, joined).text,
                      tsr__name_of("%s.attn.in_proj%sbias", at.text, joined).text, 3 * c, c, 2 * c, err));
    TSR_TRY(load_dense(&l->out, loader, tsr__name_of("%s.attn.out_proj", at.text).text, c, c, err));
    TSR_TRY(load_dense(&l->wide, loader, tsr__name_of("%s.mlp.c_fc", at.text).text, 4 * c, c, err));
    TSR_TRY(load_dense(&l->narrow, loader, tsr__name_of("%s.mlp.c_proj", at.text).text, c, 4 * c, err));
done:
    return status;
}

static void clear_dense(dense *d) {
    free(d->weight);
    free(d->bias);
    memset(d, 0, sizeof *d);
}

void tsr__control_union_free(tsr__control_union *parts) {
    if (!parts) return;
    for (int i = 0; i < parts->depth; i++) {
        layer *l = &parts->layers[i];
        dense *all[] = { &l->value, &l->out, &l->wide, &l->narrow };
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) clear_dense(all[k]);
        tsr__norm_clear(&l->norm1);
        tsr__norm_clear(&l->norm2);
    }
    clear_dense(&parts->project);
    free(parts->tasks);
    free(parts->times);
    free(parts);
}

/* --- arithmetic ------------------------------------------------------------------------------------------------------- */
/* y = W x + b (+ y) */
static void apply(float *y, const dense *d, const float *x, int adds) {
    for (int o = 0; o < d->out; o++) {
        const float *row = d->weight + (size_t)o * (size_t)d->in;
        float sum = d->bias[o];
        for (int i = 0; i < d->in; i++) sum += row[i] * x[i];
        y[o] = adds ? y[o] + sum : sum;
    }
}

static void normalize(float *y, const tsr__norm *norm, const float *x) {
    const int c = norm->channels;
    double mean = 0.0, square = 0.0;
    for (int i = 0; i < c; i++) mean += (double)x[i] / c;
    for (int i = 0; i < c; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean) / c;
    const double by = 1.0 / sqrt(square + 1e-5);
    for (int i = 0; i < c; i++) y[i] = (float)(((double)x[i] - mean) * by) * norm->gamma[i] + norm->beta[i];
}

/* x += out(value(norm1 x)); x += narrow(quick_gelu(wide(norm2 x))). room: 5 c values. */
static void run_layer(float *x, const layer *l, int c, float *room) {
    float *normed = room, *wide = room + c;
    normalize(normed, &l->norm1, x);
    apply(wide, &l->value, normed, 0);
    apply(x, &l->out, wide, 1);
    normalize(normed, &l->norm2, x);
    apply(wide, &l->wide, normed, 0);
    for (int i = 0; i < 4 * c; i++) wide[i] /= 1.0f + expf(-1.702f * wide[i]);
    apply(x, &l->narrow, wide, 1);
}

/* --- the time's share ------------------------------------------------------------------------------------------------- */
/* Every type is a switch, 0 or 1, embedded as times are: [cos(t f), sin(t f)]. */
static void embed_switches(float *out, int types, int width, int type) {
    const int half = width / 2;
    for (int t = 0; t < types; t++)
        for (int i = 0; i < half; i++) {
            const float f = expf(-9.21034037f * (float)i / (float)half);
            out[t * width + i] = t == type ? cosf(f) : 1.0f;
            out[t * width + half + i] = t == type ? sinf(f) : 0.0f;
        }
}

/* All of them, when the network is opened: the weights are not needed again. */
static tsr_status load_times(tsr__control_union *parts, tsr__loader *loader, tsr_error *err) {
    static const char first[] = "control_add_embedding.linear_1", second[] = "control_add_embedding.linear_2";
    tsr_status status = TSR_OK;
    dense in = { 0 }, out = { 0 };
    float *waves = NULL, *hidden = NULL;
    int rows = 0, columns = 0;
    TSR_TRY(tsr__load_sides(loader, &rows, &columns, first, 2, err));
    if (columns % (2 * parts->types))
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s takes %d values for %d types: not %s", first, columns, parts->types,
                 loader->layout);
    TSR_TRY(load_dense(&in, loader, first, parts->embed, columns, err));
    TSR_TRY(load_dense(&out, loader, second, parts->embed, parts->embed, err));
    TSR_ALLOC(err, waves, columns);
    TSR_ALLOC(err, hidden, parts->embed);
    TSR_ALLOC(err, parts->times, (size_t)(parts->types + 1) * (size_t)parts->embed);
    for (int type = 0; type <= parts->types; type++) {
        embed_switches(waves, parts->types, columns / parts->types, type < parts->types ? type : -1);
        apply(hidden, &in, waves, 0);
        for (int i = 0; i < parts->embed; i++) hidden[i] /= 1.0f + expf(-hidden[i]);
        apply(parts->times + (size_t)type * (size_t)parts->embed, &out, hidden, 0);
    }
done:
    clear_dense(&in);
    clear_dense(&out);
    free(waves);
    free(hidden);
    return status;
}

tsr_status tsr__control_union_new(tsr__control_union **out, tsr__loader *loader, int channels, int embed,
                                  tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__control_union *parts = NULL;
    const tsr__tensor_view *tasks = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, parts, 1);
    parts->channels = channels;
    parts->embed = embed;
    TSR_TRY(tsr__load_need(loader, &tasks, "task_embedding", 2, err));
    if (tasks->shape[0] > MAX_TYPES || tasks->shape[1] != channels)
        TSR_FAIL(err, TSR_UNSUPPORTED, "task_embedding has %lld types of %lld channels: not %s",
                 (long long)tasks->shape[0], (long long)tasks->shape[1], loader->layout);
    parts->types = (int)tasks->shape[0];
    TSR_TRY(read_floats(&parts->tasks, tasks, 0, tasks->count, err));
    for (int i = 0; i < MAX_LAYERS && tsr__load_has(loader, "transformer_layes.%d.ln_1.weight", i); i++) {
        parts->depth = i + 1;
        TSR_TRY(load_layer(&parts->layers[i], loader, i, channels, err));
    }
    TSR_TRY(load_dense(&parts->project, loader, "spatial_ch_projs", channels, channels, err));
    TSR_TRY(load_times(parts, loader, err));
    *out = parts;
    parts = NULL;
done:
    tsr__control_union_free(parts);
    return status;
}

int tsr__control_union_types(const tsr__control_union *parts) {
    return parts->types;
}

/* --- a picture -------------------------------------------------------------------------------------------------------- */
tsr_status tsr__control_union_features(const tsr__control_union *parts, tsr__nn *nn, tsr__tensor *features, int type,
                                       tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL, *room = NULL;
    const int h = features->h, w = features->w, c = parts->channels;
    const size_t plane = (size_t)h * (size_t)w;
    if (type < 0) return TSR_OK;
    TSR_ALLOC(err, values, plane * (size_t)c);
    TSR_ALLOC(err, room, 7 * (size_t)c);
    float *x = room + 5 * (size_t)c, *change = x + c;
    TSR_TRY(tsr__nn_to_nchw(nn, values, features, err));
    for (int i = 0; i < c; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < plane; k++) sum += (double)values[(size_t)i * plane + k];
        x[i] = (float)(sum / (double)plane) + parts->tasks[(size_t)type * (size_t)c + (size_t)i];
    }
    for (int i = 0; i < parts->depth; i++) run_layer(x, &parts->layers[i], c, room);
    apply(change, &parts->project, x, 0);
    for (size_t i = 0; i < plane * (size_t)c; i++) values[i] += change[i / plane];
    tsr__nn_release(nn, features);
    TSR_TRY(tsr__nn_from_nchw(nn, features, values, 1, c, h, w, err));
done:
    free(values);
    free(room);
    return status;
}

tsr_status tsr__control_union_time(const tsr__control_union *parts, tsr__nn *nn, tsr__tensor *out, int type,
                                   tsr_error *err) {
    const size_t row = type < 0 ? (size_t)parts->types : (size_t)type;
    return tsr__nn_from_rows(nn, out, parts->times + row * (size_t)parts->embed, 1, 1, parts->embed, err);
}
