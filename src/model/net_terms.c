/* model/net_terms.c - see net_terms.h. */
#include "model/net_terms.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/upsample.h"
#include "weights/packed_file.h"

/* What is asked of one packed weight. */
typedef struct site {
    const tsr__weight_entry *entry;
    const tsr__weights *weights;
    const tsr__net_adapter *adapters;
    int changed; /* some adapter has a term there already */
} site;

/* One adapter's change of one packed weight, part by part. */
typedef struct change {
    const tsr__weight_entry *entry;
    tsr__lora_factors *parts; /* [entry->parts]; zeros: the adapter leaves that one */
    float *bias;              /* [rows]; NULL: none */
    float *gain, *shift;      /* [rows] of the result before this change; NULL: none */
    float *input_gain;        /* [in_c] */
    size_t rows, columns, rank;
    int found, dense;
} change;

static void clear_change(change *c) {
    for (int i = 0; c->parts && i < c->entry->parts; i++) tsr__lora_factors_clear(&c->parts[i]);
    free(c->parts);
    free(c->bias);
    free(c->gain);
    free(c->shift);
    free(c->input_gain);
}

/* --- the numbers that a change hangs on --------------------------------------------------------------------------------- */
/* A third of torch's in_proj stands in the file as a part of it: "..._k.weight" is the middle of "..._weight". *out NULL: the
 * file does not hold it. */
static tsr_status find_part(const tsr__tensor_view **out, size_t *first, const site *s, const char *name, size_t count,
                            tsr_error *err) {
    const char *joined = strstr(name, ".in_proj_");
    size_t part = 0;
    *out = tsr__weights_find(s->weights, name);
    if (!*out && joined) {
        const char *letter = joined + strlen(".in_proj_"), *end = strchr(letter, '.');
        char *whole = tsr__format("%.*s%s", (int)(letter - name), name, end ? end + 1 : "");
        if (!whole) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        *out = tsr__weights_find(s->weights, whole);
        part = *letter == 'q' ? 0 : *letter == 'k' ? 1 : 2;
        free(whole);
    }
    *first = part * count;
    if (*out && (*out)->count < *first + count) *out = NULL;
    return TSR_OK;
}

/* The part's weight [rows, columns] as adapters before k have left it. */
static tsr_status read_current(float **out, const site *s, int part, size_t columns, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *name = s->entry->names[part];
    const size_t count = (size_t)s->entry->rows[part] * columns;
    const int64_t shape[2] = { s->entry->rows[part], (int64_t)columns };
    size_t first = 0;
    float *values = NULL;
    const tsr__tensor_view *view = NULL;
    TSR_TRY(tsr__packed_refuse(s->weights, "have adapters that hang on its numbers (DoRA, GLoRA, OFT)", err));
    TSR_TRY(find_part(&view, &first, s, name, count, err));
    if (!view)
        TSR_FAIL(err, TSR_UNSUPPORTED,
                 "%s: an adapter hangs on the numbers of \"%s\" (DoRA, GLoRA, OFT), which the file does not hold",
                 tsr__weights_path(s->weights), name);
    TSR_ALLOC(err, values, count + 1);
    TSR_TRY(tsr__tensor_part_to_f32(view, first, count, values, err));
    for (int i = 0; i < k; i++)
        TSR_TRY(tsr__lora_add(s->adapters[i].lora, name, shape, 2, s->adapters[i].strength, values, NULL, err));
    *out = values;
    values = NULL;
done:
    free(values);
    return status;
}

/* The bias stands beside its weight in the checkpoint. NULL when memory is out. */
static char *bias_name(const char *weight) {
    return tsr__format("%.*s.bias", (int)(strlen(weight) - strlen(".weight")), weight);
}

/* The same for the part's bias [rows]; zeros where the layer has none. */
static tsr_status read_current_bias(float *to, const site *s, int part, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int64_t shape = s->entry->rows[part];
    size_t first = 0;
    char *name = bias_name(s->entry->names[part]);
    if (!name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    const tsr__tensor_view *view = NULL;
    TSR_TRY(find_part(&view, &first, s, name, (size_t)shape, err));
    memset(to, 0, (size_t)shape * sizeof *to);
    if (view) TSR_TRY(tsr__tensor_part_to_f32(view, first, (size_t)shape, to, err));
    for (int i = 0; i < k; i++)
        TSR_TRY(tsr__lora_add(s->adapters[i].lora, name, &shape, 1, s->adapters[i].strength, to, NULL, err));
done:
    free(name);
    return status;
}

/* --- finding ------------------------------------------------------------------------------------------------------------ */
static tsr_status find_bias(change *c, const char *weight, size_t row, int rows, const tsr__net_adapter *adapter,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    const int64_t shape = rows;
    char *name = bias_name(weight);
    if (!name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (!tsr__lora_changes(adapter->lora, name)) goto done;
    if (!c->bias) TSR_ALLOC_ZERO(err, c->bias, c->rows);
    TSR_TRY(tsr__lora_add(adapter->lora, name, &shape, 1, adapter->strength, c->bias + row, NULL, err));
    c->found = 1;
done:
    free(name);
    return status;
}

/* An input_gain where no term can hold it becomes a part of the difference. */
static tsr_status fold_input_gain(tsr__lora_factors *f, const float *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t taps = f->columns / f->inputs;
    float *all = NULL;
    TSR_ALLOC(err, all, f->rows * f->columns);
    for (size_t i = 0; i < f->rows * f->columns; i++) {
        const size_t row = i / f->columns, column = i % f->columns;
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): an input_gain is made of the weight */
        all[i] = weight[i] * (f->input_gain[column / taps] - 1.0f) + (f->up ? 0.0f : f->down[i]);
        for (size_t k = 0; f->up && k < f->rank; k++)
            all[i] += f->up[row * f->rank + k] * f->down[k * f->columns + column];
    }
    tsr__lora_factors old = *f;
    *f = (tsr__lora_factors){ .rows = old.rows, .columns = old.columns, .down = all };
    tsr__lora_factors_clear(&old);
done:
    return status;
}

/* What the gains of part i do to the result, which has the bias in it: gain y + (1 - gain) bias. */
static tsr_status take_row_gain(change *c, const site *s, int i, size_t row, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t rows = (size_t)s->entry->rows[i];
    const float *from = c->parts[i].row_gain;
    if (!c->gain) {
        TSR_ALLOC(err, c->gain, c->rows);
        for (size_t r = 0; r < c->rows; r++) c->gain[r] = 1.0f;
        TSR_ALLOC_ZERO(err, c->shift, c->rows);
    }
    memcpy(c->gain + row, from, rows * sizeof *from);
    TSR_TRY(read_current_bias(c->shift + row, s, i, k, err));
    for (size_t r = 0; r < rows; r++) c->shift[row + r] *= 1.0f - from[r];
done:
    return status;
}

static tsr_status find_part_change(change *c, const site *s, int i, size_t row, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__net_adapter *adapter = &s->adapters[k];
    tsr__lora_factors *f = &c->parts[i];
    float *weight = NULL;
    int found = 0;
    if (tsr__lora_is_bound(adapter->lora, s->entry->names[i])) TSR_TRY(read_current(&weight, s, i, c->columns, k, err));
    TSR_TRY(tsr__lora_find_factors(f, adapter->lora, s->entry->names[i], (size_t)s->entry->rows[i], c->columns,
                                   adapter->strength, weight, &found, err));
    if (f->row_gain) TSR_TRY(take_row_gain(c, s, i, row, k, err));
    if (f->input_gain && (s->changed || s->entry->parts > 1 || f->inputs != (size_t)s->entry->in_c)) {
        TSR_TRY(fold_input_gain(f, weight, err));
    } else if (f->input_gain) {
        c->input_gain = f->input_gain;
        f->input_gain = NULL;
    }
    c->rank += f->rank;
    c->found |= found;
    c->dense |= found && !f->up;
done:
    free(weight);
    return status;
}

static tsr_status find_change(change *c, const site *s, int k, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__weight_entry *entry = s->entry;
    *c = (change){ .entry = entry, .columns = (size_t)entry->in_c * (size_t)(entry->k ? entry->k * entry->k : 1) };
    TSR_ALLOC_ZERO(err, c->parts, entry->parts);
    for (int i = 0; i < entry->parts; i++) c->rows += (size_t)entry->rows[i];
    for (size_t i = 0, row = 0; i < (size_t)entry->parts; row += (size_t)entry->rows[i++])
        TSR_TRY(find_part_change(c, s, (int)i, row, k, err));
    for (size_t i = 0, row = 0; i < (size_t)entry->parts; row += (size_t)entry->rows[i++])
        TSR_TRY(find_bias(c, entry->names[i], row, entry->rows[i], &s->adapters[k], err));
    if (c->bias && !c->rank) c->dense = 1; /* a bias alone rides on a product with zeros */
done:
    return status;
}

/* --- products ----------------------------------------------------------------------------------------------------------- */
/* The whole difference [rows, columns]. */
static tsr_status make_dense(float **out, const change *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *all = NULL;
    size_t row = 0;
    *out = NULL;
    TSR_ALLOC_ZERO(err, all, c->rows * c->columns);
    for (int i = 0; i < c->entry->parts; row += (size_t)c->entry->rows[i], i++) {
        const tsr__lora_factors *f = &c->parts[i];
        float *to = all + row * c->columns;
        if (!f->down) continue;
        if (!f->up) memcpy(to, f->down, f->rows * f->columns * sizeof *to);
        for (size_t r = 0; f->up && r < f->rows; r++)
            for (size_t k = 0; k < f->rank; k++)
                for (size_t x = 0; x < f->columns; x++)
                    to[r * f->columns + x] += f->up[r * f->rank + k] * f->down[k * f->columns + x];
    }
    *out = all;
done:
    return status;
}

/* down [rank, columns]: the parts' one below the other; up [rows, rank]: theirs along the diagonal. */
static tsr_status stack_factors(float **down_out, float **up_out, const change *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *down = NULL, *up = NULL;
    size_t row = 0, rank = 0;
    TSR_ALLOC(err, down, c->rank * c->columns);
    TSR_ALLOC_ZERO(err, up, c->rows * c->rank);
    for (int i = 0; i < c->entry->parts; row += (size_t)c->entry->rows[i], i++) {
        const tsr__lora_factors *f = &c->parts[i];
        if (!f->rank) continue;
        memcpy(down + rank * c->columns, f->down, f->rank * c->columns * sizeof *down);
        for (size_t r = 0; r < f->rows; r++)
            memcpy(up + (row + r) * c->rank + rank, f->up + r * f->rank, f->rank * sizeof *up);
        rank += f->rank;
    }
    *down_out = down;
    *up_out = up;
    down = up = NULL;
done:
    free(down);
    free(up);
    return status;
}

static tsr_status read_floats(void *user, float *dst, size_t count, tsr_error *err) {
    const float **from = user;
    (void)err;
    memcpy(dst, *from, count * sizeof *dst);
    *from += count;
    return TSR_OK;
}

/* values [rows, columns] as a weight that takes the entry's input as the entry does. */
static tsr_status pack_down(tsr__nn_weight **out, tsr__nn *nn, const tsr__weight_entry *e, const float *values,
                            size_t rows, const float *bias, tsr_error *err) {
    const float *from = values;
    if (e->upsample) return tsr__upsample_weight(nn, out, values, (int)rows, e->in_c, bias, err);
    if (!e->k) return tsr__nn_linear_weight(nn, out, (int)rows, e->in_c, read_floats, &from, bias, err);
    return tsr__nn_conv_weight(nn, out, (int)rows, e->in_c, e->k, e->stride, e->pad_before, e->pad_after, read_floats,
                               &from, bias, err);
}

/* A folded doubling gives four answers a place, each with the channels of one. */
static tsr_status widen_gain(float **gain, size_t rows, int upsample, tsr_error *err) {
    if (!*gain || !upsample) return TSR_OK;
    float *wide = realloc(*gain, 4 * rows * sizeof *wide);
    if (!wide) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    for (size_t i = 1; i < 4; i++) memcpy(wide + i * rows, wide, rows * sizeof *wide);
    *gain = wide;
    return TSR_OK;
}

static tsr_status add_change(tsr__nn_terms *terms, tsr__nn *nn, change *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *down = NULL, *up = NULL;
    tsr__nn_term made = { 0 };
    /* a rank beyond the layer's sides costs more than the whole difference */
    if (c->dense || c->rank * (c->rows + c->columns) >= c->rows * c->columns) {
        TSR_TRY(make_dense(&down, c, err));
        TSR_TRY(pack_down(&made.down, nn, c->entry, down, c->rows, c->bias, err));
    } else {
        const float *from;
        TSR_TRY(stack_factors(&down, &up, c, err));
        TSR_TRY(pack_down(&made.down, nn, c->entry, down, c->rank, NULL, err));
        from = up;
        TSR_TRY(tsr__nn_linear_weight(nn, &made.up, (int)c->rows, (int)c->rank, read_floats, &from, c->bias, err));
    }
    TSR_TRY(widen_gain(&c->gain, c->rows, c->entry->upsample, err));
    TSR_TRY(widen_gain(&c->shift, c->rows, c->entry->upsample, err));
    made.gain = c->gain;
    made.shift = c->shift;
    made.input_gain = c->input_gain;
    c->gain = c->shift = c->input_gain = NULL;
    status = tsr__nn_terms_add(terms, c->entry->weight, &made, err);
    made = (tsr__nn_term){ 0 };
done:
    free(down);
    free(up);
    tsr__nn_weight_free(nn, made.down);
    tsr__nn_weight_free(nn, made.up);
    return status;
}

static tsr_status add_weight(tsr__nn_terms *terms, tsr__nn *nn, site *s, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    change c = { 0 };
    for (int k = 0; k < n; k++) {
        TSR_TRY(find_change(&c, s, k, err));
        if (c.found && s->adapters[k].strength != 0.0f) {
            TSR_TRY(add_change(terms, nn, &c, err));
            s->changed = 1;
        }
        clear_change(&c);
        memset(&c, 0, sizeof c);
    }
done:
    if (c.entry) clear_change(&c);
    return status;
}

/* A norm with all adapters' differences. */
static tsr_status add_norm(tsr__nn_terms *terms, const tsr__weight_entry *entry, const tsr__net_adapter *adapters,
                           int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int64_t shape = entry->rows[0];
    const size_t size = (size_t)shape * sizeof(float);
    float *gamma = NULL, *beta = NULL;
    char *bias = bias_name(entry->names[0]);
    int changed = 0;
    if (!bias) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    for (int k = 0; k < n; k++) {
        tsr__lora *lora = adapters[k].lora;
        if (!tsr__lora_changes(lora, entry->names[0]) && !tsr__lora_changes(lora, bias)) continue;
        if (!gamma) {
            TSR_ALLOC(err, gamma, shape);
            TSR_ALLOC(err, beta, shape);
            memcpy(gamma, entry->gamma, size);
            memcpy(beta, entry->beta, size);
        }
        TSR_TRY(tsr__lora_add(lora, entry->names[0], &shape, 1, adapters[k].strength, gamma, NULL, err));
        TSR_TRY(tsr__lora_add(lora, bias, &shape, 1, adapters[k].strength, beta, NULL, err));
        changed |= adapters[k].strength != 0.0f;
    }
    if (changed) TSR_TRY(tsr__nn_terms_add_norm(terms, entry->gamma, gamma, beta, (int)shape, err));
done:
    free(gamma);
    free(beta);
    free(bias);
    return status;
}

tsr_status tsr__net_terms_add(tsr__nn_terms *terms, tsr__nn *nn, const tsr__weight_log *log,
                              const tsr__weights *weights, const tsr__net_adapter *adapters, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < log->count; i++) {
        site s = { .entry = &log->entries[i], .weights = weights, .adapters = adapters };
        if (s.entry->weight) TSR_TRY(add_weight(terms, nn, &s, n, err));
        else TSR_TRY(add_norm(terms, s.entry, adapters, n, err));
    }
done:
    return status;
}
