/* nn/nn_terms.c - adapters beside the weights: small products that single samples of a batch add. */
#include <stdlib.h>
#include <string.h>

#include "nn/nn_priv.h"

typedef struct term {
    const tsr__nn_weight *weight;
    tsr__nn_weight *down, *up; /* up may be NULL */
} term;

struct tsr__nn_terms {
    tsr__nn *nn;
    term *items; /* sorted by weight */
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

void tsr__nn_terms_free(tsr__nn_terms *terms) {
    if (!terms) return;
    for (size_t i = 0; i < terms->count; i++) {
        tsr__nn_weight_free(terms->nn, terms->items[i].down);
        tsr__nn_weight_free(terms->nn, terms->items[i].up);
    }
    free(terms->items);
    free(terms);
}

size_t tsr__nn_terms_count(const tsr__nn_terms *terms) {
    return terms->count;
}

static tsr_status check_fit(const tsr__nn_terms *terms, const tsr__nn_weight *weight, const tsr__nn_weight *down,
                            const tsr__nn_weight *up, tsr_error *err) {
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
static void insert(tsr__nn_terms *terms, term added) {
    size_t at = terms->count++;
    while (at > 0 && (uintptr_t)terms->items[at - 1].weight > (uintptr_t)added.weight) {
        terms->items[at] = terms->items[at - 1];
        at--;
    }
    terms->items[at] = added;
}

tsr_status tsr__nn_terms_add(tsr__nn_terms *terms, const tsr__nn_weight *weight, tsr__nn_weight *down,
                             tsr__nn_weight *up, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(check_fit(terms, weight, down, up, err));
    if (terms->count == terms->room) {
        size_t room = terms->room ? 2 * terms->room : 64;
        term *grown = realloc(terms->items, room * sizeof *grown);
        if (!grown) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        terms->items = grown;
        terms->room = room;
    }
    insert(terms, (term){ weight, down, up });
    down = up = NULL;
done:
    tsr__nn_weight_free(terms->nn, down);
    tsr__nn_weight_free(terms->nn, up);
    return status;
}

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

/* The first term of that weight, and how many follow it; NULL when there is none. */
static const term *find_terms(const tsr__nn_terms *terms, const tsr__nn_weight *weight, size_t *count) {
    size_t low = 0, high = terms ? terms->count : 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)terms->items[middle].weight < (uintptr_t)weight) low = middle + 1;
        else high = middle;
    }
    *count = 0;
    while (terms && low + *count < terms->count && terms->items[low + *count].weight == weight) ++*count;
    return *count ? &terms->items[low] : NULL;
}

int tsr__terms_concern(const tsr__nn *nn, const tsr__nn_weight *w) {
    size_t count;
    for (int i = 0; i < nn->terms_n; i++)
        if ((i == 0 || nn->terms[i] != nn->terms[i - 1]) && find_terms(nn->terms[i], w, &count)) return 1;
    return 0;
}

/* Samples [first, first + n) of a tensor, in place. */
static tsr__tensor samples_of(const tsr__tensor *x, int first, int n) {
    tsr__tensor part = *x;
    size_t each = (size_t)x->h * (size_t)x->w * (size_t)x->c * tsr__type_size(x->dtype);
    part.data = (char *)x->data + (size_t)first * each;
    part.n = n;
    return part;
}

/* y += up(down(x)) */
static tsr_status apply_term(tsr__nn *nn, tsr__tensor *y, const tsr__tensor *x, const term *t, tsr_error *err) {
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
    int n = nn->terms_n;
    if (x->n != n && n != 1) return tsr__fail(err, TSR_BAD_ARGUMENT, "terms for %d samples, a batch of %d", n, x->n);
    nn->terms = NULL; /* terms have none of their own */
    int each = n == 1 ? x->n : 1;
    for (int first = 0, next; first < n; first = next) {
        size_t count;
        const term *found = find_terms(samples[first], w, &count);
        for (next = first + 1; next < n && samples[next] == samples[first];) next++;
        tsr__tensor part = samples_of(y, first, (next - first) * each),
                    in = samples_of(x, first, (next - first) * each);
        for (size_t i = 0; i < count; i++) TSR_TRY(apply_term(nn, &part, &in, &found[i], err));
    }
done:
    nn->terms = samples;
    return status;
}
