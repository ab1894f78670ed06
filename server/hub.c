/* server/hub.c - who gets what: see hub.h. Knows nothing of how frames travel. */
#include "hub.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "context.h"
#include "fault.h"
#include "hub_priv.h"
#include "json_text.h"
#include "websocket.h"

enum { QUEUE_FRAMES = 2048, QUEUE_BYTES = 16 << 20 };

/* --- life ----------------------------------------------------------------------------------------------------------------- */
tsr_status srv_hub_new(srv_hub **out, struct srv_context *context, tsr_error *err) {
    *out = NULL;
    srv_hub *hub = calloc(1, sizeof *hub);
    if (!hub) return srv_fail(err, TSR_NO_MEMORY, "out of memory");
    hub->context = context;
    pthread_mutex_init(&hub->lock, NULL);
    *out = hub;
    return TSR_OK;
}

void srv_hub_free(srv_hub *hub) {
    if (!hub) return;
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

/* With the lock held. */
static void wake(srv_socket *socket) {
    const uint64_t one = 1;
    /* It cannot fail but when the counter is full, and then the thread is awake. */
    if (write(socket->wake, &one, sizeof one) < 0) return;
}

static void doom(srv_socket *socket, int code) {
    if (!socket->close_code) socket->close_code = code;
    wake(socket);
}

void srv_hub_close(srv_hub *hub) {
    pthread_mutex_lock(&hub->lock);
    hub->closing = 1;
    for (srv_socket *socket = hub->first; socket; socket = socket->next) doom(socket, SRV_WS_GOING_AWAY);
    pthread_mutex_unlock(&hub->lock);
}

int srv_hub_sockets(const srv_hub *hub) {
    srv_hub *locked = (srv_hub *)(uintptr_t)hub;
    pthread_mutex_lock(&locked->lock);
    int count = hub->count;
    pthread_mutex_unlock(&locked->lock);
    return count;
}

/* --- frames ------------------------------------------------------------------------------------------------------------------ */
srv_frame *srv_hub_frame(const char *type, json_t *data) {
    json_t *message = data ? json_pack("{s:s, s:o}", "type", type, "data", data) : NULL;
    char *text = message ? srv_json_dump(message) : NULL;
    srv_frame *frame = text ? srv_frame_new(SRV_WS_TEXT, NULL, 0, text, strlen(text), 0) : NULL;
    free(text);
    json_decref(message);
    return frame;
}

static json_t *status_data(const srv_hub *hub) {
    return json_pack("{s:{s:{s:i}}}", "status", "exec_info", "queue_remaining",
                     srv_store_remaining(hub->context->store));
}

/* With the lock held. */
static void push(srv_hub *hub, srv_socket *socket, srv_frame *frame) {
    if (socket->close_code) return;
    if (srv_queue_push(&socket->queue, frame) != 0) doom(socket, SRV_WS_SLOW);
    for (; socket->queue.dropped > 0; socket->queue.dropped--) srv_metrics_event_dropped(hub->context->metrics);
    wake(socket);
}

void srv_hub_push(srv_hub *hub, srv_socket *socket, srv_frame *frame) {
    if (!frame) return;
    pthread_mutex_lock(&hub->lock);
    push(hub, socket, frame);
    pthread_mutex_unlock(&hub->lock);
    srv_frame_unref(frame);
}

/* In one step: the worker forgets its node before it tells the end, so that nothing is told of a node behind that. */
void srv_hub_tell_node(srv_hub *hub, srv_socket *socket) {
    pthread_mutex_lock(&hub->lock);
    srv_worker_state state = srv_worker_get_state(hub->context->worker);
    srv_frame *frame = NULL;
    if (state.node[0] && strcmp(state.client, socket->id) == 0)
        frame = srv_hub_frame("executing", json_pack("{s:s, s:s, s:s}", "node", state.node, "display_node", state.node,
                                                     "prompt_id", state.job));
    if (frame) push(hub, socket, frame);
    pthread_mutex_unlock(&hub->lock);
    srv_frame_unref(frame);
}

/* --- who is there --------------------------------------------------------------------------------------------------------- */
/* ComfyUI leaves a socket open whose clientId a newer one takes, but sends it nothing more. It is the first to go when
 * there is no room. */
static void replace_older(srv_hub *hub, const char *id) {
    for (srv_socket *other = hub->first; other; other = other->next)
        if (strcmp(other->id, id) == 0) other->replaced = 1;
    if (hub->count < hub->context->options.max_sockets) return;
    for (srv_socket *other = hub->first; other; other = other->next)
        if (other->replaced) doom(other, SRV_WS_GOING_AWAY);
}

int srv_hub_add(srv_hub *hub, srv_socket *socket) {
    socket->hub = hub;
    socket->queue.max_bytes = QUEUE_BYTES;
    socket->queue.max_count = QUEUE_FRAMES;
    pthread_mutex_lock(&hub->lock);
    replace_older(hub, socket->id);
    int refused = hub->closing || hub->count >= hub->context->options.max_sockets;
    json_t *data = refused ? NULL : status_data(hub);
    if (data) json_object_set_new(data, "sid", json_string(socket->id));
    srv_frame *frame = srv_hub_frame("status", data);
    refused = refused || !frame;
    if (!refused) {
        socket->next = hub->first;
        if (socket->next) socket->next->previous = socket;
        hub->first = socket;
        hub->count++;
        push(hub, socket, frame);
    }
    pthread_mutex_unlock(&hub->lock);
    srv_frame_unref(frame);
    return refused ? -1 : 0;
}

void srv_hub_remove(srv_hub *hub, srv_socket *socket) {
    pthread_mutex_lock(&hub->lock);
    if (socket->next) socket->next->previous = socket->previous;
    if (socket->previous) socket->previous->next = socket->next;
    else hub->first = socket->next;
    hub->count--;
    srv_queue_clear(&socket->queue);
    pthread_mutex_unlock(&hub->lock);
}

static int is_for(const srv_socket *socket, const char *client_id) {
    return !socket->replaced && (!client_id || !*client_id || strcmp(socket->id, client_id) == 0);
}

void srv_hub_send(srv_hub *hub, const char *client_id, const char *type, json_t *data) {
    srv_frame *frame = srv_hub_frame(type, data);
    if (!frame) return;
    pthread_mutex_lock(&hub->lock);
    for (srv_socket *socket = hub->first; socket; socket = socket->next)
        if (is_for(socket, client_id)) push(hub, socket, frame);
    pthread_mutex_unlock(&hub->lock);
    srv_frame_unref(frame);
}

void srv_hub_send_status(srv_hub *hub) {
    srv_hub_send(hub, NULL, "status", status_data(hub));
}

/* --- previews --------------------------------------------------------------------------------------------------------------- */
static void put_u32(unsigned char *out, size_t value) {
    for (int i = 0; i < 4; i++) out[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* Event 1: the kind of picture, then its bytes. */
static srv_frame *plain_preview(const char *type, const void *bytes, size_t size) {
    unsigned char head[8];
    put_u32(head, 1);
    put_u32(head + 4, strcmp(type, "image/png") == 0 ? 2 : 1);
    return srv_frame_new(SRV_WS_BINARY, head, sizeof head, bytes, size, 1);
}

/* Event 4: the length of the metadata, they, then the bytes. */
static srv_frame *described_preview(const char *type, const void *bytes, size_t size, const json_t *metadata) {
    srv_frame *frame = NULL;
    json_t *whole = metadata ? json_copy((json_t *)(uintptr_t)metadata) : json_object();
    if (whole) json_object_set_new(whole, "image_type", json_string(type));
    char *text = whole ? srv_json_dump(whole) : NULL;
    size_t length = text ? strlen(text) : 0;
    unsigned char *head = text ? malloc(8 + length) : NULL;
    if (head) {
        put_u32(head, 4);
        put_u32(head + 4, length);
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): its length stands before it */
        memcpy(head + 8, text, length);
        frame = srv_frame_new(SRV_WS_BINARY, head, 8 + length, bytes, size, 1);
    }
    free(head);
    free(text);
    json_decref(whole);
    return frame;
}

void srv_hub_send_preview(srv_hub *hub, const char *client_id, const char *type, const void *bytes, size_t size,
                          const json_t *metadata) {
    srv_frame *plain = NULL, *described = NULL;
    pthread_mutex_lock(&hub->lock);
    for (srv_socket *socket = hub->first; socket; socket = socket->next) {
        if (!is_for(socket, client_id)) continue;
        srv_frame **frame = socket->wants_metadata ? &described : &plain;
        if (!*frame)
            *frame = socket->wants_metadata ? described_preview(type, bytes, size, metadata)
                                            : plain_preview(type, bytes, size);
        if (*frame) push(hub, socket, *frame);
    }
    pthread_mutex_unlock(&hub->lock);
    srv_frame_unref(plain);
    srv_frame_unref(described);
}
