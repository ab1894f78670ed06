/* The WebSocket protocol: RFC 6455's own examples, pieces of every size, and what is against it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "websocket.h"

typedef struct heard {
    int count, opcode;
    size_t size;
    unsigned char data[256];
} heard;

static int take(void *user, int opcode, const unsigned char *data, size_t size) {
    heard *h = user;
    h->count++;
    h->opcode = opcode;
    h->size = size;
    if (size <= sizeof h->data) memcpy(h->data, data, size);
    return opcode == SRV_WS_CLOSE;
}

/* Feeds the bytes in pieces of `step` into a fresh reader. */
static int feed(heard *h, const void *bytes, size_t size, size_t step) {
    srv_ws_reader *reader = srv_ws_reader_new(1000);
    const unsigned char *at = bytes;
    int code = 0;
    assert_non_null(reader);
    memset(h, 0, sizeof *h);
    for (size_t i = 0; i < size && !code; i += step)
        code = srv_ws_feed(reader, at + i, size - i < step ? size - i : step, take, h);
    srv_ws_reader_free(reader);
    return code;
}

static void websocket__the_handshake_is_the_rfcs(void **state) {
    char accept[SRV_WS_ACCEPT_SIZE];
    (void)state;
    assert_int_equal(srv_ws_accept(accept, "dGhlIHNhbXBsZSBub25jZQ=="), 0);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_int_equal(srv_ws_accept(accept, "dGhlIHNhbXBsZSBub25jZQ="), -1);
    assert_int_equal(srv_ws_accept(accept, "dGhlIHNhbXBsZSBub25jZ!=="), -1);
    assert_int_equal(srv_ws_accept(accept, ""), -1);
}

static void websocket__heads_have_the_shortest_length(void **state) {
    unsigned char head[SRV_WS_HEAD_MAX];
    (void)state;
    assert_int_equal(srv_ws_head(head, SRV_WS_TEXT, 125), 2);
    assert_memory_equal(head, "\x81\x7d", 2);
    assert_int_equal(srv_ws_head(head, SRV_WS_BINARY, 256), 4);
    assert_memory_equal(head, "\x82\x7e\x01\x00", 4);
    assert_int_equal(srv_ws_head(head, SRV_WS_BINARY, 65536), 10);
    assert_memory_equal(head, "\x82\x7f\0\0\0\0\0\x01\0\0", 10);
}

static void websocket__messages_arrive_in_pieces_of_any_size(void **state) {
    static const char masked[] = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; /* "Hello", RFC 6455, 5.7 */
    heard h;
    (void)state;
    for (size_t step = 1; step < sizeof masked; step++) {
        assert_int_equal(feed(&h, masked, sizeof masked - 1, step), 0);
        assert_int_equal(h.count, 1);
        assert_int_equal(h.opcode, SRV_WS_TEXT);
        assert_int_equal(h.size, 5);
        assert_memory_equal(h.data, "Hello", 5);
    }
}

static void websocket__fragments_join_around_control_frames(void **state) {
    static const char bytes[] = "\x01\x82\0\0\0\0He\x89\x81\0\0\0\0!\x80\x83\0\0\0\0llo";
    heard h;
    (void)state;
    assert_int_equal(feed(&h, bytes, sizeof bytes - 1, 1), 0);
    assert_int_equal(h.count, 2);
    assert_memory_equal(h.data, "Hello", 5);
    assert_int_equal(feed(&h, "\x89\x80\0\0\0\0", 6, 6), 0);
    assert_int_equal(h.opcode, SRV_WS_PING);
    assert_int_equal(h.size, 0);
}

static void websocket__what_is_against_the_protocol_ends_it(void **state) {
    static const struct {
        const char *bytes;
        size_t size;
        int code;
    } rows[] = {
        { "\x81\x05Hello", 7, SRV_WS_PROTOCOL },                        /* not masked */
        { "\xc1\x80\0\0\0\0", 6, SRV_WS_PROTOCOL },                     /* a reserved bit */
        { "\x83\x80\0\0\0\0", 6, SRV_WS_PROTOCOL },                     /* a reserved opcode */
        { "\x8b\x80\0\0\0\0", 6, SRV_WS_PROTOCOL },                     /* a reserved control opcode */
        { "\x80\x80\0\0\0\0", 6, SRV_WS_PROTOCOL },                     /* a continuation of nothing */
        { "\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, SRV_WS_PROTOCOL },    /* a message within a message */
        { "\x09\x80\0\0\0\0", 6, SRV_WS_PROTOCOL },                     /* a control frame in pieces */
        { "\x89\xfe\x00\x7e\0\0\0\0", 8, SRV_WS_PROTOCOL },             /* a long control frame */
        { "\x81\xfe\x00\x05\0\0\0\0", 8, SRV_WS_PROTOCOL },             /* a length longer than it needs */
        { "\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14, SRV_WS_PROTOCOL },  /* a negative length */
        { "\x82\xfe\x03\xe9\0\0\0\0", 8, SRV_WS_TOO_LARGE },            /* 1001 bytes */
        { "\x82\xff\0\0\0\xff\0\0\0\0\0\0\0\0", 14, SRV_WS_TOO_LARGE }, /* a terabyte is not waited for */
        { "\x81\x82\0\0\0\0\xc0\xae", 8, SRV_WS_BAD_TEXT },
        { "\x88\x80\0\0\0\0", 6, SRV_WS_NORMAL },
    };
    heard h;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(feed(&h, rows[i].bytes, rows[i].size, 1), rows[i].code);
        assert_int_equal(feed(&h, rows[i].bytes, rows[i].size, rows[i].size), rows[i].code);
    }
}

static void websocket__fragments_count_together(void **state) {
    unsigned char bytes[2 * 608];
    heard h;
    (void)state;
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, "\x02\xfe\x02\x58", 4); /* 600 bytes */
    memcpy(bytes + 608, "\x80\xfe\x02\x58", 4);
    assert_int_equal(feed(&h, bytes, sizeof bytes, 64), SRV_WS_TOO_LARGE);
    assert_int_equal(h.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(websocket__the_handshake_is_the_rfcs),
        cmocka_unit_test(websocket__heads_have_the_shortest_length),
        cmocka_unit_test(websocket__messages_arrive_in_pieces_of_any_size),
        cmocka_unit_test(websocket__fragments_join_around_control_frames),
        cmocka_unit_test(websocket__what_is_against_the_protocol_ends_it),
        cmocka_unit_test(websocket__fragments_count_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
