/* server/store_priv.h - inside the job store: SQLite behind, a mirror in memory in front.
 *
 * Writers hold write_lock from before their transaction until the mirror shows it. Readers hold mirror_lock for moments
 * only and never wait for a writer's disk. Order: build locks, write_lock, read_lock, mirror_lock. */
#ifndef TSR_SERVER_STORE_PRIV_H
#define TSR_SERVER_STORE_PRIV_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "store.h"

/* --- store_sql.c: statements in one line -------------------------------------------------------------------------------- */
/* What SQLite says as a status and a message a person can act on. */
tsr_status srv__sql_fault(sqlite3 *db, tsr_error *err);
tsr_status srv__sql_exec(sqlite3 *db, const char *sql, tsr_error *err);
/* format: one letter a parameter, s text (NULL: null), i int64_t, d double. The values follow. */
tsr_status srv__sql_prepare(sqlite3_stmt **out, sqlite3 *db, tsr_error *err, const char *sql, const char *format, ...);
tsr_status srv__sql_run(sqlite3 *db, tsr_error *err, const char *sql, const char *format, ...);
/* *row: 1 when a row came. */
tsr_status srv__sql_step(int *row, sqlite3_stmt *statement, tsr_error *err);
/* COMMIT when status is OK, else or when that fails ROLLBACK. Returns the first failure. */
tsr_status srv__sql_end(sqlite3 *db, tsr_status status, tsr_error *err);
const char *srv__sql_text(sqlite3_stmt *statement, int column); /* "" for null */

/* --- store_schema.c: the file and who may use it ---------------------------------------------------------------------------- */
/* Takes FOLDER/jobs.lock; the lock lives as long as *fd_out. */
tsr_status srv__schema_lock(int *fd_out, const char *folder, tsr_error *err);
/* Two connections to FOLDER/jobs.sqlite, its tables made or checked. */
tsr_status srv__schema_open(sqlite3 **writer, sqlite3 **reader, const char *folder, int max_pages, tsr_error *err);

/* --- store_files.c: what attempts that did not end left behind -------------------------------------------------------------- */
/* The file, and those beside it that writing it whole or not at all makes: its name, a dot, six characters. */
void srv__file_remove(const char *path);

/* --- mirror.c: what is in the database, ready to be sent ------------------------------------------------------------------- */
typedef enum srv_state {
    SRV_STATE_PENDING,
    SRV_STATE_RUNNING,
    SRV_STATE_SUCCESS,
    SRV_STATE_ERROR,
    SRV_STATE_INTERRUPTED
} srv_state;
#define SRV_STATE_NAMES                                                                                                \
    { "pending", "running", "success", "error", "interrupted" }

typedef struct srv_record {
    struct srv_record *next;          /* in its bucket */
    struct srv_record *newer, *older; /* among the entries in memory, by use */
    int64_t seq;
    char *id, *quoted_id, *workflow_id; /* quoted: as JSON */
    double number;
    int resumed; /* goes before all numbers */
    srv_state state;
    int attempt;
    int64_t created, started, ended;
    srv_text *item;    /* its member of /queue; NULL when it has ended */
    srv_text *entry;   /* its value in /history; NULL when it has not ended, or is not in memory */
    srv_text *summary; /* its member of /api/jobs */
} srv_record;

typedef struct srv_list {
    srv_record **items;
    int count, capacity;
} srv_list;

enum { SRV_BUCKETS = 4096, SRV_ANSWERS = 16 };

typedef struct srv_answer {
    char key[160];
    uint64_t generation;
    srv_text *text;
} srv_answer;

typedef struct srv_mirror {
    srv_record *buckets[SRV_BUCKETS];
    srv_list waiting; /* pending, in the order they will run */
    srv_list running;
    srv_list ended; /* in the order they ended */
    size_t queue_bytes, entry_bytes;
    srv_record *newest, *oldest; /* entries in memory, by use */
    uint64_t queue_generation, history_generation;
    srv_answer answers[SRV_ANSWERS];
    int next_answer;
} srv_mirror;

/* Copies the strings; NULL when memory is out. It is in no list yet. */
srv_record *srv__record_new(const char *id, const char *workflow_id);
void srv__record_free(srv_record *record);
srv_record *srv__mirror_find(const srv_mirror *mirror, const char *id);
int srv__mirror_reserve(srv_list *list); /* room for one more; 0 when memory is out */
/* Into the list of its state, which has room. */
void srv__mirror_insert(srv_mirror *mirror, srv_record *record);
/* Out of its list and of the mirror; the caller frees it or inserts it again. */
void srv__mirror_remove(srv_mirror *mirror, srv_record *record);
/* Takes the reference; forgets the least recently used ones. */
void srv__mirror_keep_entry(srv_mirror *mirror, srv_record *record, srv_text *entry);
void srv__mirror_touch(srv_mirror *mirror, srv_record *record);
void srv__mirror_clear(srv_mirror *mirror);
/* A reference or NULL. */
srv_text *srv__mirror_answer(const srv_mirror *mirror, const char *key, uint64_t generation);
void srv__mirror_keep_answer(srv_mirror *mirror, const char *key, uint64_t generation, srv_text *text);

/* --- store_render.c: JSON of a job ------------------------------------------------------------------------------------------ */
srv_text *srv__render_item(const srv_record *record, const char *prompt, const char *extra_data, const char *targets);
/* result: {"outputs": ..., "status": ..., "meta": ...} */
srv_text *srv__render_entry(const srv_record *record, const char *prompt, const char *extra_data, const char *targets,
                            const char *result);
srv_text *srv__render_result(const char *status, const json_t *outputs, const json_t *messages);
/* A job that has not ended has no outputs; error: NULL or the data of execution_error. */
srv_text *srv__render_summary(const srv_record *record, const json_t *outputs, const json_t *error);
json_t *srv__find_preview(const json_t *outputs, int *count_out); /* a new reference, or NULL */

/* --- the store ------------------------------------------------------------------------------------------------------------------ */
enum { SRV_BUILD_QUEUE, SRV_BUILD_HISTORY, SRV_BUILD_JOBS, SRV_BUILDS };

struct srv_store {
    int lock_fd;
    sqlite3 *writer, *reader;
    size_t max_queue_bytes;
    int64_t next_seq; /* with write_lock */
    atomic_int remaining;
    pthread_mutex_t write_lock, read_lock, mirror_lock;
    pthread_mutex_t build_locks[SRV_BUILDS]; /* one thread makes an answer that many wait for */
    srv_mirror mirror;
};

/* store_load.c: reads the database into an empty mirror. */
tsr_status srv__store_load(srv_store *store, tsr_error *err);

#endif /* TSR_SERVER_STORE_PRIV_H */
