/* nn/cpu/cpu_attention.c - splits attention into blocks of queries of one head and runs them on the context's threads.
 *
 * Keys and values are packed once a head. Which thread computes a block never changes its result. */
#include "nn/nn_priv.h"
#include <math.h>
#include <omp.h>

typedef struct plan {
    const tsr__attention_call *call;
    const tsr__kernels *kernels;
    char *packed_k, *packed_v, *scratch;
    size_t k_size, v_size, scratch_size, elem_size;
} plan;

/* Where the tokens of sample s, head j begin. */
static const char *view_start(const tsr__token_view *view, size_t elem_size, int s, int j, int head_dim) {
    size_t at = (size_t)s * (size_t)view->tokens * (size_t)view->row_stride + (size_t)view->offset +
                (size_t)j * (size_t)head_dim;
    return (const char *)view->x->data + at * elem_size;
}

static void pack_head(const plan *p, int index) {
    const tsr__attention_call *c = p->call;
    int s = index / c->heads, j = index % c->heads;
    p->kernels->pack_k(p->packed_k + (size_t)index * p->k_size, view_start(&c->k, p->elem_size, s, j, c->head_dim),
                       (size_t)c->k.row_stride, c->k.tokens, c->head_dim);
    p->kernels->pack_v(p->packed_v + (size_t)index * p->v_size, view_start(&c->v, p->elem_size, s, j, c->head_dim),
                       (size_t)c->v.row_stride, c->v.tokens, c->head_dim);
}

static void run_block(const plan *p, int head, int block_index) {
    const tsr__attention_call *c = p->call;
    int s = head / c->heads, j = head % c->heads, first = block_index * p->kernels->block_rows;
    size_t width = (size_t)c->heads * (size_t)c->head_dim;
    size_t row = (size_t)s * (size_t)c->q.tokens + (size_t)first;
    tsr__attention_block b = {
        .q =
            view_start(&c->q, p->elem_size, s, j, c->head_dim) + (size_t)first * (size_t)c->q.row_stride * p->elem_size,
        .packed_k = p->packed_k + (size_t)head * p->k_size,
        .packed_v = p->packed_v + (size_t)head * p->v_size,
        .out = (char *)c->out->data + (row * width + (size_t)j * (size_t)c->head_dim) * p->elem_size,
        .mask = c->mask ? c->mask + (size_t)first * (size_t)c->k.tokens : NULL,
        .q_stride = (size_t)c->q.row_stride,
        .out_stride = width,
        .mask_stride = (size_t)c->k.tokens,
        .rows = c->q.tokens - first < p->kernels->block_rows ? c->q.tokens - first : p->kernels->block_rows,
        .keys = c->k.tokens,
        .dim = c->head_dim,
        .causal_first = c->causal ? first : -1,
        .scale = 1.0f / sqrtf((float)c->head_dim),
        .scratch = p->scratch + (size_t)omp_get_thread_num() * p->scratch_size,
    };
    p->kernels->attention(&b);
}

tsr_status tsr__cpu_attention(tsr__nn *nn, const tsr__attention_call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__kernels *kernels = nn->kernels[call->out->dtype];
    int heads = call->n * call->heads, threads = nn->threads;
    int blocks = (call->q.tokens + kernels->block_rows - 1) / kernels->block_rows;
    plan p = { .call = call, .kernels = kernels, .elem_size = tsr__type_size(call->out->dtype) };
    p.k_size = kernels->packed_k_size(call->k.tokens, call->head_dim);
    p.v_size = kernels->packed_v_size(call->k.tokens, call->head_dim);
    p.scratch_size = kernels->attention_scratch(call->k.tokens, call->head_dim);
    p.packed_k = tsr__pool_take(&nn->pool, (size_t)heads * p.k_size);
    p.packed_v = tsr__pool_take(&nn->pool, (size_t)heads * p.v_size);
    p.scratch = tsr__pool_take(&nn->pool, (size_t)threads * p.scratch_size);
    if (!p.packed_k || !p.packed_v || !p.scratch)
        TSR_FAIL(err, TSR_NO_MEMORY, "out of memory in attention over %d x %d tokens, %d heads of %d", call->q.tokens,
                 call->k.tokens, call->heads, call->head_dim);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < heads; i++) pack_head(&p, i);
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int i = 0; i < heads; i++)
        for (int b = 0; b < blocks; b++) run_block(&p, i, b);
done:
    tsr__pool_give(&nn->pool, p.scratch);
    tsr__pool_give(&nn->pool, p.packed_v);
    tsr__pool_give(&nn->pool, p.packed_k);
    return status;
}
