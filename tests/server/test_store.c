/* The job store: order, limits, what survives a process that just ends, and what clients read. */
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store.h"

typedef struct fixture {
    char folder[64];
    srv_store *store;
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/tessera-store-XXXXXX");
    if (!mkdtemp(f->folder)) return -1;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    char command[128];
    srv_store_close(f->store);
    snprintf(command, sizeof command, "rm -r %s", f->folder);
    int result = system(command);
    free(f);
    return result;
}

static void open_store(fixture *f) {
    tsr_error err = TSR_ERROR_INIT;
    if (srv_store_open(&f->store, f->folder, NULL, &err) != TSR_OK) fail_msg("%s", err.message);
}

static void reopen(fixture *f) {
    srv_store_close(f->store);
    open_store(f);
}

static tsr_status add_job(fixture *f, const char *id, int front, const double *number, double *number_out,
                          tsr_error *err) {
    srv_new_job job = { .id = id, .client_id = "me", .prompt = "{\"1\":{}}", .extra_data = "{\"client_id\":\"me\"}" };
    char *made = NULL;
    double chosen = 0;
    job.targets = "[\"1\"]";
    job.front = front;
    job.number = number;
    job.created = 1000;
    job.workflow_id = "w1";
    job.max_pending = 5;
    tsr_status status = srv_store_add(f->store, &job, &made, &chosen, err);
    if (number_out) *number_out = chosen;
    free(made);
    return status;
}

static void add(fixture *f, const char *id) {
    tsr_error err = TSR_ERROR_INIT;
    if (add_job(f, id, 0, NULL, NULL, &err) != TSR_OK) fail_msg("%s", err.message);
}

/* Takes the next job, which must be that one, and returns its attempt. */
static int take(fixture *f, const char *id) {
    srv_job *job = NULL;
    assert_int_equal(srv_store_take(f->store, &job, NULL), TSR_OK);
    assert_non_null(job);
    assert_string_equal(job->id, id);
    assert_string_equal(job->prompt, "{\"1\":{}}");
    int attempt = job->attempt;
    srv_job_free(job);
    return attempt;
}

static tsr_status finish_as(fixture *f, const char *id, const char *status, tsr_error *err) {
    json_t *outputs =
        json_pack("{s:{s:[{s:s, s:s, s:s}]}}", "9", "images", "filename", "a.png", "subfolder", "", "type", "output");
    json_t *messages = json_pack("[[s, {s:s}]]", "execution_start", "prompt_id", id);
    json_t *error = json_pack("{s:s, s:s}", "node_id", "9", "exception_message", "no");
    tsr_status done =
        srv_store_finish(f->store, id, status, outputs, messages, strcmp(status, "error") ? NULL : error, err);
    json_decref(outputs);
    json_decref(messages);
    json_decref(error);
    return done;
}

static void finish(fixture *f, const char *id, const char *status) {
    tsr_error err = TSR_ERROR_INIT;
    if (finish_as(f, id, status, &err) != TSR_OK) fail_msg("%s", err.message);
}

static void run(fixture *f, const char *id) {
    add(f, id);
    take(f, id);
    finish(f, id, "success");
}

static json_t *parse(srv_text *text) {
    json_t *json = json_loads(srv_text_chars(text), 0, NULL);
    if (!json) fail_msg("not JSON: %s", srv_text_chars(text));
    srv_text_unref(text);
    return json;
}

static json_t *queue_of(fixture *f) {
    srv_text *text = NULL;
    assert_int_equal(srv_store_queue(&text, f->store, NULL), TSR_OK);
    return parse(text);
}

static json_t *history_of(fixture *f, int max_items, int offset) {
    srv_text *text = NULL;
    assert_int_equal(srv_store_history(&text, f->store, max_items, offset, NULL), TSR_OK);
    return parse(text);
}

/* Ids of a list of queue items, or of a history, joined by spaces. */
static void assert_ids(json_t *owner, const char *list, const char *want) {
    char got[256] = "";
    const char *key;
    json_t *item;
    size_t i;
    if (list) {
        json_array_foreach(json_object_get(owner, list), i, item) {
            strcat(strcat(got, *got ? " " : ""), json_string_value(json_array_get(item, 1)));
        }
    } else {
        json_object_foreach(owner, key, item) {
            strcat(strcat(got, *got ? " " : ""), key);
        }
    }
    assert_string_equal(got, want);
    json_decref(owner);
}

/* --- order ----------------------------------------------------------------------------------------------------------------- */
static void store__runs_by_number_and_front_first(void **state) {
    fixture *f = *state;
    double number = 0, early = -7.5;
    open_store(f);
    add(f, "a");
    add(f, "b");
    assert_int_equal(add_job(f, "c", 0, &early, &number, NULL), TSR_OK);
    assert_true(number == -7.5);
    assert_int_equal(add_job(f, "d", 1, NULL, &number, NULL), TSR_OK);
    assert_true(number < -7.5);
    assert_ids(queue_of(f), "queue_pending", "d c a b");
    reopen(f);
    assert_ids(queue_of(f), "queue_pending", "d c a b");
    assert_int_equal(take(f, "d"), 1);
    assert_ids(queue_of(f), "queue_running", "d");
    assert_ids(queue_of(f), "queue_pending", "c a b");
    assert_int_equal(srv_store_remaining(f->store), 4);
    assert_int_equal(add_job(f, "e", 1, NULL, NULL, NULL), TSR_OK);
    assert_ids(queue_of(f), "queue_pending", "e c a b");
}

static void store__numbers_go_on_after_a_restart(void **state) {
    fixture *f = *state;
    double number = -1;
    open_store(f);
    add(f, "a");
    add(f, "b");
    assert_int_equal(srv_store_delete_pending(f->store, "b", NULL, NULL), TSR_OK);
    reopen(f);
    assert_int_equal(add_job(f, NULL, 0, NULL, &number, NULL), TSR_OK);
    assert_true(number == 2);
}

static void store__queue_item_has_comfyuis_shape(void **state) {
    fixture *f = *state;
    srv_text *text = NULL;
    open_store(f);
    add(f, "a\"b");
    assert_int_equal(srv_store_queue(&text, f->store, NULL), TSR_OK);
    assert_string_equal(
        srv_text_chars(text),
        "{\"queue_running\":[],\"queue_pending\":[[0,\"a\\\"b\",{\"1\":{}},{\"client_id\":\"me\"},[\"1\"]]]}");
    srv_text_unref(text);
}

/* --- limits ----------------------------------------------------------------------------------------------------------------- */
static void store__refuses_what_is_too_much(void **state) {
    fixture *f = *state;
    tsr_error err = TSR_ERROR_INIT;
    open_store(f);
    for (int i = 0; i < 5; i++) add(f, NULL);
    assert_int_equal(add_job(f, "last", 0, NULL, NULL, &err), TSR_TOO_LARGE);
    assert_string_equal(err.message, "the queue is full: 5 jobs wait");
    json_t *queue = queue_of(f);
    assert_int_equal(json_array_size(json_object_get(queue, "queue_pending")), 5);
    json_decref(queue);
}

static void store__refuses_too_many_bytes(void **state) {
    fixture *f = *state;
    srv_store_limits limits = { .queue_bytes = 60 };
    assert_int_equal(srv_store_open(&f->store, f->folder, &limits, NULL), TSR_OK);
    add(f, "a");
    assert_int_equal(add_job(f, "b", 0, NULL, NULL, NULL), TSR_TOO_LARGE);
    take(f, "a");
    finish(f, "a", "success");
    add(f, "b"); /* what has ended does not count */
}

static void store__refuses_an_id_twice(void **state) {
    fixture *f = *state;
    tsr_error err = TSR_ERROR_INIT;
    open_store(f);
    run(f, "a");
    assert_int_equal(add_job(f, "a", 0, NULL, NULL, &err), TSR_WRONG_STATE);
    assert_non_null(strstr(err.message, "exists already"));
}

/* --- what survives ------------------------------------------------------------------------------------------------------------ */
/* A process that takes a job, writes a file for it, and is gone. */
static void die_with_job(fixture *f, const char *file) {
    pid_t pid = fork();
    if (pid == 0) {
        srv_job *job = NULL;
        open_store(f);
        if (srv_store_take(f->store, &job, NULL) != TSR_OK || !job) _exit(1);
        for (int i = 0; i < 3; i++) { /* the file, one being written, and somebody else's */
            static const char *const suffixes[] = { "", ".aB3xYz", ".backups" };
            char name[160];
            snprintf(name, sizeof name, "%s%s", file, suffixes[i]);
            FILE *out = fopen(name, "w");
            if (!out || fclose(out) != 0) _exit(2);
        }
        if (srv_store_add_file(f->store, job->id, file, NULL) != TSR_OK) _exit(3);
        _exit(0); /* nothing is closed */
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void store__a_job_that_ran_when_the_process_died_runs_first_and_again(void **state) {
    fixture *f = *state;
    char file[128], partial[160], other[160];
    snprintf(file, sizeof file, "%s/half.png", f->folder);
    snprintf(partial, sizeof partial, "%s.aB3xYz", file);
    snprintf(other, sizeof other, "%s.backups", file);
    open_store(f);
    add(f, "a");
    add(f, "b");
    srv_store_close(f->store);
    f->store = NULL;
    die_with_job(f, file);
    assert_int_equal(access(file, F_OK), 0);
    open_store(f);
    assert_int_equal(add_job(f, "c", 1, NULL, NULL, NULL), TSR_OK);
    assert_ids(queue_of(f), "queue_running", "");
    assert_ids(queue_of(f), "queue_pending", "a c b"); /* even before the front */
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(take(f, "a"), 2);
    assert_int_not_equal(access(file, F_OK), 0);
    assert_int_not_equal(access(partial, F_OK), 0);
    assert_int_equal(access(other, F_OK), 0);
}

static void store__success_is_never_undone(void **state) {
    fixture *f = *state;
    srv_job *job = NULL;
    char file[128];
    snprintf(file, sizeof file, "%s/whole.png", f->folder);
    open_store(f);
    add(f, "a");
    take(f, "a");
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fclose(out);
    assert_int_equal(srv_store_add_file(f->store, "a", file, NULL), TSR_OK);
    finish(f, "a", "success");
    assert_int_equal(finish_as(f, "a", "error", NULL), TSR_WRONG_STATE);
    assert_int_equal(srv_store_put_back(f->store, "a", NULL), TSR_WRONG_STATE);
    reopen(f);
    assert_int_equal(srv_store_take(f->store, &job, NULL), TSR_OK);
    assert_null(job);
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(srv_store_delete_history(f->store, "a", NULL), TSR_OK);
    assert_int_equal(access(file, F_OK), 0); /* the picture is the user's */
}

static void store__a_job_put_back_is_first(void **state) {
    fixture *f = *state;
    open_store(f);
    add(f, "a");
    add(f, "b");
    take(f, "a");
    assert_int_equal(srv_store_put_back(f->store, "a", NULL), TSR_OK);
    assert_ids(queue_of(f), "queue_pending", "a b");
    assert_int_equal(take(f, "a"), 2);
}

/* --- who may open it ------------------------------------------------------------------------------------------------------------ */
static void store__is_one_servers(void **state) {
    fixture *f = *state;
    tsr_error err = TSR_ERROR_INIT;
    srv_store *second = NULL;
    open_store(f);
    assert_int_equal(srv_store_open(&second, f->folder, NULL, &err), TSR_WRONG_STATE);
    assert_null(second);
    assert_non_null(strstr(err.message, "another server uses the jobs of"));
}

static void write_bytes(fixture *f, const void *bytes, size_t size, size_t at) {
    char path[128];
    snprintf(path, sizeof path, "%s/jobs.sqlite", f->folder);
    FILE *file = fopen(path, at ? "r+" : "w");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void write_file(fixture *f, const char *text, size_t at) {
    write_bytes(f, text, strlen(text), at);
}

static void store__says_what_is_wrong_with_its_file(void **state) {
    fixture *f = *state;
    tsr_error err = TSR_ERROR_INIT;
    write_file(f, "This is no database, but it is long enough to look like one to somebody in a hurry.", 0);
    assert_int_equal(srv_store_open(&f->store, f->folder, NULL, &err), TSR_BAD_FORMAT);
    assert_non_null(strstr(err.message, "damaged"));
    write_file(f, "", 0);
    open_store(f);
    for (int i = 0; i < 5; i++) add(f, NULL);
    srv_store_close(f->store);
    f->store = NULL;
    for (size_t at = 4096; at < 9 * 4096; at += 512) write_file(f, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", at);
    err = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(srv_store_open(&f->store, f->folder, NULL, &err), TSR_BAD_FORMAT);
    assert_non_null(strstr(err.message, "damaged"));
    write_file(f, "", 0);
    open_store(f);
    srv_store_close(f->store);
    f->store = NULL;
    write_bytes(f, "\0\0\0\x09", 4, 60); /* user_version, in the database's header */
    err = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(srv_store_open(&f->store, f->folder, NULL, &err), TSR_BAD_FORMAT);
    assert_non_null(strstr(err.message, "has version 9"));
}

static void store__is_private(void **state) {
    fixture *f = *state;
    const char *names[] = { "jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "jobs.lock" };
    open_store(f);
    add(f, "a");
    for (int i = 0; i < 4; i++) {
        char path[128];
        struct stat about;
        snprintf(path, sizeof path, "%s/%s", f->folder, names[i]);
        assert_int_equal(stat(path, &about), 0);
        assert_int_equal(about.st_mode & 0777, 0600);
    }
}

/* --- a full disk ----------------------------------------------------------------------------------------------------------------- */
static void store__a_full_disk_refuses_jobs_and_goes_on(void **state) {
    fixture *f = *state;
    srv_store_limits limits = { .pages = 40 };
    tsr_error err = TSR_ERROR_INIT;
    char *id = NULL, *prompt = malloc(40001);
    double number;
    srv_new_job job = { .id = "large", .extra_data = "{}", .targets = "[]", .prompt = prompt };
    assert_int_equal(srv_store_open(&f->store, f->folder, &limits, NULL), TSR_OK);
    add(f, "a");
    memset(prompt, ' ', 40000);
    prompt[40000] = 0;
    prompt[0] = '1';
    for (int i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "l%d", i);
        job.id = name;
        tsr_status status = srv_store_add(f->store, &job, &id, &number, &err);
        free(id);
        if (status != TSR_OK) break;
    }
    assert_int_equal(err.status, TSR_IO);
    assert_string_equal(err.message, "the job store has no room: its disk is full");
    take(f, "a");
    finish(f, "a", "success");
    json_t *queue = queue_of(f);
    size_t waiting = json_array_size(json_object_get(queue, "queue_pending"));
    json_decref(queue);
    srv_store_close(f->store); /* and what was refused is not there after all */
    open_store(f);
    queue = queue_of(f);
    assert_int_equal(json_array_size(json_object_get(queue, "queue_pending")), waiting);
    json_decref(queue);
    free(prompt);
}

/* --- history --------------------------------------------------------------------------------------------------------------------- */
static void store__history_pages(void **state) {
    fixture *f = *state;
    open_store(f);
    run(f, "a");
    run(f, "b");
    run(f, "c");
    for (int again = 0; again < 2; again++) {
        assert_ids(history_of(f, -1, -1), NULL, "a b c");
        assert_ids(history_of(f, 2, -1), NULL, "b c");
        assert_ids(history_of(f, 2, 0), NULL, "a b");
        assert_ids(history_of(f, -1, 1), NULL, "b c");
        assert_ids(history_of(f, 5, 7), NULL, "");
        assert_ids(history_of(f, 0, -1), NULL, "");
        reopen(f);
    }
    run(f, "d");
    assert_ids(history_of(f, -1, -1), NULL, "a b c d");
    assert_int_equal(srv_store_delete_history(f->store, "b", NULL), TSR_OK);
    assert_ids(history_of(f, -1, -1), NULL, "a c d");
    assert_int_equal(srv_store_trim_history(f->store, 2, NULL), TSR_OK);
    assert_ids(history_of(f, -1, -1), NULL, "c d");
    assert_int_equal(srv_store_clear_history(f->store, NULL), TSR_OK);
    assert_ids(history_of(f, -1, -1), NULL, "");
    reopen(f);
    assert_ids(history_of(f, -1, -1), NULL, "");
}

static void store__history_entry_is_the_same_from_memory_and_disk(void **state) {
    fixture *f = *state;
    srv_text *one = NULL, *two = NULL;
    open_store(f);
    run(f, "a");
    assert_int_equal(srv_store_history_of(&one, f->store, "a", NULL), TSR_OK);
    reopen(f);
    assert_int_equal(srv_store_history_of(&two, f->store, "a", NULL), TSR_OK);
    assert_string_equal(srv_text_chars(one), srv_text_chars(two));
    srv_text_unref(one);
    json_t *history = parse(two), *entry = json_object_get(history, "a");
    assert_int_equal(json_array_size(json_object_get(entry, "prompt")), 5);
    assert_string_equal(json_string_value(json_object_get(json_object_get(entry, "status"), "status_str")), "success");
    assert_true(json_is_true(json_object_get(json_object_get(entry, "status"), "completed")));
    json_t *meta = json_object_get(json_object_get(entry, "meta"), "9");
    assert_string_equal(json_string_value(json_object_get(meta, "real_node_id")), "9");
    assert_true(json_is_null(json_object_get(meta, "parent_node")));
    json_decref(history);
    assert_int_equal(srv_store_history_of(&one, f->store, "nobody", NULL), TSR_OK);
    assert_string_equal(srv_text_chars(one), "{}");
    srv_text_unref(one);
}

static void store__deletes_only_what_it_should(void **state) {
    fixture *f = *state;
    int n = -1;
    open_store(f);
    run(f, "done");
    add(f, "runs");
    take(f, "runs");
    add(f, "waits");
    assert_int_equal(srv_store_delete_pending(f->store, "done", &n, NULL), TSR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(srv_store_delete_pending(f->store, "runs", &n, NULL), TSR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(srv_store_delete_history(f->store, "runs", NULL), TSR_OK);
    assert_int_equal(srv_store_delete_history(f->store, "waits", NULL), TSR_OK);
    assert_int_equal(srv_store_remaining(f->store), 2);
    assert_int_equal(srv_store_clear_pending(f->store, &n, NULL), TSR_OK);
    assert_int_equal(n, 1);
    assert_ids(queue_of(f), "queue_running", "runs");
    assert_ids(history_of(f, -1, -1), NULL, "done");
    assert_int_equal(srv_store_remaining(f->store), 1);
}

/* --- jobs --------------------------------------------------------------------------------------------------------------------------- */
static void assert_jobs(fixture *f, const srv_jobs_query *query, const char *want, int total) {
    srv_text *text = NULL;
    char got[256] = "";
    json_t *item;
    size_t i;
    assert_int_equal(srv_store_jobs(&text, f->store, query, NULL), TSR_OK);
    json_t *jobs = parse(text), *pages = json_object_get(jobs, "pagination");
    json_array_foreach(json_object_get(jobs, "jobs"), i, item) {
        strcat(strcat(got, *got ? " " : ""), json_string_value(json_object_get(item, "id")));
        strcat(strcat(got, "="), json_string_value(json_object_get(item, "status")));
    }
    assert_string_equal(got, want);
    assert_int_equal(json_integer_value(json_object_get(pages, "total")), total);
    assert_int_equal(json_is_true(json_object_get(pages, "has_more")),
                     query->offset + (int)json_array_size(json_object_get(jobs, "jobs")) < total);
    json_decref(jobs);
}

static void store__jobs_are_filtered_and_paged(void **state) {
    fixture *f = *state;
    srv_jobs_query query = { .statuses = SRV_JOBS_ALL, .limit = -1 };
    open_store(f);
    run(f, "a");
    add(f, "b");
    take(f, "b");
    finish(f, "b", "error");
    add(f, "c");
    take(f, "c");
    add(f, "d");
    assert_jobs(f, &query, "a=completed b=failed c=in_progress d=pending", 4);
    query.descending = 1;
    query.limit = 2;
    assert_jobs(f, &query, "d=pending c=in_progress", 4);
    query.offset = 2;
    assert_jobs(f, &query, "b=failed a=completed", 4);
    query.offset = 0;
    query.statuses = SRV_JOBS_FAILED | SRV_JOBS_PENDING;
    assert_jobs(f, &query, "d=pending b=failed", 2);
    query.workflow_id = "another";
    assert_jobs(f, &query, "", 0);
    query.workflow_id = "w1";
    assert_jobs(f, &query, "d=pending b=failed", 2);
    finish(f, "c", "interrupted");
    query.statuses = SRV_JOBS_FAILED;
    assert_jobs(f, &query, "c=failed b=failed", 2);
}

static void store__a_job_tells_all(void **state) {
    fixture *f = *state;
    srv_text *text = NULL;
    open_store(f);
    add(f, "a");
    take(f, "a");
    finish(f, "a", "error");
    assert_int_equal(srv_store_job(&text, f->store, "a", NULL), TSR_OK);
    json_t *job = parse(text);
    assert_int_equal(json_integer_value(json_object_get(job, "outputs_count")), 1);
    assert_string_equal(json_string_value(json_object_get(json_object_get(job, "preview_output"), "nodeId")), "9");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(job, "execution_error"), "exception_message")), "no");
    assert_true(json_is_object(json_object_get(json_object_get(job, "workflow"), "prompt")));
    assert_int_equal(json_object_size(json_object_get(job, "outputs")), 1);
    json_decref(job);
    assert_int_equal(srv_store_job(&text, f->store, "nobody", NULL), TSR_NOT_FOUND);
    assert_null(text);
}

/* --- many threads ------------------------------------------------------------------------------------------------------------------- */
typedef struct reader {
    srv_store *store;
    atomic_int *stop;
    int faults, answers;
} reader;

static void *read_on(void *argument) {
    reader *r = argument;
    srv_jobs_query query = { .statuses = SRV_JOBS_ALL, .limit = 10, .descending = 1 };
    while (!atomic_load(r->stop)) {
        srv_text *texts[4] = { NULL };
        tsr_status good = srv_store_queue(&texts[0], r->store, NULL);
        if (good == TSR_OK) good = srv_store_history(&texts[1], r->store, 5, -1, NULL);
        if (good == TSR_OK) good = srv_store_jobs(&texts[2], r->store, &query, NULL);
        if (good == TSR_OK) good = srv_store_history_of(&texts[3], r->store, "3", NULL);
        for (int i = 0; i < 4; i++) {
            json_t *json = good == TSR_OK ? json_loads(srv_text_chars(texts[i]), 0, NULL) : NULL;
            r->faults += !json;
            r->answers++;
            json_decref(json);
            srv_text_unref(texts[i]);
        }
    }
    return NULL;
}

static void store__readers_and_a_writer_at_once(void **state) {
    enum { READERS = 4, JOBS = 60 };
    fixture *f = *state;
    pthread_t threads[READERS];
    reader readers[READERS];
    atomic_int stop = 0;
    open_store(f);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (reader){ f->store, &stop, 0, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    for (int i = 0; i < JOBS; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        run(f, id);
        assert_int_equal(srv_store_trim_history(f->store, 8, NULL), TSR_OK);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].faults, 0);
        assert_true(readers[i].answers > 0);
    }
    assert_ids(history_of(f, 3, -1), NULL, "57 58 59");
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(store__runs_by_number_and_front_first),
        CASE(store__numbers_go_on_after_a_restart),
        CASE(store__queue_item_has_comfyuis_shape),
        CASE(store__refuses_what_is_too_much),
        CASE(store__refuses_too_many_bytes),
        CASE(store__refuses_an_id_twice),
        CASE(store__a_job_that_ran_when_the_process_died_runs_first_and_again),
        CASE(store__success_is_never_undone),
        CASE(store__a_job_put_back_is_first),
        CASE(store__is_one_servers),
        CASE(store__says_what_is_wrong_with_its_file),
        CASE(store__is_private),
        CASE(store__a_full_disk_refuses_jobs_and_goes_on),
        CASE(store__history_pages),
        CASE(store__history_entry_is_the_same_from_memory_and_disk),
        CASE(store__deletes_only_what_it_should),
        CASE(store__jobs_are_filtered_and_paged),
        CASE(store__a_job_tells_all),
        CASE(store__readers_and_a_writer_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
