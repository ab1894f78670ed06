/* Attention against a plain softmax in double precision: head sizes, token counts, masks, causality, strided views. */
#include "nn_reference.h"

typedef struct attention_case {
    int n, heads, dim, queries, keys, masked, causal;
} attention_case;

/* Packed as a model packs it: q, k, v side by side in one row where the token counts agree, else q apart. */
typedef struct attention_data {
    float *q, *kv, *mask;
    double *want;
    int width, q_stride, kv_stride, k_at;
} attention_data;

static void attend(const attention_case *t, const attention_data *d, int s, int head, int i) {
    double *scores = malloc((size_t)t->keys * sizeof *scores), top = -INFINITY, sum = 0;
    for (int j = 0; j < t->keys; j++) {
        const float *q = d->q + (s * t->queries + i) * d->q_stride + head * t->dim;
        const float *k = d->kv + (s * t->keys + j) * d->kv_stride + d->k_at + head * t->dim;
        double dot = 0;
        for (int e = 0; e < t->dim; e++) dot += (double)q[e] * (double)k[e];
        scores[j] = dot / sqrt(t->dim) + (t->masked ? (double)d->mask[i * t->keys + j] : 0);
        if (t->causal && j > i) scores[j] = -INFINITY;
        if (scores[j] > top) top = scores[j];
    }
    double *out = d->want + (s * t->queries + i) * d->width + head * t->dim;
    for (int e = 0; e < t->dim; e++) out[e] = 0;
    for (int j = 0; j < t->keys && top > -INFINITY; j++) {
        double p = exp(scores[j] - top);
        const float *v = d->kv + (s * t->keys + j) * d->kv_stride + d->k_at + d->width + head * t->dim;
        sum += p;
        for (int e = 0; e < t->dim; e++) out[e] += p * (double)v[e];
    }
    for (int e = 0; e < t->dim && sum > 0; e++) out[e] /= sum;
    free(scores);
}

static attention_data make_data(const tsr__nn *nn, const attention_case *t) {
    attention_data d = { .width = t->heads * t->dim };
    d.q_stride = d.width + 3;
    d.k_at = 5;
    d.kv_stride = 2 * d.width + 6;
    d.q = random_values(nn, (size_t)(t->n * t->queries * d.q_stride), 2);
    d.kv = random_values(nn, (size_t)(t->n * t->keys * d.kv_stride), 1);
    d.mask = random_values(nn, (size_t)(t->queries * t->keys), 1);
    for (int i = 0; i < t->queries * t->keys; i += 3) d.mask[i] = -INFINITY;
    if (t->masked > 1)
        for (int j = 0; j < t->keys; j++) d.mask[j] = -INFINITY; /* the first query sees nothing */
    d.want = malloc((size_t)(t->n * t->queries * d.width) * sizeof *d.want);
    for (int s = 0; s < t->n; s++)
        for (int h = 0; h < t->heads; h++)
            for (int i = 0; i < t->queries; i++) attend(t, &d, s, h, i);
    return d;
}

static void check_attention(tsr__nn *nn, const attention_case *t) {
    attention_data d = make_data(nn, t);
    tsr__tensor q = tensor_of(nn, d.q, t->n, 1, t->queries, d.q_stride), out, again;
    tsr__tensor kv = tensor_of(nn, d.kv, t->n, 1, t->keys, d.kv_stride);
    tsr__token_view views[] = { { &q, t->queries, d.q_stride, 0 },
                                { &kv, t->keys, d.kv_stride, d.k_at },
                                { &kv, t->keys, d.kv_stride, d.k_at + d.width } };
    const float *mask = t->masked ? d.mask : NULL;
    char what[96];
    snprintf(what, sizeof what, "attention %d x %d x %d, %d on %d", t->n, t->heads, t->dim, t->queries, t->keys);
    OK(tsr__nn_attention(nn, &out, views[0], views[1], views[2], t->n, t->heads, t->dim, mask, t->causal, &err));
    OK(tsr__nn_attention(nn, &again, views[0], views[1], views[2], t->n, t->heads, t->dim, mask, t->causal, &err));
    compare(nn, &out, d.want, (size_t)(t->n * t->queries * d.width), what);
    size_t bytes = (size_t)(t->n * t->queries * d.width) * (out.dtype == TSR__BF16 ? 2 : 4);
    assert_memory_equal(out.data, again.data, bytes);
    tsr__nn_release(nn, &q);
    tsr__nn_release(nn, &kv);
    tsr__nn_release(nn, &out);
    tsr__nn_release(nn, &again);
    free(d.q);
    free(d.kv);
    free(d.mask);
    free(d.want);
}

static void run_shapes(tsr__nn *nn) {
    static const attention_case cases[] = {
        { 1, 1, 1, 1, 1, 0, 0 },     { 2, 2, 3, 5, 7, 0, 0 },     { 1, 2, 40, 257, 257, 0, 0 },
        { 2, 1, 64, 77, 77, 0, 1 },  { 1, 2, 80, 64, 154, 0, 0 }, { 1, 1, 160, 33, 77, 0, 0 },
        { 1, 1, 512, 40, 50, 0, 0 }, { 1, 1, 8, 33, 1, 0, 0 },    { 1, 1, 40, 20, 1000, 0, 0 },
        { 1, 1, 100, 3, 33, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_attention(nn, &cases[i]);
}
static void attention__equals_a_double_softmax(void **state) {
    (void)state;
    each_variant(run_shapes);
}

static void run_masks(tsr__nn *nn) {
    static const attention_case cases[] = {
        { 1, 2, 40, 37, 77, 1, 0 },  { 1, 1, 16, 5, 401, 2, 0 },   { 2, 2, 8, 77, 77, 1, 1 },
        { 1, 1, 3, 130, 130, 0, 1 }, { 1, 1, 24, 450, 450, 0, 1 }, { 1, 1, 24, 9, 40, 0, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_attention(nn, &cases[i]);
}
static void attention__honours_masks_and_causality(void **state) {
    (void)state;
    each_variant(run_masks);
}

static void run_refusals(tsr__nn *nn) {
    tsr__tensor x, out;
    OK(tsr__nn_tensor(nn, &x, 1, 1, 8, 24, &err));
    tsr__token_view good = { &x, 8, 24, 0 }, far = { &x, 8, 24, 17 }, many = { &x, 9, 24, 0 };
    assert_int_equal(tsr__nn_attention(nn, &out, good, good, far, 1, 1, 8, NULL, 0, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr__nn_attention(nn, &out, many, good, good, 1, 1, 8, NULL, 0, NULL), TSR_BAD_ARGUMENT);
    assert_int_equal(tsr__nn_attention(nn, &out, good, good, good, 2, 1, 8, NULL, 0, NULL), TSR_BAD_ARGUMENT);
    tsr__nn_release(nn, &x);
}
static void attention__refuses_views_outside_their_tensor(void **state) {
    (void)state;
    each_variant(run_refusals);
}

/* A result may not depend on how many threads computed it. */
static void attention__and_norms_do_not_depend_on_threads(void **state) {
    (void)state;
    float *kept[2] = { NULL, NULL };
    for (int threads = 1; threads <= 2; threads++) {
        tsr__nn *nn = NULL;
        tsr__nn_options options = { TSR__F32, threads };
        OK(tsr__nn_new(&nn, &options, &err));
        random_state = 7;
        float *x = random_values(nn, 2 * 300 * 96, 1), *ones = random_values(nn, 96, 1);
        tsr__tensor in = tensor_of(nn, x, 2, 1, 300, 96), normed, out;
        OK(tsr__nn_group_norm(nn, &normed, &in, 8, 1e-5f, ones, ones, 1, &err));
        tsr__token_view q = { &normed, 300, 96, 0 }, k = { &normed, 300, 96, 32 }, v = { &normed, 300, 96, 64 };
        OK(tsr__nn_attention(nn, &out, q, k, v, 2, 4, 8, NULL, 0, &err));
        kept[threads - 1] = malloc(2 * 300 * 32 * sizeof(float));
        OK(tsr__nn_to_rows(nn, kept[threads - 1], &out, &err));
        tsr__nn_release(nn, &in);
        tsr__nn_release(nn, &normed);
        tsr__nn_release(nn, &out);
        free(x);
        free(ones);
        tsr__nn_free(nn);
    }
    assert_memory_equal(kept[0], kept[1], 2 * 300 * 32 * sizeof(float));
    free(kept[0]);
    free(kept[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention__equals_a_double_softmax),
        cmocka_unit_test(attention__honours_masks_and_causality),
        cmocka_unit_test(attention__refuses_views_outside_their_tensor),
        cmocka_unit_test(attention__and_norms_do_not_depend_on_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
