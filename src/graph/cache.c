/* graph/cache.c - results of nodes kept from run to run, within a number of bytes; the least recently used go first. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

enum { BUCKETS = 4096 };

struct tsr__cache {
    size_t limit, bytes;
    tsr__kept *newest, *oldest;
    tsr__kept *buckets[BUCKETS];
};

tsr_status tsr__cache_new(tsr__cache **out, size_t limit, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, 1);
    (*out)->limit = limit;
done:
    return status;
}

size_t tsr__cache_bytes(const tsr__cache *cache) {
    return cache ? cache->bytes : 0;
}

static tsr__kept **bucket_of(tsr__cache *cache, const tsr__key *key) {
    return &cache->buckets[(key->bytes[0] | (unsigned)key->bytes[1] << 8) % BUCKETS];
}

static void free_kept(tsr__kept *kept) {
    if (!kept) return;
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) tsr__value_unref(kept->results[i]);
    for (int i = 0; i < kept->n_files; i++) {
        tsr__output_clear(&kept->files[i].output);
        free(kept->files[i].identity);
    }
    free(kept->files);
    free(kept);
}

/* --- the order of use --------------------------------------------------------------------------------------------------- */
static void take_out(tsr__cache *cache, tsr__kept *kept) {
    if (kept->newer) kept->newer->older = kept->older;
    else cache->newest = kept->older;
    if (kept->older) kept->older->newer = kept->newer;
    else cache->oldest = kept->newer;
    kept->newer = kept->older = NULL;
}

static void put_first(tsr__cache *cache, tsr__kept *kept) {
    kept->older = cache->newest;
    if (cache->newest) cache->newest->newer = kept;
    else cache->oldest = kept;
    cache->newest = kept;
}

static void drop(tsr__cache *cache, tsr__kept *kept) {
    tsr__kept **at = bucket_of(cache, &kept->key);
    while (*at != kept) at = &(*at)->next;
    *at = kept->next;
    take_out(cache, kept);
    cache->bytes -= kept->bytes;
    free_kept(kept);
}

void tsr__cache_clear(tsr__cache *cache) {
    while (cache && cache->oldest) drop(cache, cache->oldest);
}

void tsr__cache_free(tsr__cache *cache) {
    tsr__cache_clear(cache);
    free(cache);
}

/* --- finding ------------------------------------------------------------------------------------------------------------ */
static int files_are_there(const tsr__kept *kept) {
    for (int i = 0; i < kept->n_files; i++) {
        char *now = tsr__file_identity(kept->files[i].output.path, NULL);
        int same = now && strcmp(now, kept->files[i].identity) == 0;
        free(now);
        if (!same) return 0;
    }
    return 1;
}

static tsr__kept *look_up(tsr__cache *cache, const tsr__key *key) {
    tsr__kept *kept = *bucket_of(cache, key);
    while (kept && memcmp(&kept->key, key, sizeof *key) != 0) kept = kept->next;
    return kept;
}

const tsr__kept *tsr__cache_find(tsr__cache *cache, const tsr__key *key) {
    tsr__kept *kept = cache ? look_up(cache, key) : NULL;
    if (!kept) return NULL;
    if (!files_are_there(kept)) {
        drop(cache, kept);
        return NULL;
    }
    take_out(cache, kept);
    put_first(cache, kept);
    return kept;
}

/* --- keeping ------------------------------------------------------------------------------------------------------------ */
/* 0 when it cannot be told again later. */
static int keep_file(tsr__kept_file *file, const tsr_workflow_output *output) {
    if (!output->path) return 0;
    file->output.type = tsr__strdup(output->type);
    file->output.subfolder = tsr__strdup(output->subfolder);
    file->output.filename = tsr__strdup(output->filename);
    file->output.path = tsr__strdup(output->path);
    file->identity = tsr__file_identity(output->path, NULL);
    return file->output.type && file->output.subfolder && file->output.filename && file->output.path && file->identity;
}

static size_t bytes_of(tsr__kept *kept) {
    size_t bytes = sizeof *kept + (size_t)kept->n_files * sizeof *kept->files;
    for (int i = 0; i < kept->n_files; i++) bytes += 2 * strlen(kept->files[i].output.path) + 256;
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) {
        size_t more = kept->results[i] ? tsr__value_bytes(kept->results[i]) : 0;
        bytes = more > SIZE_MAX - bytes ? SIZE_MAX : bytes + more;
    }
    return bytes;
}

static tsr__kept *make_kept(const tsr__key *key, tsr__value *const *results, const tsr_workflow_output *outputs,
                            int n_outputs) {
    tsr__kept *kept = tsr__alloc_zero(1, sizeof *kept);
    int good = kept != NULL;
    if (!good) return NULL;
    kept->key = *key;
    kept->files = tsr__alloc_zero((size_t)n_outputs + 1, sizeof *kept->files);
    good = kept->files != NULL;
    for (int i = 0; i < n_outputs && good; i++) {
        kept->n_files = i + 1;
        good = keep_file(&kept->files[i], &outputs[i]);
    }
    for (int i = 0; i < TSR__MAX_OUTPUTS && good; i++) kept->results[i] = tsr__value_ref(results[i]);
    if (good) return kept;
    free_kept(kept);
    return NULL;
}

void tsr__cache_store(tsr__cache *cache, const tsr__key *key, tsr__value *const *results,
                      const tsr_workflow_output *outputs, int n_outputs) {
    tsr__kept *kept = cache ? make_kept(key, results, outputs, n_outputs) : NULL;
    if (!kept) return;
    tsr__kept *before = look_up(cache, key);
    if (before) drop(cache, before);
    kept->bytes = bytes_of(kept);
    if (kept->bytes > cache->limit) {
        free_kept(kept);
        return;
    }
    while (cache->bytes > cache->limit - kept->bytes) drop(cache, cache->oldest);
    tsr__kept **bucket = bucket_of(cache, key);
    kept->next = *bucket;
    *bucket = kept;
    put_first(cache, kept);
    cache->bytes += kept->bytes;
}
