/* server/store_schema.c - the store's files, the lock that keeps a second server out, the tables and their version. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "store_priv.h"

enum { VERSION = 1, APPLICATION = 0x54535251 /* "TSRQ" */, BUSY_MS = 5000 };

/* What never changes after a job was accepted is apart from what does, so that a change of state does not copy a
 * workflow. job_results.ord is the order of the history. */
static const char TABLES[] =
    "CREATE TABLE jobs(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
    " state TEXT NOT NULL CHECK(state IN ('pending','running','success','error','interrupted')), "
    " number REAL NOT NULL, resumed INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0, "
    " created INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0, "
    " client_id TEXT, workflow_id TEXT) STRICT;"
    "CREATE TABLE job_texts(seq INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, "
    " prompt TEXT NOT NULL, extra_data TEXT NOT NULL, targets TEXT NOT NULL) STRICT;"
    "CREATE TABLE job_results(ord INTEGER PRIMARY KEY AUTOINCREMENT, "
    " seq INTEGER NOT NULL UNIQUE REFERENCES jobs ON DELETE CASCADE, "
    " result TEXT NOT NULL, summary TEXT NOT NULL) STRICT;"
    "CREATE TABLE job_files(seq INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, path TEXT NOT NULL) STRICT;"
    "CREATE INDEX job_files_seq ON job_files(seq);";

static tsr_status make_path(char *path, size_t size, const char *folder, const char *name, tsr_error *err) {
    int n = snprintf(path, size, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= size) return srv_fail(err, TSR_BAD_ARGUMENT, "the name of the data folder is too long");
    return TSR_OK;
}

tsr_status srv__schema_lock(int *fd_out, const char *folder, tsr_error *err) {
    tsr_status status = TSR_OK;
    char path[4096];
    int fd = -1;
    *fd_out = -1;
    SRV_TRY(make_path(path, sizeof path, folder, "jobs.lock", err));
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        SRV_FAIL(err, TSR_IO, "cannot make the data folder %.300s: %s", folder, strerror(errno));
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) SRV_FAIL(err, TSR_IO, "cannot open %.300s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            SRV_FAIL(err, TSR_WRONG_STATE, "another server uses the jobs of %.300s; stop it or give --data", folder);
        SRV_FAIL(err, TSR_IO, "cannot lock %.300s: %s", path, strerror(errno));
    }
    *fd_out = fd;
    fd = -1;
done:
    if (fd >= 0) close(fd);
    return status;
}

static tsr_status get_number(int64_t *out, sqlite3 *db, const char *sql, tsr_error *err) {
    sqlite3_stmt *statement = NULL;
    int row = 0;
    tsr_status status = srv__sql_prepare(&statement, db, err, sql, "");
    if (status == TSR_OK) status = srv__sql_step(&row, statement, err);
    *out = row ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return status;
}

static tsr_status check_whole(sqlite3 *db, const char *path, tsr_error *err) {
    sqlite3_stmt *statement = NULL;
    int row = 0;
    tsr_status status = srv__sql_prepare(&statement, db, err, "PRAGMA quick_check(1)", "");
    if (status == TSR_OK) status = srv__sql_step(&row, statement, err);
    if (status == TSR_OK && row && strcmp(srv__sql_text(statement, 0), "ok") != 0)
        status = srv_fail(err, TSR_BAD_FORMAT, "%.200s is damaged (%.150s); move it away to start with an empty queue",
                          path, srv__sql_text(statement, 0));
    sqlite3_finalize(statement);
    return status;
}

static tsr_status make_tables(sqlite3 *db, tsr_error *err) {
    char marks[96];
    snprintf(marks, sizeof marks, "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION, VERSION);
    tsr_status status = srv__sql_exec(db, "BEGIN IMMEDIATE", err);
    if (status != TSR_OK) return status;
    status = srv__sql_exec(db, TABLES, err);
    if (status == TSR_OK) status = srv__sql_exec(db, marks, err);
    return srv__sql_end(db, status, err);
}

static tsr_status check_version(sqlite3 *db, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    int64_t application, version, tables;
    SRV_TRY(get_number(&application, db, "PRAGMA application_id", err));
    SRV_TRY(get_number(&version, db, "PRAGMA user_version", err));
    SRV_TRY(get_number(&tables, db, "SELECT count(*) FROM sqlite_schema", err));
    if (!tables && !version) {
        SRV_TRY(make_tables(db, err));
    } else if (application != APPLICATION) {
        SRV_FAIL(err, TSR_BAD_FORMAT, "%.300s is a database, but no store of jobs", path);
    } else if (version != VERSION) {
        SRV_FAIL(err, TSR_BAD_FORMAT, "%.300s has version %lld; this program knows version %d", path,
                 (long long)version, VERSION);
    }
done:
    return status;
}

/* FULL: what a client was told is on the disk, not only with the system. */
static tsr_status open_one(sqlite3 **out, const char *path, int flags, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (sqlite3_open_v2(path, out, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        SRV_FAIL(err, TSR_IO, "cannot open %.300s: %s", path, *out ? sqlite3_errmsg(*out) : "out of memory");
    sqlite3_extended_result_codes(*out, 1);
    sqlite3_busy_timeout(*out, BUSY_MS);
    SRV_TRY(srv__sql_exec(*out, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF", err));
done:
    return status;
}

tsr_status srv__schema_open(sqlite3 **writer, sqlite3 **reader, const char *folder, int max_pages, tsr_error *err) {
    tsr_status status = TSR_OK;
    char path[4096], limit[64];
    SRV_TRY(make_path(path, sizeof path, folder, "jobs.sqlite", err));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* SQLite would let the group read it */
    if (fd < 0) SRV_FAIL(err, TSR_IO, "cannot open %.300s: %s", path, strerror(errno));
    close(fd);
    SRV_TRY(open_one(writer, path, SQLITE_OPEN_READWRITE, err));
    SRV_TRY(srv__sql_exec(*writer, "PRAGMA journal_mode=WAL", err));
    SRV_TRY(check_version(*writer, path, err));
    SRV_TRY(check_whole(*writer, path, err));
    if (max_pages > 0) {
        snprintf(limit, sizeof limit, "PRAGMA max_page_count=%d", max_pages);
        SRV_TRY(srv__sql_exec(*writer, limit, err));
    }
    SRV_TRY(open_one(reader, path, SQLITE_OPEN_READWRITE, err));
    SRV_TRY(srv__sql_exec(*reader, "PRAGMA query_only=ON", err));
done:
    return status;
}
