/* weights/lora_layer.c - the differences of LoRA, LoHa and LoKr, and DoRA's lengths.
 *
 *   LoRA   alpha / r * up down                        down with a core: sum_j mid[i, j, k] down[j, in]
 *   LoHa   alpha / r * (w1_a w1_b) .* (w2_a w2_b)     with cores: sum_ij w_a[i, out] t[i, j, k] w_b[j, in]
 *   LoKr   alpha / r * kron(w1, w2)                   each factor whole or a product; r counts only when one is a product
 *   DoRA   (W + D) * scale / length, D any of these; scale [out, 1]: the length of W's rows, as the reference has it;
 *          scale [1, in]: that of the columns of W + D
 *
 * A convolution's weight [out, in, k, k] is the matrix [out, in k k]; the factors' memory then lines up by itself. */
#include "weights/lora_layer.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "weights/lora_bound.h"

/* A matrix as the product of two, never made whole: row(o)[c] = sum_i left[o * row + i * step] * right[i * columns + c]. */
typedef struct product {
    float *left, *right;
    size_t row, step, rank, rows, columns;
} product;

static void clear_product(product *p) {
    free(p->left);
    free(p->right);
}

static const char *fault_of_lokr(const tsr__tensor_view *const *part) {
    if (!part[TSR__LOKR_W1] == !(part[TSR__LOKR_W1_A] && part[TSR__LOKR_W1_B])) return "has no one lokr_w1";
    if (!part[TSR__LOKR_W2] == !(part[TSR__LOKR_W2_A] && part[TSR__LOKR_W2_B])) return "has no one lokr_w2";
    return part[TSR__LOKR_T2] && part[TSR__LOKR_W2] ? "has lokr_t2 without lokr_w2_a" : NULL;
}

const char *tsr__lora_layer_fault(const tsr__lora_layer *layer) {
    const tsr__tensor_view *const *part = layer->parts;
    int lora = 0, loha = 0, lokr = 0, glora = 0;
    const int oft = part[TSR__OFT_BLOCKS] || part[TSR__OFT_RESCALE];
    for (int i = TSR__LORA_UP; i <= TSR__LORA_MID; i++) lora |= part[i] != NULL;
    for (int i = TSR__LOHA_W1_A; i <= TSR__LOHA_T2; i++) loha |= part[i] != NULL;
    for (int i = TSR__LOKR_W1; i <= TSR__LOKR_T2; i++) lokr |= part[i] != NULL;
    for (int i = TSR__GLORA_A1; i <= TSR__GLORA_B2; i++) glora += part[i] != NULL;
    const int kinds = lora + loha + lokr + (glora > 0) + oft + (part[TSR__LORA_DIFF] != NULL);
    if (kinds > 1) return "mixes several kinds";
    if (part[TSR__LORA_DORA] && !(lora + loha + lokr)) return "has a dora_scale and no low rank beside it";
    if (kinds == 0 && !part[TSR__LORA_DIFF_BIAS]) return "has an alpha and nothing else";
    if (lora && (!part[TSR__LORA_UP] || !part[TSR__LORA_DOWN])) return "has not both lora_up and lora_down";
    if (loha && (!part[TSR__LOHA_W1_A] || !part[TSR__LOHA_W1_B] || !part[TSR__LOHA_W2_A] || !part[TSR__LOHA_W2_B]))
        return "has not all of hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b";
    if (loha && !part[TSR__LOHA_T1] != !part[TSR__LOHA_T2]) return "has one of hada_t1 and hada_t2";
    if (glora && glora != 4) return "has not all of GLoRA's a1, a2, b1 and b2";
    if (oft && !part[TSR__OFT_BLOCKS]) return "has a rescale without oft_blocks";
    return lokr ? fault_of_lokr(part) : NULL;
}

/* --- reading --- */

static tsr_status read_floats(float **out, const tsr__tensor_view *view, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    *out = NULL;
    TSR_ALLOC(err, values, view->count + 1);
    TSR_TRY(tsr__tensor_to_f32(view, values, err));
    *out = values;
    values = NULL;
done:
    free(values);
    return status;
}

static size_t first_extent(const tsr__tensor_view *view) {
    return view->rank > 0 ? (size_t)view->shape[0] : 1;
}

/* Elements behind the first axis; 0 for an empty tensor. */
static size_t rest_extent(const tsr__tensor_view *view) {
    const size_t first = first_extent(view);
    return first ? view->count / first : 0;
}

/* alpha / r, or 1 where the file has no alpha (or r says nothing). */
static tsr_status read_scale(float *out, const tsr__lora_layer *layer, size_t rank, tsr_error *err) {
    const tsr__tensor_view *alpha = layer->parts[TSR__LORA_ALPHA];
    float value;
    *out = 1.0f;
    if (!alpha || rank == 0) return TSR_OK;
    if (alpha->count != 1) return TSR_BAD_ARGUMENT;
    tsr_status status = tsr__tensor_to_f32(alpha, &value, err);
    if (status == TSR_OK) *out = value / (float)rank;
    return status;
}

/* out [i, in, k] = sum_j core[i, j, k] * factor[j, in]; NULL and BAD_ARGUMENT when they do not fit. */
static tsr_status fold_core(float **out, const tsr__tensor_view *core, const tsr__tensor_view *factor, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *t = NULL, *b = NULL, *folded = NULL;
    *out = NULL;
    if (core->rank < 2 || core->count == 0 || factor->count == 0 || core->shape[1] != factor->shape[0] ||
        factor->rank < 2)
        return TSR_BAD_ARGUMENT;
    const size_t ni = (size_t)core->shape[0], nj = (size_t)core->shape[1], nk = core->count / ni / nj;
    const size_t inputs = rest_extent(factor);
    TSR_TRY(read_floats(&t, core, err));
    TSR_TRY(read_floats(&b, factor, err));
    if (inputs > SIZE_MAX / sizeof(float) / ni / nk) TSR_FAIL(err, TSR_TOO_LARGE, "an adapter's core is too large");
    TSR_ALLOC_ZERO(err, folded, ni * inputs * nk);
    for (size_t i = 0; i < ni; i++) {
        for (size_t j = 0; j < nj; j++) {
            for (size_t in = 0; in < inputs; in++) {
                float *to = folded + (i * inputs + in) * nk;
                const float *from = t + (i * nj + j) * nk, by = b[j * inputs + in];
                for (size_t k = 0; k < nk; k++) to[k] += from[k] * by;
            }
        }
    }
    *out = folded;
    folded = NULL;
done:
    free(t);
    free(b);
    free(folded);
    return status;
}

/* left right, with core (may be NULL) in between. turned: left is [r, out], as LoHa and LoKr have it beside a core. Looks at
 * the sizes before it makes anything: a result of more than rows x columns would not fit anyway. */
static tsr_status read_product(product *out, const tsr__tensor_view *left, const tsr__tensor_view *right,
                               const tsr__tensor_view *core, int turned, size_t rows, size_t columns, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *inner = core ? core : right;
    const size_t kernel =
        core ? rest_extent(core) / (core->rank > 1 && core->shape[1] ? (size_t)core->shape[1] : 1) : 1;
    *out = (product){ 0 };
    out->rank = first_extent(inner);
    out->rows = turned ? rest_extent(left) : first_extent(left);
    out->columns = rest_extent(right) * kernel;
    out->row = turned ? 1 : out->rank;
    out->step = turned ? out->rows : 1;
    if ((turned ? first_extent(left) : rest_extent(left)) != out->rank || out->rank == 0) return TSR_BAD_ARGUMENT;
    if (!core && first_extent(right) != out->rank) return TSR_BAD_ARGUMENT;
    if (out->rows > rows || out->columns > columns) return TSR_BAD_ARGUMENT;
    TSR_TRY(read_floats(&out->left, left, err));
    if (core) TSR_TRY(fold_core(&out->right, core, right, err));
    else TSR_TRY(read_floats(&out->right, right, err));
done:
    return status;
}

/* --- computing --- */

static void product_row(float *out, const product *p, size_t row) {
    for (size_t c = 0; c < p->columns; c++) out[c] = 0;
    for (size_t i = 0; i < p->rank; i++) {
        const float by = p->left[row * p->row + i * p->step];
        const float *from = p->right + i * p->columns;
        for (size_t c = 0; c < p->columns; c++) out[c] += by * from[c];
    }
}

static void add_scaled(float *to, const float *from, size_t count, float scale) {
    for (size_t i = 0; i < count; i++) to[i] += scale * from[i];
}

static tsr_status add_lora(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *down = layer->parts[TSR__LORA_DOWN];
    product p = { 0 };
    float *row = NULL, scale;
    TSR_TRY(read_product(&p, layer->parts[TSR__LORA_UP], down, layer->parts[TSR__LORA_MID], 0, rows, columns, err));
    if (p.rows != rows || p.columns != columns) {
        status = TSR_BAD_ARGUMENT;
        goto done;
    }
    TSR_TRY(read_scale(&scale, layer, first_extent(down), err));
    TSR_ALLOC(err, row, columns + 1);
    for (size_t o = 0; o < rows; o++) {
        product_row(row, &p, o);
        add_scaled(weight + o * columns, row, columns, strength * scale);
    }
done:
    clear_product(&p);
    free(row);
    return status;
}

static tsr_status add_loha(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *const *part = layer->parts;
    const int cores = part[TSR__LOHA_T1] != NULL;
    product one = { 0 }, two = { 0 };
    float *row = NULL, *other = NULL, scale;
    TSR_TRY(
        read_product(&one, part[TSR__LOHA_W1_A], part[TSR__LOHA_W1_B], part[TSR__LOHA_T1], cores, rows, columns, err));
    TSR_TRY(
        read_product(&two, part[TSR__LOHA_W2_A], part[TSR__LOHA_W2_B], part[TSR__LOHA_T2], cores, rows, columns, err));
    if (one.rows != rows || two.rows != rows || one.columns != columns || two.columns != columns) {
        status = TSR_BAD_ARGUMENT;
        goto done;
    }
    TSR_TRY(read_scale(&scale, layer, first_extent(part[TSR__LOHA_W1_B]), err));
    TSR_ALLOC(err, row, columns + 1);
    TSR_ALLOC(err, other, columns + 1);
    for (size_t o = 0; o < rows; o++) {
        product_row(row, &one, o);
        product_row(other, &two, o);
        for (size_t c = 0; c < columns; c++) row[c] *= other[c];
        add_scaled(weight + o * columns, row, columns, strength * scale);
    }
done:
    clear_product(&one);
    clear_product(&two);
    free(row);
    free(other);
    return status;
}

/* A factor of LoKr as a whole matrix [*rows, *columns]: the tensor, or the product of its two (three) parts. In: the most
 * that rows and columns may be. */
static tsr_status read_factor(float **out, size_t *rows, size_t *columns, const tsr__tensor_view *whole,
                              const tsr__tensor_view *left, const tsr__tensor_view *right, const tsr__tensor_view *core,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    product p = { 0 };
    float *made = NULL;
    *out = NULL;
    if (whole) {
        *rows = first_extent(whole);
        *columns = rest_extent(whole);
        return read_floats(out, whole, err);
    }
    TSR_TRY(read_product(&p, left, right, core, core != NULL, *rows, *columns, err));
    TSR_ALLOC(err, made, p.rows * p.columns + 1);
    for (size_t o = 0; o < p.rows; o++) product_row(made + o * p.columns, &p, o);
    *rows = p.rows;
    *columns = p.columns;
    *out = made;
    made = NULL;
done:
    clear_product(&p);
    free(made);
    return status;
}

/* The r of LoKr's scale: of w2 where it is a product, else of w1, else none. */
static size_t lokr_rank(const tsr__tensor_view *const *part) {
    if (!part[TSR__LOKR_W2]) return first_extent(part[TSR__LOKR_W2_B]);
    return part[TSR__LOKR_W1] ? 0 : first_extent(part[TSR__LOKR_W1_B]);
}

static tsr_status add_lokr(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *const *part = layer->parts;
    float *one = NULL, *two = NULL, scale;
    size_t r1 = rows, c1 = columns, r2 = rows, c2 = columns;
    TSR_TRY(read_factor(&one, &r1, &c1, part[TSR__LOKR_W1], part[TSR__LOKR_W1_A], part[TSR__LOKR_W1_B], NULL, err));
    TSR_TRY(read_factor(&two, &r2, &c2, part[TSR__LOKR_W2], part[TSR__LOKR_W2_A], part[TSR__LOKR_W2_B],
                        part[TSR__LOKR_T2], err));
    if (r1 == 0 || c1 == 0 || rows % r1 || columns % c1 || rows / r1 != r2 || columns / c1 != c2) {
        status = TSR_BAD_ARGUMENT;
        goto done;
    }
    TSR_TRY(read_scale(&scale, layer, lokr_rank(part), err));
    for (size_t o = 0; o < rows; o++) {
        for (size_t j = 0; j < c1; j++)
            add_scaled(weight + o * columns + j * c2, two + o % r2 * c2, c2, strength * scale * one[o / r2 * c1 + j]);
    }
done:
    free(one);
    free(two);
    return status;
}

static tsr_status add_difference(const tsr__tensor_view *diff, size_t rows, size_t columns, float strength,
                                 float *weight, tsr_error *err) {
    float *values;
    if (first_extent(diff) != rows || rest_extent(diff) != columns) return TSR_BAD_ARGUMENT;
    tsr_status status = read_floats(&values, diff, err);
    if (status != TSR_OK) return status;
    add_scaled(weight, values, rows * columns, strength);
    free(values);
    return TSR_OK;
}

static tsr_status add_kind(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                           tsr_error *err) {
    if (layer->parts[TSR__LORA_UP]) return add_lora(layer, rows, columns, strength, weight, err);
    if (layer->parts[TSR__LOHA_W1_A]) return add_loha(layer, rows, columns, strength, weight, err);
    if (layer->parts[TSR__LORA_DIFF])
        return add_difference(layer->parts[TSR__LORA_DIFF], rows, columns, strength, weight, err);
    return add_lokr(layer, rows, columns, strength, weight, err);
}

static int is_dora(const tsr__lora_layer *layer) {
    return layer->parts[TSR__LORA_DORA] != NULL;
}

int tsr__lora_layer_is_bound(const tsr__lora_layer *layer) {
    return is_dora(layer) || tsr__lora_bound_is(layer);
}

/* by [rows]: scale / length of each row of weight. */
static void row_factors(float *by, const float *weight, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++) {
        double squares = 0.0;
        for (size_t c = 0; c < columns; c++)
            squares += (double)weight[r * columns + c] * (double)weight[r * columns + c];
        by[r] /= (float)sqrt(squares) + FLT_EPSILON;
    }
}

/* by [inputs]: scale / length of each input's part of changed, taps values a row. */
static tsr_status input_factors(float *by, const float *changed, size_t rows, size_t inputs, size_t taps,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    double *squares = NULL;
    TSR_ALLOC_ZERO(err, squares, inputs);
    for (size_t i = 0; i < rows * inputs * taps; i++)
        squares[i / taps % inputs] += (double)changed[i] * (double)changed[i];
    for (size_t i = 0; i < inputs; i++) by[i] /= (float)sqrt(squares[i]) + FLT_EPSILON;
done:
    free(squares);
    return status;
}

/* A DoRA layer's measures: difference [rows, columns], and what each row or each input is multiplied by. */
typedef struct dora {
    float *difference, *by;
    size_t inputs, taps;
    int by_row;
} dora;

static void clear_dora(dora *d) {
    free(d->difference);
    free(d->by);
}

static tsr_status measure_dora(dora *d, const tsr__lora_layer *layer, size_t rows, size_t columns, const float *weight,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *scale = layer->parts[TSR__LORA_DORA];
    const size_t count = scale->count;
    float *changed = NULL;
    d->by_row = first_extent(scale) == rows;
    d->taps = d->by_row || !count ? 1 : columns / count;
    d->inputs = count;
    if (d->by_row ? count != rows : !count || first_extent(scale) != 1 || count * d->taps != columns)
        return TSR_BAD_ARGUMENT;
    TSR_TRY(read_floats(&d->by, scale, err));
    TSR_ALLOC_ZERO(err, d->difference, rows * columns);
    TSR_TRY(add_kind(layer, rows, columns, 1.0f, d->difference, err));
    if (d->by_row) {
        row_factors(d->by, weight, rows, columns);
        goto done;
    }
    TSR_ALLOC(err, changed, rows * columns);
    memcpy(changed, weight, rows * columns * sizeof *changed);
    add_scaled(changed, d->difference, rows * columns, 1.0f);
    TSR_TRY(input_factors(d->by, changed, rows, count, d->taps, err));
done:
    free(changed);
    return status;
}

static tsr_status add_dora(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                           tsr_error *err) {
    dora d = { 0 };
    tsr_status status = measure_dora(&d, layer, rows, columns, weight, err);
    for (size_t r = 0; status == TSR_OK && r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            float *to = &weight[r * columns + c];
            *to += strength * ((*to + d.difference[r * columns + c]) * d.by[d.by_row ? r : c / d.taps] - *to);
        }
    clear_dora(&d);
    return status;
}

tsr_status tsr__lora_layer_add(const tsr__lora_layer *layer, size_t rows, size_t columns, float strength, float *weight,
                               tsr_error *err) {
    if (is_dora(layer)) return add_dora(layer, rows, columns, strength, weight, err);
    if (tsr__lora_bound_is(layer)) return tsr__lora_bound_add(layer, rows, columns, strength, weight, err);
    return add_kind(layer, rows, columns, strength, weight, err);
}

void tsr__lora_factors_clear(tsr__lora_factors *factors) {
    free(factors->up);
    free(factors->down);
    free(factors->row_gain);
    free(factors->input_gain);
    memset(factors, 0, sizeof *factors);
}

static tsr_status lora_factors(tsr__lora_factors *out, const tsr__lora_layer *layer, float strength, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *down = layer->parts[TSR__LORA_DOWN];
    product p = { 0 };
    float scale;
    TSR_TRY(read_product(&p, layer->parts[TSR__LORA_UP], down, layer->parts[TSR__LORA_MID], 0, out->rows, out->columns,
                         err));
    if (p.rows != out->rows || p.columns != out->columns) {
        status = TSR_BAD_ARGUMENT;
        goto done;
    }
    TSR_TRY(read_scale(&scale, layer, first_extent(down), err));
    for (size_t i = 0; i < p.rows * p.rank; i++) p.left[i] *= strength * scale;
    out->rank = p.rank;
    out->up = p.left;
    out->down = p.right;
    p.left = p.right = NULL;
done:
    clear_product(&p);
    return status;
}

/* The factors at strength 1 become DoRA's at that strength: W + strength ((W + D) by - W). */
static void scale_factors(tsr__lora_factors *f, const dora *d, float strength) {
    float *left = f->up ? f->up : f->down; /* has a row for each of W's */
    const size_t width = f->up ? f->rank : f->columns, height = f->up ? f->rank : f->rows;
    for (size_t i = 0; d->by_row && i < f->rows * width; i++) left[i] *= strength * d->by[i / width];
    for (size_t i = 0; !d->by_row && i < height * f->columns; i++)
        f->down[i] *= strength * d->by[i % f->columns / d->taps];
}

static tsr_status free_factors(tsr__lora_factors *out, const tsr__lora_layer *layer, float strength, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (layer->parts[TSR__LORA_UP]) return lora_factors(out, layer, strength, err);
    TSR_ALLOC_ZERO(err, out->down, out->rows * out->columns);
    TSR_TRY(add_kind(layer, out->rows, out->columns, strength, out->down, err));
done:
    return status;
}

static tsr_status dora_factors(tsr__lora_factors *out, const tsr__lora_layer *layer, float strength,
                               const float *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    dora d = { 0 };
    TSR_TRY(measure_dora(&d, layer, out->rows, out->columns, weight, err));
    TSR_TRY(free_factors(out, layer, 1.0f, err));
    scale_factors(out, &d, strength);
    for (size_t i = 0; i < d.inputs; i++) d.by[i] = 1.0f + strength * (d.by[i] - 1.0f);
    out->inputs = d.inputs;
    *(d.by_row ? &out->row_gain : &out->input_gain) = d.by;
    d.by = NULL;
done:
    clear_dora(&d);
    return status;
}

/* What is made of the weight itself, as a difference. */
static tsr_status bound_factors(tsr__lora_factors *out, const tsr__lora_layer *layer, float strength,
                                const float *weight, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t count = out->rows * out->columns;
    TSR_ALLOC(err, out->down, count + 1);
    memcpy(out->down, weight, count * sizeof *weight);
    TSR_TRY(tsr__lora_bound_add(layer, out->rows, out->columns, strength, out->down, err));
    for (size_t i = 0; i < count; i++) out->down[i] -= weight[i];
done:
    return status;
}

tsr_status tsr__lora_layer_factors(tsr__lora_factors *out, const tsr__lora_layer *layer, size_t rows, size_t columns,
                                   float strength, const float *weight, tsr_error *err) {
    *out = (tsr__lora_factors){ .rows = rows, .columns = columns };
    tsr_status status = is_dora(layer)              ? dora_factors(out, layer, strength, weight, err)
                        : tsr__lora_bound_is(layer) ? bound_factors(out, layer, strength, weight, err)
                                                    : free_factors(out, layer, strength, err);
    if (status != TSR_OK) tsr__lora_factors_clear(out);
    return status;
}

static size_t count_of(const tsr__tensor_view *view) {
    return view ? view->count : 0;
}

size_t tsr__lora_layer_term_values(const tsr__lora_layer *layer) {
    const tsr__tensor_view *const *part = layer->parts;
    if (part[TSR__LORA_UP]) {
        const size_t core = part[TSR__LORA_MID] ? rest_extent(part[TSR__LORA_MID]) : 0,
                     rank = first_extent(part[TSR__LORA_DOWN]);
        return part[TSR__LORA_UP]->count + part[TSR__LORA_DOWN]->count * (core && rank ? core / rank : 1);
    }
    if (part[TSR__LOHA_T1]) /* [r, out], [r, in], [r, r, k, k] */
        return rest_extent(part[TSR__LOHA_W1_A]) * rest_extent(part[TSR__LOHA_W1_B]) * rest_extent(part[TSR__LOHA_T1]) /
               (first_extent(part[TSR__LOHA_W1_B]) ? first_extent(part[TSR__LOHA_W1_B]) : 1);
    if (part[TSR__LOHA_W1_A]) return first_extent(part[TSR__LOHA_W1_A]) * rest_extent(part[TSR__LOHA_W1_B]);
    if (part[TSR__GLORA_A1]) return first_extent(part[TSR__GLORA_B1]) * rest_extent(part[TSR__GLORA_B2]);
    if (part[TSR__OFT_BLOCKS]) { /* its width is not in the file: about a square */
        const size_t n =
            (size_t)part[TSR__OFT_BLOCKS]->shape[part[TSR__OFT_BLOCKS]->rank ? part[TSR__OFT_BLOCKS]->rank - 1 : 0];
        const size_t rows = n ? count_of(part[TSR__OFT_BLOCKS]) / n : 0;
        return rows * rows;
    }
    if (part[TSR__LORA_DIFF] || part[TSR__LORA_DIFF_BIAS])
        return count_of(part[TSR__LORA_DIFF]) + count_of(part[TSR__LORA_DIFF_BIAS]);
    const size_t one = part[TSR__LOKR_W1] ? part[TSR__LOKR_W1]->count
                                          : first_extent(part[TSR__LOKR_W1_A]) * rest_extent(part[TSR__LOKR_W1_B]);
    const size_t two = part[TSR__LOKR_W2] ? part[TSR__LOKR_W2]->count
                       : part[TSR__LOKR_T2]
                           ? rest_extent(part[TSR__LOKR_W2_A]) * rest_extent(part[TSR__LOKR_W2_B]) *
                                 (part[TSR__LOKR_T2]->count /
                                      (first_extent(part[TSR__LOKR_T2]) * first_extent(part[TSR__LOKR_T2]) + 1) +
                                  1)
                           : first_extent(part[TSR__LOKR_W2_A]) * rest_extent(part[TSR__LOKR_W2_B]);
    return one * two;
}

tsr_status tsr__lora_layer_add_bias(const tsr__lora_layer *layer, size_t count, float strength, float *bias,
                                    tsr_error *err) {
    return add_difference(layer->parts[TSR__LORA_DIFF_BIAS], count, count ? 1 : 0, strength, bias, err);
}
