/* server/websocket.c - see websocket.h. */
#include "websocket.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http_text.h"

/* --- the handshake: base64 of SHA-1 (RFC 3174) --------------------------------------------------------------------------- */
static uint32_t turn(uint32_t x, int n) {
    return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t h[5], const unsigned char block[64]) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               (uint32_t)block[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = turn(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 || i >= 60 ? b ^ c ^ d : (b & c) | (b & d) | (c & d);
        uint32_t k = i < 20 ? 0x5a827999u : i < 40 ? 0x6ed9eba1u : i < 60 ? 0x8f1bbcdcu : 0xca62c1d6u;
        uint32_t next = turn(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = turn(b, 30);
        b = a;
        a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

/* Of at most 119 bytes: two blocks. */
static void sha1(unsigned char out[20], const char *text, size_t size) {
    uint32_t h[5] = { 0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u };
    unsigned char blocks[128] = { 0 };
    size_t n = size + 9 <= 64 ? 64 : 128;
    memcpy(blocks, text, size);
    blocks[size] = 0x80;
    blocks[n - 2] = (unsigned char)(size * 8 >> 8);
    blocks[n - 1] = (unsigned char)(size * 8);
    for (size_t i = 0; i < n; i += 64) sha1_block(h, blocks + i);
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

int srv_ws_accept(char out[SRV_WS_ACCEPT_SIZE], const char *key) {
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char MAGIC[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
    char text[24 + sizeof MAGIC];
    unsigned char digest[21] = { 0 };
    if (strlen(key) != 24 || strspn(key, LETTERS) != 22 || strcmp(key + 22, "==") != 0) return -1; /* 16 bytes */
    memcpy(text, key, 24);
    memcpy(text + 24, MAGIC, sizeof MAGIC);
    sha1(digest, text, sizeof text - 1);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | (uint32_t)digest[3 * i + 2];
        for (int k = 0; k < 4; k++) out[4 * i + k] = LETTERS[three >> (18 - 6 * k) & 63];
    }
    out[27] = '='; /* 20 bytes leave one letter over */
    out[28] = 0;
    return 0;
}

size_t srv_ws_head(unsigned char out[SRV_WS_HEAD_MAX], int opcode, size_t size) {
    int bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out[0] = (unsigned char)(0x80 | opcode);
    out[1] = (unsigned char)(bytes == 0 ? size : bytes == 2 ? 126 : 127);
    for (int i = 0; i < bytes; i++) out[2 + i] = (unsigned char)((uint64_t)size >> (8 * (bytes - 1 - i)));
    return 2 + (size_t)bytes;
}

/* --- frames ------------------------------------------------------------------------------------------------------------------ */
struct srv_ws_reader {
    size_t limit;
    unsigned char head[14];
    size_t head_size;
    int in_frame, opcode, final; /* of the frame that is being read */
    uint64_t left;
    size_t mask_at;
    int message_opcode; /* 0: between messages */
    unsigned char *message;
    size_t message_size, message_room;
    unsigned char control[125];
    size_t control_size;
};

srv_ws_reader *srv_ws_reader_new(size_t limit) {
    srv_ws_reader *reader = calloc(1, sizeof *reader);
    if (reader) reader->limit = limit;
    return reader;
}

void srv_ws_reader_free(srv_ws_reader *reader) {
    if (!reader) return;
    free(reader->message);
    free(reader);
}

/* Bytes that the head of a frame has, as far as it is known. */
static size_t head_needed(const srv_ws_reader *r) {
    if (r->head_size < 2) return 2;
    unsigned length = r->head[1] & 0x7f;
    return 2 + (length == 126 ? 2u : length == 127 ? 8u : 0u) + 4;
}

/* The head is whole: 0, or a code. */
static int begin_frame(srv_ws_reader *r) {
    unsigned length = r->head[1] & 0x7f;
    int bytes = length == 126 ? 2 : length == 127 ? 8 : 0;
    uint64_t size = bytes ? 0 : length;
    for (int i = 0; i < bytes; i++) size = size << 8 | r->head[2 + i];
    r->opcode = r->head[0] & 0x0f;
    r->final = r->head[0] >> 7;
    if ((r->head[0] & 0x70) || !(r->head[1] & 0x80)) return SRV_WS_PROTOCOL; /* clients mask what they send */
    if (size >> 63 || (bytes == 2 && size < 126) || (bytes == 8 && size < 65536)) return SRV_WS_PROTOCOL;
    if (r->opcode >= SRV_WS_CLOSE) {
        if (r->opcode > SRV_WS_PONG || !r->final || size > sizeof r->control) return SRV_WS_PROTOCOL;
        r->control_size = 0;
    } else {
        if (r->opcode > SRV_WS_BINARY || (r->opcode == 0) != (r->message_opcode != 0)) return SRV_WS_PROTOCOL;
        if (size > r->limit || size > r->limit - r->message_size) return SRV_WS_TOO_LARGE;
        if (r->opcode) r->message_opcode = r->opcode;
    }
    r->left = size;
    r->mask_at = 0;
    r->in_frame = 1;
    return 0;
}

static int add_payload(srv_ws_reader *r, const unsigned char *data, size_t size) {
    const unsigned char *mask = r->head + head_needed(r) - 4;
    unsigned char *to = r->control + r->control_size;
    if (r->opcode < SRV_WS_CLOSE) {
        if (r->message_room - r->message_size < size) { /* grows with what came, not with what was announced */
            size_t room = 2 * (r->message_size + size);
            unsigned char *grown = realloc(r->message, room);
            if (!grown) return SRV_WS_NO_MEMORY;
            r->message = grown;
            r->message_room = room;
        }
        to = r->message + r->message_size;
        r->message_size += size;
    } else {
        r->control_size += size;
    }
    for (size_t i = 0; i < size; i++) to[i] = data[i] ^ mask[(r->mask_at + i) & 3];
    r->mask_at += size;
    r->left -= size;
    return 0;
}

static int end_frame(srv_ws_reader *r, srv_ws_message_fn take, void *user) {
    static const unsigned char nothing[1] = { 0 };
    r->in_frame = 0;
    r->head_size = 0;
    if (r->opcode >= SRV_WS_CLOSE) return take(user, r->opcode, r->control, r->control_size) ? SRV_WS_NORMAL : 0;
    if (!r->final) return 0;
    int opcode = r->message_opcode;
    size_t size = r->message_size;
    const unsigned char *data = r->message ? r->message : nothing;
    r->message_opcode = 0;
    r->message_size = 0;
    if (opcode == SRV_WS_TEXT && !srv_is_utf8((const char *)data, size)) return SRV_WS_BAD_TEXT;
    return take(user, opcode, data, size) ? SRV_WS_NORMAL : 0;
}

int srv_ws_feed(srv_ws_reader *r, const unsigned char *data, size_t size, srv_ws_message_fn take, void *user) {
    int code = 0;
    while (!code && size) {
        if (!r->in_frame) {
            r->head[r->head_size++] = *data++;
            size--;
            if (r->head_size >= 2 && r->head_size == head_needed(r)) code = begin_frame(r);
        } else if (r->left) {
            size_t n = size < r->left ? size : (size_t)r->left;
            code = add_payload(r, data, n);
            data += n;
            size -= n;
        }
        if (!code && r->in_frame && r->left == 0) code = end_frame(r, take, user);
    }
    return code;
}
