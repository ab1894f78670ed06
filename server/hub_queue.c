/* server/hub_queue.c - see hub_queue.h. */
#include "hub_queue.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "websocket.h"

struct srv_frame {
    atomic_int references;
    int is_preview;
    size_t size;
    unsigned char bytes[];
};

struct srv_queue_entry {
    srv_queue_entry *next;
    srv_frame *frame;
};

/* --- frames --------------------------------------------------------------------------------------------------------------- */
srv_frame *srv_frame_new(int opcode, const void *head, size_t head_size, const void *body, size_t body_size,
                         int is_preview) {
    unsigned char wire[SRV_WS_HEAD_MAX];
    size_t wire_size = srv_ws_head(wire, opcode, head_size + body_size);
    srv_frame *frame = malloc(sizeof *frame + wire_size + head_size + body_size);
    if (!frame) return NULL;
    atomic_init(&frame->references, 1);
    frame->is_preview = is_preview;
    frame->size = wire_size + head_size + body_size;
    memcpy(frame->bytes, wire, wire_size);
    if (head_size) memcpy(frame->bytes + wire_size, head, head_size);
    if (body_size) memcpy(frame->bytes + wire_size + head_size, body, body_size);
    return frame;
}

srv_frame *srv_frame_ref(srv_frame *frame) {
    atomic_fetch_add(&frame->references, 1);
    return frame;
}

void srv_frame_unref(srv_frame *frame) {
    if (frame && atomic_fetch_sub(&frame->references, 1) == 1) free(frame);
}

const unsigned char *srv_frame_bytes(const srv_frame *frame) {
    return frame->bytes;
}

size_t srv_frame_size(const srv_frame *frame) {
    return frame->size;
}

/* --- the queue -------------------------------------------------------------------------------------------------------------- */
/* Takes out the entry behind `before` (NULL: the first). */
static void take_out(srv_queue *queue, srv_queue_entry *before) {
    srv_queue_entry *entry = before ? before->next : queue->first;
    if (before) before->next = entry->next;
    else queue->first = entry->next;
    if (queue->last == entry) queue->last = before;
    queue->bytes -= entry->frame->size;
    queue->count--;
    srv_frame_unref(entry->frame);
    free(entry);
}

/* Takes out the previews that wait, but for a first frame that is on its way. */
static void drop_previews(srv_queue *queue) {
    srv_queue_entry *before = NULL, *entry = queue->first;
    if (entry && (queue->taken || queue->sent)) {
        before = entry;
        entry = entry->next;
    }
    while (entry) {
        srv_queue_entry *next = entry->next;
        if (entry->frame->is_preview) {
            take_out(queue, before);
            queue->dropped++;
        } else {
            before = entry;
        }
        entry = next;
    }
}

static int has_room(const srv_queue *queue, const srv_frame *frame) {
    return queue->count < queue->max_count && frame->size <= queue->max_bytes &&
           queue->bytes <= queue->max_bytes - frame->size;
}

int srv_queue_push(srv_queue *queue, srv_frame *frame) {
    if (frame->is_preview || !has_room(queue, frame)) drop_previews(queue);
    if (!has_room(queue, frame)) {
        queue->dropped += frame->is_preview;
        return frame->is_preview ? 0 : -1;
    }
    srv_queue_entry *entry = malloc(sizeof *entry);
    if (!entry) return -1;
    entry->next = NULL;
    entry->frame = srv_frame_ref(frame);
    if (queue->last) queue->last->next = entry;
    else queue->first = entry;
    queue->last = entry;
    queue->bytes += frame->size;
    queue->count++;
    return 0;
}

srv_frame *srv_queue_take(srv_queue *queue) {
    if (!queue->first) return NULL;
    queue->taken = 1;
    return srv_frame_ref(queue->first->frame);
}

void srv_queue_advance(srv_queue *queue, size_t bytes) {
    queue->taken = 0;
    if (!queue->first) return;
    queue->sent += bytes;
    if (queue->sent < queue->first->frame->size) return;
    queue->sent = 0;
    take_out(queue, NULL);
}

void srv_queue_clear(srv_queue *queue) {
    while (queue->first) take_out(queue, NULL);
    queue->sent = 0;
    queue->taken = 0;
}
