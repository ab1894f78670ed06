/* server/store_query.c - what clients read: answers made once for a state of the store and then shared.
 *
 * Many clients ask for the same at the same time, so an answer is kept with the generation it was made from, and one
 * thread makes it while the others wait for that one. Only history entries that left memory are read from the disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "json_text.h"
#include "store_priv.h"

/* --- one answer for many ---------------------------------------------------------------------------------------------------- */
typedef struct build {
    srv_store *store;
    int kind;
    uint64_t generation; /* of what was copied */
    const srv_jobs_query *query;
    int max_items, offset;
} build;

static uint64_t generation_of(const srv_mirror *mirror, int kind) {
    if (kind == SRV_BUILD_QUEUE) return mirror->queue_generation;
    if (kind == SRV_BUILD_HISTORY) return mirror->history_generation;
    return mirror->queue_generation + mirror->history_generation; /* both only grow */
}

static srv_text *find_answer(srv_store *store, int kind, const char *key) {
    pthread_mutex_lock(&store->mirror_lock);
    srv_text *text = srv__mirror_answer(&store->mirror, key, generation_of(&store->mirror, kind));
    pthread_mutex_unlock(&store->mirror_lock);
    return text;
}

/* key: NULL when the answer is not worth keeping. */
static tsr_status answer(srv_text **out, build *b, const char *key,
                         tsr_status (*make)(srv_text **, build *, tsr_error *), tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_store *store = b->store;
    *out = key ? find_answer(store, b->kind, key) : NULL;
    if (*out) return TSR_OK;
    pthread_mutex_lock(&store->build_locks[b->kind]);
    *out = key ? find_answer(store, b->kind, key) : NULL;
    if (!*out) status = make(out, b, err);
    if (status == TSR_OK && !*out) status = srv_fail(err, TSR_NO_MEMORY, "out of memory");
    if (status == TSR_OK && key) {
        pthread_mutex_lock(&store->mirror_lock);
        srv__mirror_keep_answer(&store->mirror, key, b->generation, *out);
        pthread_mutex_unlock(&store->mirror_lock);
    }
    pthread_mutex_unlock(&store->build_locks[b->kind]);
    return status;
}

/* --- texts, taken out of the mirror while it is locked ---------------------------------------------------------------------- */
typedef struct texts {
    srv_text **items;
    int count;
    size_t bytes;
} texts;

static void clear_texts(texts *t) {
    for (int i = 0; i < t->count; i++) srv_text_unref(t->items[i]);
    free(t->items);
    memset(t, 0, sizeof *t);
}

static void take_text(texts *t, srv_text *text) {
    t->items[t->count++] = srv_text_ref(text);
    t->bytes += srv_text_size(text) + 1;
}

static void add_joined(srv_text **out, const texts *t, int from, int to) {
    for (int i = from; i < to; i++) {
        if (i > from) srv_text_puts(out, ",");
        srv_text_add(out, srv_text_chars(t->items[i]), srv_text_size(t->items[i]));
    }
}

/* --- the queue ---------------------------------------------------------------------------------------------------------------- */
static tsr_status make_queue(srv_text **out, build *b, tsr_error *err) {
    srv_mirror *mirror = &b->store->mirror;
    texts t = { 0 };
    pthread_mutex_lock(&b->store->mirror_lock);
    int running = mirror->running.count, all = running + mirror->waiting.count;
    t.items = calloc((size_t)all + 1, sizeof(srv_text *));
    b->generation = mirror->queue_generation;
    for (int i = 0; t.items && i < all; i++)
        take_text(&t, (i < running ? mirror->running.items[i] : mirror->waiting.items[i - running])->item);
    pthread_mutex_unlock(&b->store->mirror_lock);
    if (!t.items) return srv_fail(err, TSR_NO_MEMORY, "out of memory");
    *out = srv_text_new(t.bytes + 64);
    srv_text_puts(out, "{\"queue_running\":[");
    add_joined(out, &t, 0, running);
    srv_text_puts(out, "],\"queue_pending\":[");
    add_joined(out, &t, running, all);
    srv_text_puts(out, "]}");
    clear_texts(&t);
    return TSR_OK;
}

tsr_status srv_store_queue(srv_text **out, srv_store *store, tsr_error *err) {
    build b = { .store = store, .kind = SRV_BUILD_QUEUE };
    return answer(out, &b, "queue", make_queue, err);
}

/* --- history ---------------------------------------------------------------------------------------------------------------- */
/* *out NULL when the job is gone. */
static tsr_status read_entry(srv_text **out, srv_store *store, const srv_record *record, tsr_error *err) {
    sqlite3_stmt *row = NULL;
    int found = 0;
    *out = NULL;
    pthread_mutex_lock(&store->read_lock);
    tsr_status status = srv__sql_prepare(&row, store->reader, err,
                                         "SELECT prompt, extra_data, targets, result FROM job_texts "
                                         "JOIN job_results USING(seq) WHERE seq = ?",
                                         "i", record->seq);
    if (status == TSR_OK) status = srv__sql_step(&found, row, err);
    if (found) {
        *out = srv__render_entry(record, srv__sql_text(row, 0), srv__sql_text(row, 1), srv__sql_text(row, 2),
                                 srv__sql_text(row, 3));
        if (!*out) status = srv_fail(err, TSR_NO_MEMORY, "out of memory");
    }
    sqlite3_finalize(row);
    pthread_mutex_unlock(&store->read_lock);
    return status;
}

/* What reading an entry needs to know of a record; the record itself may go while the mirror is not locked. */
static srv_record *copy_record(const srv_record *record) {
    srv_record *copy = srv__record_new(record->id, record->workflow_id);
    if (!copy) return NULL;
    copy->seq = record->seq;
    copy->number = record->number;
    return copy;
}

/* The entry of a job that has ended; *out NULL when it is unknown. */
static tsr_status get_entry(srv_text **out, srv_store *store, const char *id, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_record *copy = NULL;
    *out = NULL;
    pthread_mutex_lock(&store->mirror_lock);
    srv_record *record = srv__mirror_find(&store->mirror, id);
    int ended = record && record->state > SRV_STATE_RUNNING;
    if (ended && record->entry) *out = srv_text_ref(record->entry);
    if (ended && record->entry) srv__mirror_touch(&store->mirror, record);
    if (ended && !record->entry) copy = copy_record(record);
    pthread_mutex_unlock(&store->mirror_lock);
    if (!ended || *out) return TSR_OK;
    if (!copy) return srv_fail(err, TSR_NO_MEMORY, "out of memory");
    status = read_entry(out, store, copy, err);
    if (*out) {
        pthread_mutex_lock(&store->mirror_lock);
        record = srv__mirror_find(&store->mirror, id);
        if (record && record->seq == copy->seq) srv__mirror_keep_entry(&store->mirror, record, srv_text_ref(*out));
        pthread_mutex_unlock(&store->mirror_lock);
    }
    srv__record_free(copy);
    return status;
}

/* The ids of the page, in order. */
static char **list_ids(int *count_out, build *b) {
    const srv_list *ended = &b->store->mirror.ended;
    pthread_mutex_lock(&b->store->mirror_lock);
    int all = ended->count, from = b->offset;
    b->generation = b->store->mirror.history_generation;
    if (from < 0) from = b->max_items >= 0 && b->max_items < all ? all - b->max_items : 0;
    if (from > all) from = all;
    int n = b->max_items >= 0 && b->max_items < all - from ? b->max_items : all - from;
    char **ids = calloc((size_t)n + 1, sizeof *ids);
    *count_out = 0;
    for (int i = 0; ids && i < n; i++) {
        ids[i] = strdup(ended->items[from + i]->id);
        if (!ids[i]) break;
        ++*count_out;
    }
    pthread_mutex_unlock(&b->store->mirror_lock);
    return ids;
}

static void add_entry(srv_text **out, const char *id, const srv_text *entry) {
    char *quoted = srv_json_quote(id);
    if (srv_text_size(*out) > 1) srv_text_puts(out, ",");
    srv_text_puts(out, quoted ? quoted : "\"\"");
    srv_text_puts(out, ":");
    srv_text_add(out, srv_text_chars(entry), srv_text_size(entry));
    free(quoted);
}

static tsr_status make_history(srv_text **out, build *b, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = 0;
    char **ids = list_ids(&n, b);
    srv_text *text = ids ? srv_text_new(4096) : NULL;
    srv_text_puts(&text, "{");
    for (int i = 0; ids && i < n && status == TSR_OK; i++) {
        srv_text *entry = NULL;
        status = get_entry(&entry, b->store, ids[i], err);
        if (entry) add_entry(&text, ids[i], entry);
        srv_text_unref(entry);
    }
    srv_text_puts(&text, "}");
    for (int i = 0; ids && i < n; i++) free(ids[i]);
    free(ids);
    if (status == TSR_OK) *out = text;
    else srv_text_unref(text);
    return status;
}

tsr_status srv_store_history(srv_text **out, srv_store *store, int max_items, int offset, tsr_error *err) {
    build b = { .store = store, .kind = SRV_BUILD_HISTORY, .max_items = max_items, .offset = offset };
    char key[64];
    snprintf(key, sizeof key, "history %d %d", max_items < 0 ? -1 : max_items, offset < 0 ? -1 : offset);
    return answer(out, &b, key, make_history, err);
}

tsr_status srv_store_history_of(srv_text **out, srv_store *store, const char *id, tsr_error *err) {
    srv_text *entry = NULL;
    *out = NULL;
    tsr_status status = get_entry(&entry, store, id, err);
    if (status != TSR_OK) return status;
    *out = srv_text_new(srv_text_size(entry) + strlen(id) + 16);
    srv_text_puts(out, "{");
    if (entry) add_entry(out, id, entry);
    srv_text_puts(out, "}");
    srv_text_unref(entry);
    return *out ? TSR_OK : srv_fail(err, TSR_NO_MEMORY, "out of memory");
}

/* --- jobs ---------------------------------------------------------------------------------------------------------------------- */
static int is_wanted(const srv_record *record, const srv_jobs_query *query) {
    static const unsigned bits[] = { SRV_JOBS_PENDING, SRV_JOBS_IN_PROGRESS, SRV_JOBS_COMPLETED, SRV_JOBS_FAILED,
                                     SRV_JOBS_FAILED };
    if (!(bits[record->state] & query->statuses)) return 0;
    return !query->workflow_id || (record->workflow_id && strcmp(record->workflow_id, query->workflow_id) == 0);
}

static int64_t duration_of(const srv_record *record) {
    return record->started && record->ended ? record->ended - record->started : 0;
}

static int in_order(int64_t a, int64_t b) {
    return a < b ? -1 : a > b;
}

static int by_creation(const void *a, const void *b) {
    const srv_record *one = *(srv_record *const *)a, *two = *(srv_record *const *)b;
    int order = in_order(one->created, two->created);
    return order ? order : in_order(one->seq, two->seq);
}

static int by_duration(const void *a, const void *b) {
    const srv_record *one = *(srv_record *const *)a, *two = *(srv_record *const *)b;
    int order = in_order(duration_of(one), duration_of(two));
    return order ? order : in_order(one->seq, two->seq);
}

/* With the mirror locked: the page's texts; *total counts what the filter lets through. */
static int collect_jobs(texts *t, int *total, const srv_mirror *mirror, const srv_jobs_query *query) {
    const srv_list *lists[] = { &mirror->waiting, &mirror->running, &mirror->ended };
    size_t all = (size_t)mirror->waiting.count + (size_t)mirror->running.count + (size_t)mirror->ended.count;
    srv_record **found = calloc(all + 1, sizeof *found);
    int n = 0;
    t->items = calloc(all + 1, sizeof(srv_text *));
    if (!found || !t->items) {
        free(found);
        return 0;
    }
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < lists[k]->count; i++)
            if (is_wanted(lists[k]->items[i], query)) found[n++] = lists[k]->items[i];
    qsort(found, (size_t)n, sizeof(srv_record *), query->by_duration ? by_duration : by_creation);
    for (int i = query->offset; i < n; i++) {
        if (query->limit >= 0 && t->count == query->limit) break;
        take_text(t, found[query->descending ? n - 1 - i : i]->summary);
    }
    free(found);
    *total = n;
    return 1;
}

static tsr_status make_jobs(srv_text **out, build *b, tsr_error *err) {
    const srv_jobs_query *query = b->query;
    texts t = { 0 };
    int total = 0;
    pthread_mutex_lock(&b->store->mirror_lock);
    b->generation = generation_of(&b->store->mirror, SRV_BUILD_JOBS);
    int good = collect_jobs(&t, &total, &b->store->mirror, query);
    pthread_mutex_unlock(&b->store->mirror_lock);
    if (good) {
        *out = srv_text_new(t.bytes + 256);
        srv_text_puts(out, "{\"jobs\":[");
        add_joined(out, &t, 0, t.count);
        srv_text_printf(out, "],\"pagination\":{\"offset\":%d,\"limit\":", query->offset);
        if (query->limit >= 0) srv_text_printf(out, "%d", query->limit);
        else srv_text_puts(out, "null");
        srv_text_printf(out, ",\"total\":%d,\"has_more\":%s}}", total,
                        query->offset + t.count < total ? "true" : "false");
    }
    clear_texts(&t);
    return good ? TSR_OK : srv_fail(err, TSR_NO_MEMORY, "out of memory");
}

tsr_status srv_store_jobs(srv_text **out, srv_store *store, const srv_jobs_query *query, tsr_error *err) {
    build b = { .store = store, .kind = SRV_BUILD_JOBS, .query = query };
    char key[160];
    const char *workflow = query->workflow_id ? query->workflow_id : "";
    int n = snprintf(key, sizeof key, "jobs %u %d %d %d %d %d %s", query->statuses, query->by_duration,
                     query->descending, query->limit, query->offset, query->workflow_id != NULL, workflow);
    return answer(out, &b, n < (int)sizeof key ? key : NULL, make_jobs, err);
}

/* The summary with what the history knows beside. */
static json_t *join_job(const srv_text *summary, const srv_text *entry, tsr_error *err) {
    json_t *job = NULL, *known = NULL;
    if (srv_json_parse(&job, srv_text_chars(summary), srv_text_size(summary), err) != TSR_OK) return NULL;
    if (srv_json_parse(&known, srv_text_chars(entry), srv_text_size(entry), err) != TSR_OK) {
        json_decref(job);
        return NULL;
    }
    json_t *prompt =
        json_is_array(known) ? known : json_object_get(known, "prompt"); /* an item of the queue or an entry */
    json_t *outputs = json_object_get(known, "outputs"), *state = json_object_get(known, "status");
    json_t *workflow =
        json_pack("{s:O, s:O}", "prompt", json_array_get(prompt, 2), "extra_data", json_array_get(prompt, 3));
    (void)json_object_set_new(job, "outputs", outputs ? json_incref(outputs) : json_object());
    (void)json_object_set_new(job, "execution_status", state ? json_incref(state) : json_object());
    (void)json_object_set_new(job, "workflow", workflow);
    json_decref(known);
    return job;
}

tsr_status srv_store_job(srv_text **out, srv_store *store, const char *id, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_text *summary = NULL, *detail = NULL;
    json_t *job = NULL;
    char *chars = NULL;
    *out = NULL;
    pthread_mutex_lock(&store->mirror_lock);
    const srv_record *record = srv__mirror_find(&store->mirror, id);
    if (record) summary = srv_text_ref(record->summary);
    if (record) detail = srv_text_ref(record->item);
    pthread_mutex_unlock(&store->mirror_lock);
    if (summary && !detail) SRV_TRY(get_entry(&detail, store, id, err));
    if (!detail) SRV_FAIL(err, TSR_NOT_FOUND, "Job not found");
    job = join_job(summary, detail, err);
    chars = job ? srv_json_dump(job) : NULL;
    *out = srv_text_of(chars);
    if (!*out) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    free(chars);
    json_decref(job);
    srv_text_unref(summary);
    srv_text_unref(detail);
    return status;
}
