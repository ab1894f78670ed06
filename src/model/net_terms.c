/* model/net_terms.c - see net_terms.h. */
#include "model/net_terms.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/upsample.h"

/* One packed weight's differences, part by part. */
typedef struct change {
    const tsr__weight_entry *entry;
    tsr__lora_factors *parts; /* [entry->parts]; zeros: the adapter leaves that one */
    float *bias;              /* [rows]; NULL: none */
    size_t rows, columns, rank;
    int found, dense;
} change;

static void clear_change(change *c) {
    for (int i = 0; c->parts && i < c->entry->parts; i++) tsr__lora_factors_clear(&c->parts[i]);
    free(c->parts);
    free(c->bias);
}

/* The bias stands beside its weight in the checkpoint. */
static tsr_status find_bias(change *c, const char *weight, size_t row, int rows, tsr__lora *lora, float strength,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    const int64_t shape = rows;
    char *name = tsr__format("%.*s.bias", (int)(strlen(weight) - strlen(".weight")), weight);
    if (!name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (!tsr__lora_changes(lora, name)) goto done;
    if (!c->bias) TSR_ALLOC_ZERO(err, c->bias, c->rows);
    TSR_TRY(tsr__lora_add(lora, name, &shape, 1, strength, c->bias + row, NULL, err));
    c->found = 1;
done:
    free(name);
    return status;
}

static tsr_status find_change(change *c, const tsr__weight_entry *entry, tsr__lora *lora, float strength,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    *c = (change){ .entry = entry, .columns = (size_t)entry->in_c * (size_t)(entry->k ? entry->k * entry->k : 1) };
    TSR_ALLOC_ZERO(err, c->parts, entry->parts);
    for (int i = 0; i < entry->parts; i++) {
        int found = 0;
        TSR_TRY(tsr__lora_find_factors(&c->parts[i], lora, entry->names[i], (size_t)entry->rows[i], c->columns,
                                       strength, &found, err));
        c->rows += (size_t)entry->rows[i];
        c->rank += c->parts[i].rank;
        c->found |= found;
        c->dense |= found && !c->parts[i].up;
    }
    for (size_t i = 0, row = 0; i < (size_t)entry->parts; row += (size_t)entry->rows[i++])
        TSR_TRY(find_bias(c, entry->names[i], row, entry->rows[i], lora, strength, err));
    if (c->bias && !c->rank) c->dense = 1; /* a bias alone rides on a product with zeros */
done:
    return status;
}

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

static tsr_status add_change(tsr__nn_terms *terms, tsr__nn *nn, const change *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *down = NULL, *up = NULL;
    tsr__nn_weight *low = NULL, *high = NULL;
    /* a rank beyond the layer's sides costs more than the whole difference */
    if (c->dense || c->rank * (c->rows + c->columns) >= c->rows * c->columns) {
        TSR_TRY(make_dense(&down, c, err));
        TSR_TRY(pack_down(&low, nn, c->entry, down, c->rows, c->bias, err));
    } else {
        const float *from;
        TSR_TRY(stack_factors(&down, &up, c, err));
        TSR_TRY(pack_down(&low, nn, c->entry, down, c->rank, NULL, err));
        from = up;
        TSR_TRY(tsr__nn_linear_weight(nn, &high, (int)c->rows, (int)c->rank, read_floats, &from, c->bias, err));
    }
    status = tsr__nn_terms_add(terms, c->entry->weight, low, high, err);
    low = high = NULL;
done:
    free(down);
    free(up);
    tsr__nn_weight_free(nn, low);
    tsr__nn_weight_free(nn, high);
    return status;
}

tsr_status tsr__net_terms_add(tsr__nn_terms *terms, tsr__nn *nn, const tsr__weight_log *log, tsr__lora *lora,
                              float strength, tsr_error *err) {
    tsr_status status = TSR_OK;
    change c = { 0 };
    for (size_t i = 0; i < log->count; i++) {
        TSR_TRY(find_change(&c, &log->entries[i], lora, strength, err));
        if (c.found && strength != 0.0f) TSR_TRY(add_change(terms, nn, &c, err));
        clear_change(&c);
        memset(&c, 0, sizeof c);
    }
done:
    if (c.entry) clear_change(&c);
    return status;
}
