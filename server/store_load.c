/* server/store_load.c - the mirror filled from the database when a server starts. */
#include <string.h>

#include "fault.h"
#include "store_priv.h"

/* Columns of every query here, in this order. */
#define COLUMNS "jobs.seq, id, state, number, resumed, attempt, created, started, ended, workflow_id"
enum { SEQ, ID, STATE, NUMBER, RESUMED, ATTEMPT, CREATED, STARTED, ENDED, WORKFLOW, FIRST_TEXT };

static srv_record *read_record(sqlite3_stmt *row) {
    static const char *const names[] = SRV_STATE_NAMES;
    int has_workflow = sqlite3_column_type(row, WORKFLOW) != SQLITE_NULL;
    srv_record *record = srv__record_new(srv__sql_text(row, ID), has_workflow ? srv__sql_text(row, WORKFLOW) : NULL);
    if (!record) return NULL;
    record->seq = sqlite3_column_int64(row, SEQ);
    for (int i = SRV_STATE_PENDING; i <= SRV_STATE_INTERRUPTED; i++)
        if (strcmp(srv__sql_text(row, STATE), names[i]) == 0) record->state = (srv_state)i;
    record->number = sqlite3_column_double(row, NUMBER);
    record->resumed = sqlite3_column_int(row, RESUMED);
    record->attempt = sqlite3_column_int(row, ATTEMPT);
    record->created = sqlite3_column_int64(row, CREATED);
    record->started = sqlite3_column_int64(row, STARTED);
    record->ended = sqlite3_column_int64(row, ENDED);
    return record;
}

static tsr_status load_row(srv_store *store, sqlite3_stmt *row, tsr_error *err) {
    srv_record *record = read_record(row);
    int pending = record && record->state == SRV_STATE_PENDING;
    if (pending) {
        record->item = srv__render_item(record, srv__sql_text(row, FIRST_TEXT), srv__sql_text(row, FIRST_TEXT + 1),
                                        srv__sql_text(row, FIRST_TEXT + 2));
        record->summary = srv__render_summary(record, NULL, NULL);
    } else if (record) {
        record->summary = srv_text_of(srv__sql_text(row, FIRST_TEXT));
    }
    srv_list *list = pending ? &store->mirror.waiting : &store->mirror.ended;
    if (!record || !record->summary || (pending && !record->item) || !srv__mirror_reserve(list)) {
        srv__record_free(record);
        return srv_fail(err, TSR_NO_MEMORY, "out of memory");
    }
    srv__mirror_insert(&store->mirror, record);
    return TSR_OK;
}

static tsr_status load_all(srv_store *store, const char *sql, tsr_error *err) {
    sqlite3_stmt *rows = NULL;
    int row = 0;
    tsr_status status = srv__sql_prepare(&rows, store->writer, err, sql, "");
    while (status == TSR_OK) {
        status = srv__sql_step(&row, rows, err);
        if (status != TSR_OK || !row) break;
        status = load_row(store, rows, err);
    }
    sqlite3_finalize(rows);
    return status;
}

tsr_status srv__store_load(srv_store *store, tsr_error *err) {
    tsr_status status = TSR_OK;
    sqlite3_stmt *last = NULL;
    int row = 0;
    SRV_TRY(
        srv__sql_run(store->writer, err, "UPDATE jobs SET state = 'pending', resumed = 1 WHERE state = 'running'", ""));
    SRV_TRY(load_all(store,
                     "SELECT " COLUMNS ", prompt, extra_data, targets FROM jobs JOIN job_texts USING(seq) "
                     "WHERE state = 'pending' ORDER BY jobs.seq",
                     err));
    SRV_TRY(load_all(store, "SELECT " COLUMNS ", summary FROM job_results JOIN jobs USING(seq) ORDER BY ord", err));
    SRV_TRY(srv__sql_prepare(&last, store->writer, err, "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'", ""));
    SRV_TRY(srv__sql_step(&row, last, err));
    store->next_seq = row ? sqlite3_column_int64(last, 0) + 1 : 1;
    atomic_store(&store->remaining, store->mirror.waiting.count);
done:
    sqlite3_finalize(last);
    return status;
}
