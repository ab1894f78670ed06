/* server/store.c - changes of the queue: each is one transaction, and the mirror shows it when it is committed. */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "fault.h"
#include "store_priv.h"
#include "time_now.h"

#define DEFAULT_QUEUE_BYTES ((size_t)256 << 20)

/* --- life ------------------------------------------------------------------------------------------------------------------ */
tsr_status srv_store_open(srv_store **out, const char *folder, const srv_store_limits *limits, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_store *store = NULL;
    *out = NULL;
    SRV_ALLOC(err, store, 1);
    store->lock_fd = -1;
    pthread_mutex_init(&store->write_lock, NULL);
    pthread_mutex_init(&store->read_lock, NULL);
    pthread_mutex_init(&store->mirror_lock, NULL);
    for (int i = 0; i < SRV_BUILDS; i++) pthread_mutex_init(&store->build_locks[i], NULL);
    store->max_queue_bytes = limits && limits->queue_bytes ? limits->queue_bytes : DEFAULT_QUEUE_BYTES;
    SRV_TRY(srv__schema_lock(&store->lock_fd, folder, err));
    SRV_TRY(srv__schema_open(&store->writer, &store->reader, folder, limits ? limits->pages : 0, err));
    SRV_TRY(srv__store_load(store, err));
    *out = store;
    store = NULL;
done:
    srv_store_close(store);
    return status;
}

void srv_store_close(srv_store *store) {
    if (!store) return;
    sqlite3_close(store->reader);
    sqlite3_close(store->writer); /* the last connection folds the log into the database */
    srv__mirror_clear(&store->mirror);
    pthread_mutex_destroy(&store->write_lock);
    pthread_mutex_destroy(&store->read_lock);
    pthread_mutex_destroy(&store->mirror_lock);
    for (int i = 0; i < SRV_BUILDS; i++) pthread_mutex_destroy(&store->build_locks[i]);
    if (store->lock_fd >= 0) close(store->lock_fd);
    free(store);
}

void srv_job_free(srv_job *job) {
    if (!job) return;
    free(job->id);
    free(job->client_id);
    free(job->prompt);
    free(job->extra_data);
    free(job->targets);
    free(job);
}

int srv_store_remaining(const srv_store *store) {
    return atomic_load(&((srv_store *)store)->remaining);
}

/* --- the mirror follows ------------------------------------------------------------------------------------------------------ */
static void count_remaining(srv_store *store) {
    atomic_store(&store->remaining, store->mirror.waiting.count + store->mirror.running.count);
}

/* Room was reserved before the transaction, so that nothing can fail behind it. */
static void show(srv_store *store, srv_record *record) {
    pthread_mutex_lock(&store->mirror_lock);
    srv__mirror_insert(&store->mirror, record);
    count_remaining(store);
    pthread_mutex_unlock(&store->mirror_lock);
}

static tsr_status reserve(srv_store *store, srv_list *list, tsr_error *err) {
    pthread_mutex_lock(&store->mirror_lock);
    int good = srv__mirror_reserve(list);
    pthread_mutex_unlock(&store->mirror_lock);
    return good ? TSR_OK : srv_fail(err, TSR_NO_MEMORY, "out of memory");
}

static void forget(srv_store *store, srv_record *record) {
    pthread_mutex_lock(&store->mirror_lock);
    srv__mirror_remove(&store->mirror, record);
    count_remaining(store);
    pthread_mutex_unlock(&store->mirror_lock);
    srv__record_free(record);
}

/* --- adding ------------------------------------------------------------------------------------------------------------------ */
static tsr_status make_uuid(char out[37], tsr_error *err) {
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b) return srv_fail(err, TSR_IO, "the system gave no random bytes");
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
             b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return TSR_OK;
}

/* ComfyUI counts up, and takes the count's negative for the front; here the front also passes jobs with a number of
 * their own. */
static double choose_number(const srv_store *store, const srv_new_job *job) {
    double number = (double)(store->next_seq - 1);
    if (job->number) return *job->number;
    if (!job->front) return number;
    for (int i = 0; i < store->mirror.waiting.count; i++) {
        const srv_record *first = store->mirror.waiting.items[i];
        if (first->resumed) continue;
        return first->number - 1 < -number ? first->number - 1 : -number;
    }
    return -number;
}

static tsr_status check_room(const srv_store *store, const srv_new_job *job, const char *id, tsr_error *err) {
    size_t size = strlen(job->prompt) + strlen(job->extra_data);
    if (srv__mirror_find(&store->mirror, id))
        return srv_fail(err, TSR_WRONG_STATE, "a job with the prompt_id %.80s exists already", id);
    if (job->max_pending > 0 && store->mirror.waiting.count >= job->max_pending)
        return srv_fail(err, TSR_TOO_LARGE, "the queue is full: %d jobs wait", store->mirror.waiting.count);
    if (store->mirror.queue_bytes + size > store->max_queue_bytes)
        return srv_fail(err, TSR_TOO_LARGE, "the queue is full: its workflows would take more than %zu MiB",
                        store->max_queue_bytes >> 20);
    return TSR_OK;
}

static tsr_status write_job(srv_store *store, const srv_record *record, const srv_new_job *job, tsr_error *err) {
    tsr_status status = srv__sql_exec(store->writer, "BEGIN IMMEDIATE", err);
    if (status != TSR_OK) return status;
    status = srv__sql_run(store->writer, err,
                          "INSERT INTO jobs(seq, id, state, number, created, client_id, workflow_id) "
                          "VALUES(?, ?, 'pending', ?, ?, ?, ?)",
                          "isdiss", record->seq, record->id, record->number, record->created, job->client_id,
                          job->workflow_id);
    if (status == TSR_OK)
        status = srv__sql_run(store->writer, err, "INSERT INTO job_texts VALUES(?, ?, ?, ?)", "isss", record->seq,
                              job->prompt, job->extra_data, job->targets);
    return srv__sql_end(store->writer, status, err);
}

tsr_status srv_store_add(srv_store *store, const srv_new_job *job, char **id_out, double *number_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_record *record = NULL;
    char *id = NULL, uuid[37];
    *id_out = NULL;
    pthread_mutex_lock(&store->write_lock);
    if (!job->id) SRV_TRY(make_uuid(uuid, err));
    const char *chosen = job->id ? job->id : uuid;
    SRV_TRY(check_room(store, job, chosen, err)); /* only writers change the mirror */
    id = strdup(chosen);
    record = srv__record_new(chosen, job->workflow_id);
    if (!id || !record) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    record->seq = store->next_seq;
    record->created = job->created ? job->created : srv_now_ms();
    record->number = choose_number(store, job);
    record->item = srv__render_item(record, job->prompt, job->extra_data, job->targets);
    record->summary = srv__render_summary(record, NULL, NULL);
    if (!record->item || !record->summary) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    SRV_TRY(reserve(store, &store->mirror.waiting, err));
    SRV_TRY(write_job(store, record, job, err));
    store->next_seq++;
    *number_out = record->number;
    show(store, record);
    record = NULL;
    *id_out = id;
    id = NULL;
done:
    pthread_mutex_unlock(&store->write_lock);
    srv__record_free(record);
    free(id);
    return status;
}

/* --- running ----------------------------------------------------------------------------------------------------------------- */
static tsr_status read_job(srv_job **out, srv_store *store, const srv_record *record, tsr_error *err) {
    tsr_status status = TSR_OK;
    sqlite3_stmt *row = NULL;
    srv_job *job = NULL;
    int found = 0;
    *out = NULL;
    SRV_ALLOC(err, job, 1);
    SRV_TRY(srv__sql_prepare(&row, store->writer, err,
                             "SELECT client_id, prompt, extra_data, targets FROM jobs JOIN job_texts USING(seq) "
                             "WHERE seq = ?",
                             "i", record->seq));
    SRV_TRY(srv__sql_step(&found, row, err));
    job->id = strdup(record->id);
    job->client_id = strdup(srv__sql_text(row, 0));
    job->prompt = strdup(srv__sql_text(row, 1));
    job->extra_data = strdup(srv__sql_text(row, 2));
    job->targets = strdup(srv__sql_text(row, 3));
    job->number = record->number;
    job->created = record->created;
    job->attempt = record->attempt + 1;
    if (!job->id || !job->client_id || !job->prompt || !job->extra_data || !job->targets)
        SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    *out = job;
    job = NULL;
done:
    sqlite3_finalize(row);
    srv_job_free(job);
    return status;
}

/* What attempts that did not end left behind. Names go when the files are gone, so a crash between is harmless. */
static tsr_status remove_files(srv_store *store, int64_t seq, tsr_error *err) {
    sqlite3_stmt *rows = NULL;
    int row = 0;
    tsr_status status =
        srv__sql_prepare(&rows, store->writer, err, "SELECT path FROM job_files WHERE seq = ?", "i", seq);
    while (status == TSR_OK) {
        status = srv__sql_step(&row, rows, err);
        if (status != TSR_OK || !row) break;
        srv__file_remove(srv__sql_text(rows, 0));
    }
    sqlite3_finalize(rows);
    return status;
}

static tsr_status write_taken(srv_store *store, int64_t seq, int64_t started, tsr_error *err) {
    tsr_status status = srv__sql_exec(store->writer, "BEGIN IMMEDIATE", err);
    if (status != TSR_OK) return status;
    status = srv__sql_run(store->writer, err,
                          "UPDATE jobs SET state = 'running', attempt = attempt + 1, started = ? WHERE seq = ?", "ii",
                          started, seq);
    if (status == TSR_OK) status = srv__sql_run(store->writer, err, "DELETE FROM job_files WHERE seq = ?", "i", seq);
    return srv__sql_end(store->writer, status, err);
}

/* From one list to another; the summary tells the new state. */
static void move(srv_store *store, srv_record *record, srv_state state, int64_t started) {
    pthread_mutex_lock(&store->mirror_lock);
    srv__mirror_remove(&store->mirror, record);
    record->resumed = state == SRV_STATE_PENDING;
    record->attempt += state == SRV_STATE_RUNNING;
    record->started = started;
    record->state = state;
    srv_text *summary = srv__render_summary(record, NULL, NULL);
    if (summary) srv_text_unref(record->summary);
    if (summary) record->summary = summary;
    srv__mirror_insert(&store->mirror, record);
    count_remaining(store);
    pthread_mutex_unlock(&store->mirror_lock);
}

tsr_status srv_store_take(srv_store *store, srv_job **out, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_job *job = NULL;
    *out = NULL;
    pthread_mutex_lock(&store->write_lock);
    if (!store->mirror.waiting.count) goto done;
    srv_record *record = store->mirror.waiting.items[0];
    int64_t started = srv_now_ms();
    SRV_TRY(reserve(store, &store->mirror.running, err));
    SRV_TRY(read_job(&job, store, record, err));
    SRV_TRY(remove_files(store, record->seq, err));
    SRV_TRY(write_taken(store, record->seq, started, err));
    move(store, record, SRV_STATE_RUNNING, started);
    *out = job;
    job = NULL;
done:
    pthread_mutex_unlock(&store->write_lock);
    srv_job_free(job);
    return status;
}

static srv_record *find_running(const srv_store *store, const char *id) {
    srv_record *record = srv__mirror_find(&store->mirror, id);
    return record && record->state == SRV_STATE_RUNNING ? record : NULL;
}

tsr_status srv_store_add_file(srv_store *store, const char *id, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    pthread_mutex_lock(&store->write_lock);
    const srv_record *record = find_running(store, id);
    if (!record) SRV_FAIL(err, TSR_WRONG_STATE, "job %.80s does not run", id);
    SRV_TRY(srv__sql_run(store->writer, err, "INSERT INTO job_files VALUES(?, ?)", "is", record->seq, path));
done:
    pthread_mutex_unlock(&store->write_lock);
    return status;
}

tsr_status srv_store_put_back(srv_store *store, const char *id, tsr_error *err) {
    tsr_status status = TSR_OK;
    pthread_mutex_lock(&store->write_lock);
    srv_record *record = find_running(store, id);
    if (!record) SRV_FAIL(err, TSR_WRONG_STATE, "job %.80s does not run", id);
    SRV_TRY(reserve(store, &store->mirror.waiting, err));
    SRV_TRY(srv__sql_run(store->writer, err, "UPDATE jobs SET state = 'pending', resumed = 1 WHERE seq = ?", "i",
                         record->seq));
    move(store, record, SRV_STATE_PENDING, 0);
done:
    pthread_mutex_unlock(&store->write_lock);
    return status;
}

/* --- ending -------------------------------------------------------------------------------------------------------------------- */
/* What the job becomes, made before the transaction. */
typedef struct ending {
    srv_record *record;
    srv_text *result, *entry;
} ending;

static tsr_status make_ending(ending *end, srv_store *store, const srv_record *running, srv_state state,
                              const json_t *outputs, const json_t *messages, const json_t *error, tsr_error *err) {
    static const char *const names[] = SRV_STATE_NAMES;
    tsr_status status = TSR_OK;
    srv_job *job = NULL;
    srv_record *record = srv__record_new(running->id, running->workflow_id);
    end->record = record;
    if (!record) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    record->seq = running->seq;
    record->number = running->number;
    record->attempt = running->attempt;
    record->created = running->created;
    record->started = running->started;
    record->ended = srv_now_ms();
    record->state = state;
    SRV_TRY(read_job(&job, store, record, err));
    end->result = srv__render_result(names[state], outputs, messages);
    record->summary = srv__render_summary(record, outputs, error);
    if (end->result)
        end->entry = srv__render_entry(record, job->prompt, job->extra_data, job->targets, srv_text_chars(end->result));
    if (!end->entry || !record->summary) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    SRV_TRY(reserve(store, &store->mirror.ended, err));
done:
    srv_job_free(job);
    return status;
}

static tsr_status write_ending(srv_store *store, const ending *end, const char *state, tsr_error *err) {
    const srv_record *record = end->record;
    tsr_status status = srv__sql_exec(store->writer, "BEGIN IMMEDIATE", err);
    if (status != TSR_OK) return status;
    status =
        srv__sql_run(store->writer, err, "UPDATE jobs SET state = ?, ended = ? WHERE seq = ? AND state = 'running'",
                     "sii", state, record->ended, record->seq);
    if (status == TSR_OK)
        status = srv__sql_run(store->writer, err, "INSERT INTO job_results(seq, result, summary) VALUES(?, ?, ?)",
                              "iss", record->seq, srv_text_chars(end->result), srv_text_chars(record->summary));
    if (status == TSR_OK)
        status = srv__sql_run(store->writer, err, "DELETE FROM job_files WHERE seq = ?", "i", record->seq);
    return srv__sql_end(store->writer, status, err);
}

tsr_status srv_store_finish(srv_store *store, const char *id, const char *state, const json_t *outputs,
                            const json_t *messages, const json_t *error, tsr_error *err) {
    tsr_status status = TSR_OK;
    ending end = { 0 };
    srv_state as = strcmp(state, "success") == 0 ? SRV_STATE_SUCCESS
                   : strcmp(state, "error") == 0 ? SRV_STATE_ERROR
                                                 : SRV_STATE_INTERRUPTED;
    pthread_mutex_lock(&store->write_lock);
    srv_record *running = find_running(store, id);
    if (!running) SRV_FAIL(err, TSR_WRONG_STATE, "job %.80s does not run", id);
    SRV_TRY(make_ending(&end, store, running, as, outputs, messages, error, err));
    SRV_TRY(write_ending(store, &end, state, err));
    pthread_mutex_lock(&store->mirror_lock); /* at one moment: a job is never in neither list */
    srv__mirror_remove(&store->mirror, running);
    srv__mirror_insert(&store->mirror, end.record);
    srv__mirror_keep_entry(&store->mirror, end.record, end.entry);
    count_remaining(store);
    pthread_mutex_unlock(&store->mirror_lock);
    srv__record_free(running);
    end.record = NULL;
    end.entry = NULL;
done:
    pthread_mutex_unlock(&store->write_lock);
    srv__record_free(end.record);
    srv_text_unref(end.result);
    srv_text_unref(end.entry);
    return status;
}

/* --- deleting ------------------------------------------------------------------------------------------------------------------ */
/* The first `n` of the list. */
static tsr_status delete_first(srv_store *store, const srv_list *list, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (n <= 0) return status;
    status = srv__sql_exec(store->writer, "BEGIN IMMEDIATE", err);
    if (status != TSR_OK) return status;
    for (int i = 0; i < n && status == TSR_OK; i++)
        status = srv__sql_run(store->writer, err, "DELETE FROM jobs WHERE seq = ?", "i", list->items[i]->seq);
    status = srv__sql_end(store->writer, status, err);
    for (int i = 0; i < n && status == TSR_OK; i++) forget(store, list->items[0]);
    return status;
}

static tsr_status delete_one(srv_store *store, const char *id, int ended, int *count_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    pthread_mutex_lock(&store->write_lock);
    srv_record *record = srv__mirror_find(&store->mirror, id);
    if (!record || (ended ? record->state <= SRV_STATE_RUNNING : record->state != SRV_STATE_PENDING)) goto done;
    SRV_TRY(remove_files(store, record->seq, err));
    SRV_TRY(srv__sql_run(store->writer, err, "DELETE FROM jobs WHERE seq = ?", "i", record->seq));
    forget(store, record);
    if (count_out) *count_out = 1;
done:
    pthread_mutex_unlock(&store->write_lock);
    return status;
}

tsr_status srv_store_delete_pending(srv_store *store, const char *id, int *count_out, tsr_error *err) {
    if (count_out) *count_out = 0;
    return delete_one(store, id, 0, count_out, err);
}

tsr_status srv_store_delete_history(srv_store *store, const char *id, tsr_error *err) {
    return delete_one(store, id, 1, NULL, err);
}

tsr_status srv_store_clear_pending(srv_store *store, int *count_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    pthread_mutex_lock(&store->write_lock);
    int n = store->mirror.waiting.count;
    for (int i = 0; i < n; i++) SRV_TRY(remove_files(store, store->mirror.waiting.items[i]->seq, err));
    SRV_TRY(delete_first(store, &store->mirror.waiting, n, err));
done:
    if (count_out) *count_out = status == TSR_OK ? n : 0;
    pthread_mutex_unlock(&store->write_lock);
    return status;
}

tsr_status srv_store_clear_history(srv_store *store, tsr_error *err) {
    return srv_store_trim_history(store, 0, err);
}

tsr_status srv_store_trim_history(srv_store *store, int keep, tsr_error *err) {
    pthread_mutex_lock(&store->write_lock);
    tsr_status status = delete_first(store, &store->mirror.ended, store->mirror.ended.count - keep, err);
    pthread_mutex_unlock(&store->write_lock);
    return status;
}
