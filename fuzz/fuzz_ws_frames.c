/* fuzz_ws_frames.c - a client's WebSocket bytes: whatever the pieces they come in, the same messages and the same end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http_text.h"
#include "websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 4096 };

typedef struct tally {
    size_t messages, bytes;
} tally;

static int take(void *user, int opcode, const unsigned char *data, size_t size) {
    tally *t = user;
    if (size > LIMIT || (opcode >= SRV_WS_CLOSE && size > 125)) abort();
    if (opcode == SRV_WS_TEXT && !srv_is_utf8((const char *)data, size)) abort();
    t->messages++;
    t->bytes += size;
    return opcode == SRV_WS_CLOSE;
}

static int feed(tally *t, const uint8_t *data, size_t size, size_t step) {
    srv_ws_reader *reader = srv_ws_reader_new(LIMIT);
    int code = 0;
    memset(t, 0, sizeof *t);
    for (size_t i = 0; reader && i < size && !code; i += step)
        code = srv_ws_feed(reader, data + i, size - i < step ? size - i : step, take, t);
    srv_ws_reader_free(reader);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tally whole, pieces;
    if (size == 0) return 0;
    int code = feed(&whole, data, size, size);
    if (code && (code < SRV_WS_NORMAL || code > SRV_WS_NO_MEMORY)) abort();
    if (feed(&pieces, data, size, 1) != code || memcmp(&whole, &pieces, sizeof whole) != 0) abort();
    return 0;
}
