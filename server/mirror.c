/* server/mirror.c - the jobs in memory: found by id, in the order they run and ended, with the texts clients ask for.
 *
 * Knows no SQL. The caller holds the lock. */
#include <stdlib.h>
#include <string.h>

#include "json_text.h"
#include "store_priv.h"

/* Of history entries and of answers kept in memory: what 10,000 ordinary jobs need. */
#define MAX_ENTRY_BYTES  ((size_t)64 << 20)
#define MAX_ANSWER_BYTES ((size_t)128 << 20)

/* --- records ------------------------------------------------------------------------------------------------------------- */
srv_record *srv__record_new(const char *id, const char *workflow_id) {
    srv_record *record = calloc(1, sizeof *record);
    if (!record) return NULL;
    record->id = strdup(id);
    record->quoted_id = srv_json_quote(id);
    record->workflow_id = workflow_id ? strdup(workflow_id) : NULL;
    if (record->id && record->quoted_id && (record->workflow_id || !workflow_id)) return record;
    srv__record_free(record);
    return NULL;
}

void srv__record_free(srv_record *record) {
    if (!record) return;
    free(record->id);
    free(record->quoted_id);
    free(record->workflow_id);
    srv_text_unref(record->item);
    srv_text_unref(record->entry);
    srv_text_unref(record->summary);
    free(record);
}

static srv_record **bucket_of(const srv_mirror *mirror, const char *id) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = id; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    return (srv_record **)&mirror->buckets[hash % SRV_BUCKETS];
}

srv_record *srv__mirror_find(const srv_mirror *mirror, const char *id) {
    srv_record *record = *bucket_of(mirror, id);
    while (record && strcmp(record->id, id) != 0) record = record->next;
    return record;
}

/* --- lists ----------------------------------------------------------------------------------------------------------------- */
int srv__mirror_reserve(srv_list *list) {
    if (list->count < list->capacity) return 1;
    int capacity = list->capacity ? list->capacity * 2 : 64;
    srv_record **items = realloc(list->items, (size_t)capacity * sizeof *items);
    if (!items) return 0;
    list->items = items;
    list->capacity = capacity;
    return 1;
}

static srv_list *list_of(srv_mirror *mirror, const srv_record *record) {
    if (record->state == SRV_STATE_PENDING) return &mirror->waiting;
    return record->state == SRV_STATE_RUNNING ? &mirror->running : &mirror->ended;
}

static int runs_before(const srv_record *a, const srv_record *b) {
    if (a->resumed != b->resumed) return a->resumed > b->resumed;
    if (a->number != b->number) return a->number < b->number;
    return a->seq < b->seq;
}

static void count(srv_mirror *mirror, const srv_record *record, int sign) {
    size_t size = srv_text_size(record->item);
    mirror->queue_bytes = sign > 0 ? mirror->queue_bytes + size : mirror->queue_bytes - size;
    if (record->state <= SRV_STATE_RUNNING) mirror->queue_generation++;
    else mirror->history_generation++;
}

void srv__mirror_insert(srv_mirror *mirror, srv_record *record) {
    srv_list *list = list_of(mirror, record);
    srv_record **bucket = bucket_of(mirror, record->id);
    int at = list->count;
    if (record->state == SRV_STATE_PENDING)
        while (at > 0 && runs_before(record, list->items[at - 1])) at--;
    memmove(list->items + at + 1, list->items + at, (size_t)(list->count - at) * sizeof *list->items);
    list->items[at] = record;
    list->count++;
    record->next = *bucket;
    *bucket = record;
    count(mirror, record, 1);
}

static void unlink_entry(srv_mirror *mirror, srv_record *record) {
    *(record->newer ? &record->newer->older : &mirror->newest) = record->older;
    *(record->older ? &record->older->newer : &mirror->oldest) = record->newer;
    record->newer = record->older = NULL;
}

static void link_entry(srv_mirror *mirror, srv_record *record) {
    record->older = mirror->newest;
    *(mirror->newest ? &mirror->newest->newer : &mirror->oldest) = record;
    mirror->newest = record;
}

static void drop_entry(srv_mirror *mirror, srv_record *record) {
    mirror->entry_bytes -= srv_text_size(record->entry);
    unlink_entry(mirror, record);
    srv_text_unref(record->entry);
    record->entry = NULL;
}

void srv__mirror_remove(srv_mirror *mirror, srv_record *record) {
    srv_list *list = list_of(mirror, record);
    srv_record **at = bucket_of(mirror, record->id);
    int i = 0;
    while (*at != record) at = &(*at)->next;
    *at = record->next;
    while (list->items[i] != record) i++;
    list->count--;
    memmove(list->items + i, list->items + i + 1, (size_t)(list->count - i) * sizeof *list->items);
    if (record->entry) drop_entry(mirror, record);
    count(mirror, record, -1);
}

/* --- entries ---------------------------------------------------------------------------------------------------------------- */
void srv__mirror_keep_entry(srv_mirror *mirror, srv_record *record, srv_text *entry) {
    if (record->entry) drop_entry(mirror, record);
    record->entry = entry;
    mirror->entry_bytes += srv_text_size(entry);
    link_entry(mirror, record);
    while (mirror->entry_bytes > MAX_ENTRY_BYTES && mirror->oldest && mirror->oldest != record)
        drop_entry(mirror, mirror->oldest);
}

void srv__mirror_touch(srv_mirror *mirror, srv_record *record) {
    if (!record->entry || mirror->newest == record) return;
    unlink_entry(mirror, record);
    link_entry(mirror, record);
}

/* --- answers ---------------------------------------------------------------------------------------------------------------- */
srv_text *srv__mirror_answer(const srv_mirror *mirror, const char *key, uint64_t generation) {
    for (int i = 0; i < SRV_ANSWERS; i++) {
        const srv_answer *answer = &mirror->answers[i];
        if (answer->text && answer->generation == generation && strcmp(answer->key, key) == 0)
            return srv_text_ref(answer->text);
    }
    return NULL;
}

void srv__mirror_keep_answer(srv_mirror *mirror, const char *key, uint64_t generation, srv_text *text) {
    srv_answer *slot = NULL;
    size_t bytes = srv_text_size(text);
    for (int i = 0; i < SRV_ANSWERS; i++) {
        srv_answer *answer = &mirror->answers[i];
        if (answer->text && strcmp(answer->key, key) == 0) slot = answer;
        bytes += srv_text_size(answer->text);
    }
    if (!slot) {
        slot = &mirror->answers[mirror->next_answer];
        mirror->next_answer = (mirror->next_answer + 1) % SRV_ANSWERS;
    }
    for (int i = 0; i < SRV_ANSWERS; i++) {
        srv_answer *answer = &mirror->answers[i];
        if (answer != slot && bytes <= MAX_ANSWER_BYTES) continue;
        bytes -= srv_text_size(answer->text);
        srv_text_unref(answer->text);
        answer->text = NULL;
    }
    strncpy(slot->key, key, sizeof slot->key - 1);
    slot->generation = generation;
    slot->text = srv_text_ref(text);
}

void srv__mirror_clear(srv_mirror *mirror) {
    srv_list *lists[] = { &mirror->waiting, &mirror->running, &mirror->ended };
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < lists[k]->count; i++) srv__record_free(lists[k]->items[i]);
        free(lists[k]->items);
    }
    for (int i = 0; i < SRV_ANSWERS; i++) srv_text_unref(mirror->answers[i].text);
    memset(mirror, 0, sizeof *mirror);
}
