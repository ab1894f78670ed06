/* The bounded queue of a WebSocket: order, limits, and who goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub_queue.h"
#include "websocket.h"

static int add(srv_queue *queue, const char *text, int preview) {
    srv_frame *frame = srv_frame_new(preview ? SRV_WS_BINARY : SRV_WS_TEXT, NULL, 0, text, strlen(text), preview);
    assert_non_null(frame);
    int result = srv_queue_push(queue, frame);
    srv_frame_unref(frame);
    return result;
}

/* Takes the first frame out and compares what it carries. */
static void expect(srv_queue *queue, const char *text) {
    srv_frame *frame = srv_queue_take(queue);
    assert_non_null(frame);
    size_t size = srv_frame_size(frame), length = strlen(text);
    assert_int_equal(size, length + 2);
    assert_memory_equal(srv_frame_bytes(frame) + 2, text, length);
    srv_queue_advance(queue, size);
    srv_frame_unref(frame);
}

static void hub_queue__frames_leave_in_order(void **state) {
    srv_queue queue = { .max_bytes = 100, .max_count = 10 };
    (void)state;
    assert_int_equal(add(&queue, "one", 0), 0);
    assert_int_equal(add(&queue, "two", 1), 0);
    assert_int_equal(add(&queue, "three", 0), 0);
    expect(&queue, "one");
    expect(&queue, "two");
    expect(&queue, "three");
    assert_null(srv_queue_take(&queue));
    assert_int_equal(queue.bytes, 0);
    assert_int_equal(queue.count, 0);
}

static void hub_queue__a_frame_may_leave_in_pieces(void **state) {
    srv_queue queue = { .max_bytes = 100, .max_count = 10 };
    (void)state;
    add(&queue, "long", 0);
    add(&queue, "next", 0);
    srv_frame *first = srv_queue_take(&queue);
    srv_queue_advance(&queue, 2);
    srv_frame_unref(first);
    assert_int_equal(queue.sent, 2);
    first = srv_queue_take(&queue);
    srv_queue_advance(&queue, 4);
    srv_frame_unref(first);
    assert_int_equal(queue.sent, 0);
    expect(&queue, "next");
}

static void hub_queue__only_the_newest_preview_waits(void **state) {
    srv_queue queue = { .max_bytes = 100, .max_count = 10 };
    (void)state;
    add(&queue, "p1", 1);
    add(&queue, "text", 0);
    add(&queue, "p2", 1);
    add(&queue, "p3", 1);
    assert_int_equal(queue.dropped, 2);
    expect(&queue, "text");
    expect(&queue, "p3");
    assert_null(srv_queue_take(&queue));
}

static void hub_queue__a_preview_on_its_way_stays(void **state) {
    srv_queue queue = { .max_bytes = 100, .max_count = 10 };
    (void)state;
    add(&queue, "p1", 1);
    srv_frame *first = srv_queue_take(&queue); /* being sent */
    add(&queue, "p2", 1);
    assert_int_equal(queue.dropped, 0);
    srv_queue_advance(&queue, 1); /* half sent */
    srv_frame_unref(first);
    add(&queue, "p3", 1);
    assert_int_equal(queue.dropped, 1);
    first = srv_queue_take(&queue);
    assert_memory_equal(srv_frame_bytes(first) + 2, "p1", 2);
    srv_queue_advance(&queue, 3);
    srv_frame_unref(first);
    expect(&queue, "p3");
}

static void hub_queue__previews_make_room_then_the_queue_is_full(void **state) {
    srv_queue queue = { .max_bytes = 24, .max_count = 3 };
    (void)state;
    assert_int_equal(add(&queue, "a", 0), 0);
    assert_int_equal(add(&queue, "p", 1), 0);
    assert_int_equal(add(&queue, "b", 0), 0);
    assert_int_equal(add(&queue, "c", 0), 0); /* in the preview's place */
    assert_int_equal(queue.dropped, 1);
    assert_int_equal(add(&queue, "p", 1), 0); /* left out, which is no fault */
    assert_int_equal(queue.dropped, 2);
    assert_int_equal(add(&queue, "d", 0), -1); /* too many */
    expect(&queue, "a");
    assert_int_equal(add(&queue, "01234567890123456789", 0), -1); /* too large */
    expect(&queue, "b");
    expect(&queue, "c");
    add(&queue, "left", 0);
    srv_queue_clear(&queue);
    assert_null(srv_queue_take(&queue));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hub_queue__frames_leave_in_order),
        cmocka_unit_test(hub_queue__a_frame_may_leave_in_pieces),
        cmocka_unit_test(hub_queue__only_the_newest_preview_waits),
        cmocka_unit_test(hub_queue__a_preview_on_its_way_stays),
        cmocka_unit_test(hub_queue__previews_make_room_then_the_queue_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
