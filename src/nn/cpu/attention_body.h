/* nn/cpu/attention_body.h - streaming-softmax attention, included by kernels_body.h.
 *
 * A block of queries meets the keys in blocks of KEY_BLOCK. Both products, q k^T and p v, are the same register-blocked
 * matrix kernel: MR rows of broadcast units times NV vectors of a packed panel, float accumulators. Only one block of
 * scores exists at a time, [BLOCK_ROWS, KEY_BLOCK]; a running maximum and sum per query join the blocks.
 *
 * Packed panels: the columns (keys for k^T, channels for v) are cut into vectors of VL, the vectors into panels of up
 * to MAX_NV; a panel starting at vector j holds unit (k, column) at j * VL * K + (k * nv + vector) * VL + lane, K units
 * deep. Padding is zero. */

enum { BLOCK_ROWS = 64, KEY_BLOCK = 384 };

static inline size_t round_up(size_t x, size_t to) {
    return (x + to - 1) / to * to;
}
static inline size_t dim_units(int dim) {
    return ((size_t)dim + PAIR - 1) / PAIR;
}
static inline size_t key_units(int keys) {
    return ((size_t)keys + PAIR - 1) / PAIR;
}

static size_t packed_k_size(int keys, int dim) {
    return round_up(round_up((size_t)keys, VL) * dim_units(dim) * sizeof(unit), 64);
}
static size_t packed_v_size(int keys, int dim) {
    return round_up(round_up((size_t)dim, VL) * key_units(keys) * sizeof(unit), 64);
}

/* Vectors in the panel that starts at vector `at` of `total`: full panels, except that the last two share evenly. */
static inline size_t panel_width(size_t at, size_t total) {
    size_t left = total - at;
    if (left <= MAX_NV) return left;
    return left < 2 * MAX_NV ? (left + 1) / 2 : MAX_NV;
}

/* Panels of k^T start at multiples of MAX_NV, so that blocks of keys start with a panel. */
static inline size_t key_panel_width(size_t at, size_t total) {
    return total - at < MAX_NV ? total - at : MAX_NV;
}

static void pack_k(void *packed, const void *k, size_t stride, int keys, int dim) {
    size_t units = dim_units(dim), vectors = ((size_t)keys + VL - 1) / VL, whole = (size_t)dim / PAIR;
    for (size_t at = 0, nv; at < vectors; at += nv) {
        nv = key_panel_width(at, vectors);
        size_t first = at * VL, wide = nv * VL, count = wide < (size_t)keys - first ? wide : (size_t)keys - first;
        unit *panel = (unit *)packed + first * units;
        const elem *row = (const elem *)k + first * stride;
        if (count < wide || whole < units) memset(panel, 0, wide * units * sizeof *panel);
        for (size_t u = 0; u < whole; u++)
            for (size_t j = 0; j < count; j++) memcpy(panel + u * wide + j, row + j * stride + u * PAIR, sizeof *panel);
        for (size_t j = 0; j < count && whole < units; j++)
            memcpy(panel + whole * wide + j, row + j * stride + whole * PAIR, sizeof *row);
    }
}

static void pack_v(void *packed, const void *v, size_t stride, int keys, int dim) {
    size_t units = key_units(keys), vectors = ((size_t)dim + VL - 1) / VL, whole = (size_t)keys / PAIR;
    for (size_t at = 0, nv; at < vectors; at += nv) {
        nv = panel_width(at, vectors);
        size_t first = at * VL, wide = nv * VL, count = wide < (size_t)dim - first ? wide : (size_t)dim - first;
        unit *panel = (unit *)packed + first * units;
        if (count < wide || whole < units) memset(panel, 0, wide * units * sizeof *panel);
        for (size_t u = 0; u < whole; u++) {
            const elem *a = (const elem *)v + u * PAIR * stride + first, *b = a + (PAIR - 1) * stride;
            for (size_t i = 0; i < count; i++) panel[u * wide + i] = u_join(a + i, b + i);
        }
        for (size_t i = 0; i < count && whole < units; i++)
            memcpy(panel + whole * wide + i, (const elem *)v + whole * PAIR * stride + first + i, sizeof(elem));
    }
}

/* c[MR, nv * VL] = (add ? c : 0) + a[MR, depth] b[depth, nv * VL], in units. */
static inline __attribute__((always_inline)) void tile(const int nv, const unit *a, size_t lda, const unit *b,
                                                       size_t depth, float *c, size_t ldc, int add_to) {
    vf acc[MR][MAX_NV];
#pragma GCC unroll 8
    for (int m = 0; m < MR; m++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[m][v] = add_to ? v_load(c + (size_t)m * ldc + (size_t)v * VL) : v_set(0.0f);
    for (size_t k = 0; k < depth; k++, b += (size_t)nv * VL) {
#pragma GCC unroll 8
        for (int m = 0; m < MR; m++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++)
                acc[m][v] = u_dot(u_set(a + (size_t)m * lda + k), u_load(b + (size_t)v * VL), acc[m][v]);
    }
#pragma GCC unroll 8
    for (int m = 0; m < MR; m++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) v_store(c + (size_t)m * ldc + (size_t)v * VL, acc[m][v]);
}

/* All rows of a block (rounded up to MR) times one panel. */
static void panel_product(size_t nv, size_t rows, const unit *a, size_t lda, const unit *b, size_t depth, float *c,
                          size_t ldc, int add_to) {
    for (size_t row = 0; row < rows; row += MR) {
        const unit *from = a + row * lda;
        float *to = c + row * ldc;
        switch (nv) {
        case 1: tile(1, from, lda, b, depth, to, ldc, add_to); break;
        case 2: tile(2, from, lda, b, depth, to, ldc, add_to); break;
        default: tile(MAX_NV, from, lda, b, depth, to, ldc, add_to); break;
        }
    }
}

/* A thread's scratch memory for one block. */
typedef struct workspace {
    unit *q;       /* [BLOCK_ROWS, dim_units] */
    float *scores; /* [BLOCK_ROWS, KEY_BLOCK] */
    unit *weights; /* [BLOCK_ROWS, KEY_BLOCK / PAIR] */
    float *sum_pv; /* [BLOCK_ROWS, dim rounded up] */
    float *top, *sum;
} workspace;

static size_t lay_out(workspace *w, char *base, int dim) {
    size_t at = 0, sizes[] = { BLOCK_ROWS * dim_units(dim) * sizeof(unit),
                               (size_t)BLOCK_ROWS * KEY_BLOCK * sizeof(float),
                               (size_t)BLOCK_ROWS * KEY_BLOCK * sizeof(elem),
                               BLOCK_ROWS * round_up((size_t)dim, VL) * sizeof(float),
                               BLOCK_ROWS * sizeof(float),
                               BLOCK_ROWS * sizeof(float) };
    size_t starts[6];
    for (int i = 0; i < 6; i++) {
        starts[i] = at;
        at += round_up(sizes[i], 64);
    }
    if (!w) return at;
    w->q = (unit *)(void *)(base + starts[0]);
    w->scores = (float *)(void *)(base + starts[1]);
    w->weights = (unit *)(void *)(base + starts[2]);
    w->sum_pv = (float *)(void *)(base + starts[3]);
    w->top = (float *)(void *)(base + starts[4]);
    w->sum = (float *)(void *)(base + starts[5]);
    return at;
}

static size_t attention_scratch(int keys, int dim) {
    (void)keys;
    return lay_out(NULL, NULL, dim);
}

static void start_block(const tsr__attention_block *block, workspace *w) {
    size_t units = dim_units(block->dim);
    memset(w->q, 0, BLOCK_ROWS * units * sizeof(unit));
    for (int r = 0; r < BLOCK_ROWS; r++) {
        w->top[r] = -INFINITY;
        w->sum[r] = 0.0f;
    }
    for (size_t r = 0; r < (size_t)block->rows; r++)
        memcpy(w->q + r * units, (const elem *)block->q + r * block->q_stride, (size_t)block->dim * sizeof(elem));
}

/* Scores in powers of two: s * scale * log2(e) + mask * log2(e). */
static void add_mask(float *scores, const float *mask, size_t count, float scale) {
    for (size_t i = 0; i < count; i++) scores[i] = scores[i] * scale + mask[i] * 1.44269504f;
}

/* Joins a block of keys to what a row has gathered: the running maximum, and the older parts scaled to it. */
static inline void raise_top(workspace *w, size_t row, float top, size_t width) {
    if (!(top > w->top[row])) return;
    if (w->top[row] > -INFINITY) {
        float grow = exp2f(w->top[row] - top);
        w->sum[row] *= grow;
        for (size_t i = 0; i < width; i += VL) {
            float *o = w->sum_pv + row * width + i;
            v_store(o, v_load(o) * v_set(grow));
        }
    }
    w->top[row] = top;
}

/* One row of scores to weights 2^(s scale - top), zero from `seen` on up to `padded`. Rows are padded to whole
 * vectors. */
static inline void softmax_row(workspace *w, size_t row, size_t seen, size_t padded, float scale, size_t width) {
    float *s = w->scores + row * KEY_BLOCK;
    elem *p = (elem *)(void *)(w->weights + row * (KEY_BLOCK / PAIR));
    size_t full = seen / VL * VL, end = round_up(seen, VL);
    vf most = v_set(-INFINITY), factor = v_set(scale), sum = v_set(0.0f);
    if (full < end) v_store(s + full, v_keep(v_load(s + full), seen - full, v_set(-INFINITY)));
    for (size_t i = 0; i < end; i += VL) most = v_max(most, v_load(s + i));
    raise_top(w, row, v_top(most) * scale, width);
    vf shift = v_set(-w->top[row]);
    if (w->top[row] == -INFINITY) end = 0; /* nothing seen yet */
    for (size_t i = 0; i < end; i += VL) {
        vf e = E_EXP2(v_fma(v_load(s + i), factor, shift));
        sum += e;
        e_store(p + i, e);
    }
    for (size_t i = end; i < padded; i += VL) e_store(p + i, v_set(0.0f));
    w->sum[row] += v_sum(sum);
}

/* How many of the keys [first, first + count) row r sees. */
static size_t seen_keys(const tsr__attention_block *block, size_t row, size_t first, size_t count) {
    if (block->causal_first < 0) return count;
    size_t end = (size_t)block->causal_first + row + 1;
    if (end <= first) return 0;
    return end - first < count ? end - first : count;
}

static void key_block(const tsr__attention_block *block, workspace *w, size_t first, size_t count) {
    size_t units = dim_units(block->dim), width = round_up((size_t)block->dim, VL), rows = (size_t)block->rows;
    size_t padded = round_up(count, VL), vectors = ((size_t)block->keys + VL - 1) / VL, depth = key_units((int)count);
    float scale = block->scale * 1.44269504f;
    for (size_t at = first / VL, nv; at < (first + padded) / VL; at += nv) {
        nv = key_panel_width(at, vectors);
        panel_product(nv, rows, w->q, units, (const unit *)block->packed_k + at * VL * units, units,
                      w->scores + (at * VL - first), KEY_BLOCK, 0);
    }
    for (size_t r = 0; r < rows; r++) {
        if (block->mask)
            add_mask(w->scores + r * KEY_BLOCK, block->mask + r * block->mask_stride + first, count, scale);
        softmax_row(w, r, seen_keys(block, r, first, count), padded, block->mask ? 1.0f : scale, width);
    }
    size_t all = key_units(block->keys), wide = width / VL;
    for (size_t at = 0, nv; at < wide; at += nv) {
        nv = panel_width(at, wide);
        const unit *panel = (const unit *)block->packed_v + at * VL * all + first / PAIR * nv * VL;
        panel_product(nv, rows, w->weights, KEY_BLOCK / PAIR, panel, depth, w->sum_pv + at * VL, width, first > 0);
    }
}

static void attention(const tsr__attention_block *block) {
    workspace w;
    size_t width = round_up((size_t)block->dim, VL), keys = (size_t)block->keys, dim = (size_t)block->dim;
    (void)lay_out(&w, block->scratch, block->dim);
    start_block(block, &w);
    if (block->causal_first >= 0 && (size_t)(block->causal_first + block->rows) < keys)
        keys = (size_t)(block->causal_first + block->rows);
    /* Rows that only fill the last tile keep zero weights. */
    size_t tiles = round_up((size_t)block->rows, MR);
    for (size_t r = (size_t)block->rows; r < tiles; r++)
        memset(w.weights + r * (KEY_BLOCK / PAIR), 0, KEY_BLOCK * sizeof(elem));
    for (size_t first = 0; first < keys; first += KEY_BLOCK)
        key_block(block, &w, first, keys - first < KEY_BLOCK ? keys - first : KEY_BLOCK);
    for (size_t r = 0; r < (size_t)block->rows; r++) {
        elem *to = (elem *)block->out + r * block->out_stride;
        const float *o = w.sum_pv + r * width;
        vf scale = v_set(w.sum[r] > 0.0f ? 1.0f / w.sum[r] : 0.0f);
        EACH_VECTOR(dim, e_store(to + i, v_load(o + i) * scale), e_store_n(to + i, v_load(o + i) * scale, n));
    }
}
