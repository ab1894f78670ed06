/* server/store_sql.c - SQLite's calls as statuses. */
#include <stdarg.h>
#include <string.h>

#include "fault.h"
#include "store_priv.h"

tsr_status srv__sql_fault(sqlite3 *db, tsr_error *err) {
    const char *said = sqlite3_errmsg(db);
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_FULL: return srv_fail(err, TSR_IO, "the job store has no room: its disk is full");
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return srv_fail(err, TSR_IO, "the job store is busy: another program holds its database");
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return srv_fail(err, TSR_BAD_FORMAT,
                        "the job store is damaged (%s); move jobs.sqlite away to start with an empty queue", said);
    case SQLITE_NOMEM: return srv_fail(err, TSR_NO_MEMORY, "out of memory");
    case SQLITE_READONLY: return srv_fail(err, TSR_IO, "the job store cannot be written: %s", said);
    case SQLITE_TOOBIG: return srv_fail(err, TSR_TOO_LARGE, "the job is too large for the job store");
    default: return srv_fail(err, TSR_IO, "the job store failed: %s", said);
    }
}

tsr_status srv__sql_exec(sqlite3 *db, const char *sql, tsr_error *err) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? TSR_OK : srv__sql_fault(db, err);
}

static int bind_all(sqlite3_stmt *statement, const char *format, va_list args) {
    int result = SQLITE_OK;
    for (int i = 1; *format && result == SQLITE_OK; format++, i++) {
        if (*format == 's') {
            const char *text = va_arg(args, const char *);
            result = text ? sqlite3_bind_text64(statement, i, text, strlen(text), SQLITE_TRANSIENT, SQLITE_UTF8)
                          : sqlite3_bind_null(statement, i);
        } else if (*format == 'i') {
            result = sqlite3_bind_int64(statement, i, va_arg(args, int64_t));
        } else {
            result = sqlite3_bind_double(statement, i, va_arg(args, double));
        }
    }
    return result;
}

static tsr_status prepare(sqlite3_stmt **out, sqlite3 *db, tsr_error *err, const char *sql, const char *format,
                          va_list args) {
    *out = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, out, NULL) != SQLITE_OK || bind_all(*out, format, args) != SQLITE_OK) {
        tsr_status status = srv__sql_fault(db, err);
        sqlite3_finalize(*out);
        *out = NULL;
        return status;
    }
    return TSR_OK;
}

tsr_status srv__sql_prepare(sqlite3_stmt **out, sqlite3 *db, tsr_error *err, const char *sql, const char *format, ...) {
    va_list args;
    va_start(args, format);
    tsr_status status = prepare(out, db, err, sql, format, args);
    va_end(args);
    return status;
}

tsr_status srv__sql_step(int *row, sqlite3_stmt *statement, tsr_error *err) {
    int result = sqlite3_step(statement);
    *row = result == SQLITE_ROW;
    if (result == SQLITE_ROW || result == SQLITE_DONE) return TSR_OK;
    return srv__sql_fault(sqlite3_db_handle(statement), err);
}

tsr_status srv__sql_run(sqlite3 *db, tsr_error *err, const char *sql, const char *format, ...) {
    sqlite3_stmt *statement = NULL;
    int row = 1;
    va_list args;
    va_start(args, format);
    tsr_status status = prepare(&statement, db, err, sql, format, args);
    va_end(args);
    while (status == TSR_OK && row) status = srv__sql_step(&row, statement, err);
    sqlite3_finalize(statement);
    return status;
}

tsr_status srv__sql_end(sqlite3 *db, tsr_status status, tsr_error *err) {
    if (status == TSR_OK) status = srv__sql_exec(db, "COMMIT", err);
    if (status != TSR_OK && !sqlite3_get_autocommit(db)) sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

const char *srv__sql_text(sqlite3_stmt *statement, int column) {
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return text ? text : "";
}
