/* server/info_cache.c - see info_cache.h. */
#include "info_cache.h"

#include <dirent.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "context.h"
#include "fault.h"

enum { MAX_DEPTH = 4, MAX_FOLDERS = 2000, PATH_SIZE = 4096 };

struct srv_info_cache {
    pthread_mutex_t lock;
    srv_text *text;
    uint64_t stamp; /* of the folders when the text was made */
};

srv_info_cache *srv_info_cache_new(void) {
    srv_info_cache *cache = calloc(1, sizeof *cache);
    if (cache) pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void srv_info_cache_free(srv_info_cache *cache) {
    if (!cache) return;
    srv_text_unref(cache->text);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* --- have folders changed? -------------------------------------------------------------------------------------------------- */
static void mix(uint64_t *stamp, uint64_t value) {
    *stamp = (*stamp ^ value) * UINT64_C(0x9e3779b97f4a7c15); /* 2^64 / golden ratio */
    *stamp ^= *stamp >> 29;
}

/* A folder's time changes when a file comes or goes. */
static void stamp_folder(uint64_t *stamp, const char *path, int depth, int *left) {
    struct stat about;
    struct dirent *entry;
    if (--*left < 0 || stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) return;
    mix(stamp, (uint64_t)about.st_ino);
    mix(stamp, (uint64_t)about.st_mtim.tv_sec);
    mix(stamp, (uint64_t)about.st_mtim.tv_nsec);
    DIR *dir = depth < MAX_DEPTH ? opendir(path) : NULL;
    while (dir && (entry = readdir(dir))) {
        char below[PATH_SIZE];
        if (entry->d_name[0] == '.' ||
            (entry->d_type != DT_DIR && entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN))
            continue;
        if (snprintf(below, sizeof below, "%s/%s", path, entry->d_name) < (int)sizeof below)
            stamp_folder(stamp, below, depth + 1, left);
    }
    if (dir) closedir(dir);
}

static uint64_t stamp_of(const srv_context *context) {
    uint64_t stamp = 1;
    int left = MAX_FOLDERS;
    if (context->options.models) stamp_folder(&stamp, context->options.models, 0, &left);
    stamp_folder(&stamp, context->options.input, 0, &left);
    return stamp;
}

tsr_status srv_info_all(srv_text **out, struct srv_context *context, tsr_error *err) {
    srv_info_cache *cache = context->info;
    tsr_status status = TSR_OK;
    char *text = NULL;
    *out = NULL;
    pthread_mutex_lock(&cache->lock);
    uint64_t stamp = stamp_of(context);
    if (!cache->text || cache->stamp != stamp) {
        pthread_mutex_lock(&context->checker_lock);
        status = tsr_node_object_info(&text, context->checker, NULL, err);
        pthread_mutex_unlock(&context->checker_lock);
        srv_text *fresh = status == TSR_OK ? srv_text_of(text) : NULL;
        if (status == TSR_OK && !fresh) status = srv_fail(err, TSR_NO_MEMORY, "out of memory");
        if (fresh) {
            srv_text_unref(cache->text);
            cache->text = fresh;
            cache->stamp = stamp;
        }
    }
    if (status == TSR_OK) *out = srv_text_ref(cache->text);
    pthread_mutex_unlock(&cache->lock);
    tsr_free(text);
    return status;
}
