/* nn/nn_pool.c - the pool that activations and scratch memory come from.
 *
 * A freed block waits in a list sorted by size and serves the next request that fills at least half of it, so that a
 * network's second layer already finds warm memory. Large blocks ask for huge pages. Idle memory is bounded: before
 * the pool grows, blocks that nobody uses and that are too small go back to the system. One thread at a time. */
#include "nn/nn_priv.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { HEADER = 64, HUGE_PAGE = 2 << 20, IDLE_LIMIT = 64 << 20 };

struct tsr__pool_block {
    tsr__pool_block *next;
    size_t size; /* of the data after the header */
};

static void drop(tsr__pool *pool, tsr__pool_block *block) {
    pool->held -= block->size + HEADER;
    pool->idle -= block->size + HEADER;
    free(block);
}

/* Sizes are rounded so that slightly different shapes share blocks. */
static size_t round_size(size_t size) {
    size_t step = 64;
    while (step * 16 < size) step *= 2;
    return (size + step - 1) / step * step;
}

static tsr__pool_block *take_free(tsr__pool *pool, size_t size) {
    tsr__pool_block **at = &pool->free_list;
    while (*at && (*at)->size < size) at = &(*at)->next;
    tsr__pool_block *block = *at;
    if (!block || block->size / 2 > size) return NULL;
    *at = block->next;
    pool->idle -= block->size + HEADER;
    return block;
}

static tsr__pool_block *grow(tsr__pool *pool, size_t size) {
    size_t total = size + HEADER, align = total >= HUGE_PAGE ? HUGE_PAGE : 64;
    if (pool->idle + total > IDLE_LIMIT) {
        size_t keep = pool->held - pool->idle;
        if (pool->idle > keep / 4) tsr__pool_trim(pool);
    }
    total = (total + align - 1) / align * align;
    tsr__pool_block *block = aligned_alloc(align, total);
    if (!block && pool->free_list) {
        tsr__pool_trim(pool);
        block = aligned_alloc(align, total);
    }
    if (!block) return NULL;
#ifdef MADV_HUGEPAGE
    if (align == HUGE_PAGE) (void)madvise(block, total, MADV_HUGEPAGE); /* advice: refusal only costs speed */
#endif
    block->size = total - HEADER;
    pool->held += total;
    if (pool->held > pool->peak) pool->peak = pool->held;
    return block;
}

void *tsr__pool_take(tsr__pool *pool, size_t size) {
    if (size > SIZE_MAX / 4) return NULL;
    size = round_size(size ? size : 1);
    tsr__pool_block *block = take_free(pool, size);
    if (!block) block = grow(pool, size);
    return block ? (char *)block + HEADER : NULL;
}

void tsr__pool_give(tsr__pool *pool, void *data) {
    if (!data) return;
    tsr__pool_block *block = (tsr__pool_block *)(void *)((char *)data - HEADER);
    tsr__pool_block **at = &pool->free_list;
    while (*at && (*at)->size < block->size) at = &(*at)->next;
    block->next = *at;
    *at = block;
    pool->idle += block->size + HEADER;
}

void tsr__pool_trim(tsr__pool *pool) {
    while (pool->free_list) {
        tsr__pool_block *block = pool->free_list;
        pool->free_list = block->next;
        drop(pool, block);
    }
}
