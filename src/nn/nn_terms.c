/* nn/nn_terms.c - adapters beside the weights: what single samples of a batch change about a weight's or a norm's result. */
#include <stdlib.h>
#include <string.h>

#include "nn/nn_priv.h"

typedef struct term {
    const void *key;           /* a weight, or a norm's gamma */
    tsr__nn_weight *down, *up; /* up may be NULL, and both */
    float *gain, *input_gain;  /* [3, c] as scale_channels takes it, or NULL */
    float *gamma, *beta;       /* a norm's */
} term;

struct tsr__nn_terms {
    tsr__nn *nn;
    term *items; /* sorted by key; those of one key as they were added */
    size_t count, room;
};

tsr_status tsr__nn_terms_new(tsr__nn_terms **out, tsr__nn *nn, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, 1);
    (*out)->nn = nn;
done:
    return status;
}

static void clear_term(tsr__nn *nn, term *t) {
    tsr__nn_weight_free(nn, t->down);
    tsr__nn_weight_free(nn, t->up);
    free(t->gain);
    free(t->input_gain);
    free(t->gamma);
    free(t->beta);
}

void tsr__nn_terms_free(tsr__nn_terms *terms) {
    if (!terms) return;
    for (size_t i = 0; i < terms->count; i++) clear_term(terms->nn, &terms->items[i]);
    free(terms->items);
    free(terms);
}

size_t tsr__nn_terms_count(const tsr__nn_terms *terms) {
    return terms->count;
}

/* --- adding --------------------------------------------------------------------------------------------------------------- */
static tsr_status check_fit(const tsr__nn_terms *terms, const tsr__nn_weight *weight, const tsr__nn_weight *down,
                            const tsr__nn_weight *up, tsr_error *err) {
    if (!down) return up ? tsr__fail(err, TSR_BAD_ARGUMENT, "a term's second product without its first") : TSR_OK;
    const tsr__weight_spec *w = terms->nn->backend->weight_spec(weight), *d = terms->nn->backend->weight_spec(down);
    const tsr__weight_spec *u = up ? terms->nn->backend->weight_spec(up) : NULL;
    int same = w->in_c == d->in_c && w->k == d->k && w->stride == d->stride && w->pad_before == d->pad_before &&
               w->pad_after == d->pad_after;
    int parts = u && d->out_c % u->in_c == 0 ? d->out_c / u->in_c : 0;
    if (same && (u ? parts && u->k == 0 && u->out_c * parts == w->out_c : d->out_c == w->out_c)) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "a term of [%d, %d] and [%d, %d] beside a weight of [%d, %d]", d->out_c,
                     d->in_c, u ? u->out_c : 0, u ? u->in_c : 0, w->out_c, w->in_c);
}

/* Kept sorted: a network asks for its weights thousands of times. */
static tsr_status insert(tsr__nn_terms *terms, const term *added, tsr_error *err) {
    if (terms->count == terms->room) {
        size_t room = terms->room ? 2 * terms->room : 64;
        term *grown = realloc(terms->items, room * sizeof *grown);
        if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        terms->items = grown;
        terms->room = room;
    }
    size_t at = terms->count++;
    while (at > 0 && (uintptr_t)terms->items[at - 1].key > (uintptr_t)added->key) {
        terms->items[at] = terms->items[at - 1];
        at--;
    }
    terms->items[at] = *added;
    return TSR_OK;
}

/* [3, c]: zeros, gain (NULL: ones), shift (NULL: zeros) */
static tsr_status make_factors(float **out, const float *gain, const float *shift, int c, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_ALLOC_ZERO(err, *out, 3 * (size_t)c);
    for (int i = 0; i < c; i++) (*out)[c + i] = gain ? gain[i] : 1.0f;
    if (shift) memcpy(*out + 2 * (size_t)c, shift, (size_t)c * sizeof *shift);
done:
    return status;
}

tsr_status tsr__nn_terms_add(tsr__nn_terms *terms, const tsr__nn_weight *weight, const tsr__nn_term *given,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__weight_spec *spec = terms->nn->backend->weight_spec(weight);
    term made = { .key = weight, .down = given->down, .up = given->up };
    TSR_TRY(check_fit(terms, weight, given->down, given->up, err));
    if (!given->gain != !given->shift) TSR_FAIL(err, TSR_BAD_ARGUMENT, "a term's gain and shift come together");
    if (given->gain) TSR_TRY(make_factors(&made.gain, given->gain, given->shift, spec->out_c, err));
    if (given->input_gain) TSR_TRY(make_factors(&made.input_gain, given->input_gain, NULL, spec->in_c, err));
    TSR_TRY(insert(terms, &made, err));
    made = (term){ 0 };
done:
    clear_term(terms->nn, &made);
    free(given->gain);
    free(given->shift);
    free(given->input_gain);
    return status;
}

tsr_status tsr__nn_terms_add_norm(tsr__nn_terms *terms, const float *norm, const float *gamma, const float *beta, int c,
                                  tsr_error *err) {
    tsr_status status = TSR_OK;
    term made = { .key = norm };
    TSR_ALLOC(err, made.gamma, c);
    TSR_ALLOC(err, made.beta, c);
    memcpy(made.gamma, gamma, (size_t)c * sizeof *gamma);
    memcpy(made.beta, beta, (size_t)c * sizeof *beta);
    TSR_TRY(insert(terms, &made, err));
    made = (term){ 0 };
done:
    clear_term(terms->nn, &made);
    return status;
}

/* --- in use --------------------------------------------------------------------------------------------------------------- */
void tsr__nn_terms_use(tsr__nn *nn, const tsr__nn_terms *const *samples, int n) {
    nn->terms = NULL;
    nn->terms_n = 0;
    for (int i = 0; i < n; i++) {
        if (!samples[i]) continue;
        nn->terms = samples;
        nn->terms_n = n;
        return;
    }
}

const tsr__nn_terms *const *tsr__nn_terms_in_use(const tsr__nn *nn, int *n) {
    *n = nn->terms_n;
    return nn->terms;
}

/* The first term of that key, and how many follow it; NULL when there is none. */
static const term *find_terms(const tsr__nn_terms *terms, const void *key, size_t *count) {
    size_t low = 0, high = terms ? terms->count : 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)terms->items[middle].key < (uintptr_t)key) low = middle + 1;
        else high = middle;
    }
    *count = 0;
    while (terms && low + *count < terms->count && terms->items[low + *count].key == key) ++*count;
    return *count ? &terms->items[low] : NULL;
}

int tsr__terms_concern(const tsr__nn *nn, const void *weight) {
    int flags = 0;
    for (int i = 0; nn->terms && i < nn->terms_n; i++) {
        size_t count;
        if (i && nn->terms[i] == nn->terms[i - 1]) continue;
        const term *found = find_terms(nn->terms[i], weight, &count);
        for (size_t k = 0; k < count; k++)
            flags |= TSR__TERMS | (found[k].gain ? TSR__TERMS_GAIN : 0) | (found[k].input_gain ? TSR__TERMS_INPUT : 0);
    }
    return flags;
}

/* Samples [first, first + n) of a tensor, in place. */
static tsr__tensor samples_of(const tsr__tensor *x, int first, int n) {
    tsr__tensor part = *x;
    size_t each = (size_t)x->h * (size_t)x->w * (size_t)x->c * tsr__type_size(x->dtype);
    part.data = (char *)x->data + (size_t)first * each;
    part.n = n;
    return part;
}

/* A run of samples with the same terms. */
typedef struct run {
    const term *found; /* [count]; NULL: none */
    size_t count;
    int first, n; /* of the tensor's samples */
} run;

/* The run that begins at entry `at` of the terms in use; returns where the next one begins. */
static int next_run(run *out, const tsr__nn *nn, int at, const void *key, int batch) {
    const int n = nn->terms_n, each = n == 1 ? batch : 1;
    int next = at + 1;
    out->found = find_terms(nn->terms[at], key, &out->count);
    while (next < n && nn->terms[next] == nn->terms[at]) next++;
    out->first = at * each;
    out->n = (next - at) * each;
    return next;
}

static tsr_status check_batch(const tsr__nn *nn, const tsr__tensor *x, tsr_error *err) {
    if (x->n == nn->terms_n || nn->terms_n == 1) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "terms for %d samples, a batch of %d", nn->terms_n, x->n);
}

/* --- computing ------------------------------------------------------------------------------------------------------------ */
/* y += up(down(x)) */
static tsr_status add_product(tsr__nn *nn, tsr__tensor *y, const tsr__tensor *x, const term *t, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor low = { 0 }, added = { 0 };
    int is_conv = nn->backend->weight_spec(t->down)->k > 0;
    TSR_TRY(is_conv ? tsr__nn_conv2d(nn, &low, x, t->down, NULL, NULL, err)
                    : tsr__nn_linear(nn, &low, x, t->down, TSR__ACT_NONE, NULL, err));
    if (!t->up) {
        nn->backend->add(nn, y, &low);
        goto done;
    }
    tsr__tensor parts = low; /* the m parts of a place as m places */
    int in = nn->backend->weight_spec(t->up)->in_c;
    parts.w *= low.c / in;
    parts.c = in;
    TSR_TRY(tsr__nn_linear(nn, &added, &parts, t->up, TSR__ACT_NONE, NULL, err));
    added.w = y->w;
    added.c = y->c;
    nn->backend->add(nn, y, &added);
done:
    tsr__nn_release(nn, &low);
    tsr__nn_release(nn, &added);
    return status;
}

tsr_status tsr__terms_apply(tsr__nn *nn, tsr__tensor *y, const tsr__tensor *x, const tsr__nn_weight *w,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__nn_terms *const *samples = nn->terms;
    run r;
    TSR_TRY(check_batch(nn, x, err));
    for (int at = 0, next; at < nn->terms_n; at = next) {
        next = next_run(&r, nn, at, w, x->n);
        tsr__tensor part = samples_of(y, r.first, r.n), in = samples_of(x, r.first, r.n);
        for (size_t i = 0; i < r.count; i++) {
            if (r.found[i].gain) nn->backend->scale_channels(nn, &part, r.found[i].gain);
            nn->terms = NULL; /* terms have none of their own */
            if (r.found[i].down) status = add_product(nn, &part, &in, &r.found[i], err);
            nn->terms = samples;
            if (status != TSR_OK) goto done;
        }
    }
done:
    return status;
}

tsr_status tsr__terms_input(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__nn_weight *w,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    run r;
    TSR_TRY(check_batch(nn, x, err));
    TSR_TRY(tsr__nn_tensor(nn, out, x->n, x->h, x->w, x->c, err));
    nn->backend->copy(nn, out, x);
    for (int at = 0, next; at < nn->terms_n; at = next) {
        next = next_run(&r, nn, at, w, x->n);
        tsr__tensor part = samples_of(out, r.first, r.n);
        if (r.found && r.found->input_gain) nn->backend->scale_channels(nn, &part, r.found->input_gain);
    }
done:
    return status;
}

tsr_status tsr__terms_add_channels(tsr__nn *nn, tsr__tensor *out, const float *add, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < out->n && status == TSR_OK; i++) {
        float *factors = NULL;
        tsr__tensor part = samples_of(out, i, 1);
        status = make_factors(&factors, NULL, add + (size_t)i * (size_t)out->c, out->c, err);
        if (status == TSR_OK) nn->backend->scale_channels(nn, &part, factors);
        free(factors);
    }
    return status;
}

tsr_status tsr__terms_norm(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm_call *call,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    run r;
    TSR_TRY(check_batch(nn, x, err));
    for (int at = 0, next; at < nn->terms_n; at = next) {
        next = next_run(&r, nn, at, call->gamma, x->n);
        tsr__tensor part = samples_of(out, r.first, r.n), in = samples_of(x, r.first, r.n);
        tsr__norm_call own = *call;
        if (r.found) {
            own.gamma = r.found->gamma;
            own.beta = r.found->beta;
        }
        if (call->groups) TSR_TRY(nn->backend->group_norm(nn, &part, &in, &own, err));
        else nn->backend->layer_norm(nn, &part, &in, &own);
    }
done:
    return status;
}
