/* model/weight_log.c - see weight_log.h. */
#include "model/weight_log.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"

static void clear_entry(tsr__weight_entry *entry) {
    for (int i = 0; entry->names && i < entry->parts; i++) free(entry->names[i]);
    free(entry->names);
    free(entry->whole);
    free(entry->rows);
}

void tsr__weight_log_clear(tsr__weight_log *log) {
    for (size_t i = 0; i < log->count; i++) clear_entry(&log->entries[i]);
    free(log->entries);
    memset(log, 0, sizeof *log);
}

tsr_status tsr__weight_log_add(tsr__weight_log *log, const tsr__weight_entry *entry, int parts,
                               const char *const *names, const int *rows, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weight_entry made = *entry;
    made.parts = parts;
    made.names = NULL;
    made.rows = NULL;
    made.whole = tsr__strdup(entry->whole);
    if (entry->whole && !made.whole) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_ALLOC_ZERO(err, made.names, parts);
    TSR_ALLOC(err, made.rows, parts);
    memcpy(made.rows, rows, (size_t)parts * sizeof *rows);
    for (int i = 0; i < parts; i++) {
        made.names[i] = tsr__format("%s.weight", names[i]);
        if (!made.names[i]) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    if (log->count == log->room) {
        size_t room = log->room ? 2 * log->room : 128;
        tsr__weight_entry *grown = realloc(log->entries, room * sizeof *grown);
        if (!grown) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        log->entries = grown;
        log->room = room;
    }
    log->entries[log->count++] = made;
    made.names = NULL;
    made.whole = NULL;
    made.rows = NULL;
done:
    clear_entry(&made);
    return status;
}

const char *tsr__weight_entry_tensor(const tsr__weight_entry *entry, int index, int *count) {
    *count = entry->whole ? 1 : entry->parts;
    return entry->whole ? entry->whole : entry->names[index];
}
