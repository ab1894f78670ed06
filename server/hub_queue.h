/* server/hub_queue.h - frames on their way to one WebSocket, bounded.
 *
 * Not locked: the hub's lock is held around every call. */
#ifndef TSR_SERVER_HUB_QUEUE_H
#define TSR_SERVER_HUB_QUEUE_H

#include <stddef.h>

/* A frame as it goes over the wire, shared by all queues it waits in. */
typedef struct srv_frame srv_frame;

/* head and body are copied one behind the other. One reference; NULL when out of memory. */
srv_frame *srv_frame_new(int opcode, const void *head, size_t head_size, const void *body, size_t body_size,
                         int is_preview);
srv_frame *srv_frame_ref(srv_frame *frame);
void srv_frame_unref(srv_frame *frame); /* NULL is allowed */
const unsigned char *srv_frame_bytes(const srv_frame *frame);
size_t srv_frame_size(const srv_frame *frame);

typedef struct srv_queue_entry srv_queue_entry;
typedef struct srv_queue {
    srv_queue_entry *first, *last;
    size_t bytes, count;         /* waiting */
    size_t max_bytes, max_count; /* set by the owner */
    size_t sent;                 /* bytes of the first frame that are out already */
    int taken;                   /* the first frame is being sent and must stay */
    int dropped;                 /* previews that were left out, since the owner last set it to 0 */
} srv_queue;

/* Adds a reference to the frame. A preview takes the place of one that waits, and is left out when there is no room; another
 * frame pushes previews out. 0, or -1 when the queue is full or memory is out: the socket must be closed. */
int srv_queue_push(srv_queue *queue, srv_frame *frame);
/* The first frame, marked as taken; a new reference. NULL when nothing waits. */
srv_frame *srv_queue_take(srv_queue *queue);
/* So many more bytes of it are out; it leaves when it is whole. The mark is gone. */
void srv_queue_advance(srv_queue *queue, size_t bytes);
void srv_queue_clear(srv_queue *queue);

#endif /* TSR_SERVER_HUB_QUEUE_H */
