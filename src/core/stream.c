/* core/stream.c - see stream.h. */
#include "core/stream.h"

#include <limits.h>
#include <string.h>

void tsr__stream_bytes(tsr__stream *io, void *data, size_t size) {
    if (io->in && size > io->size - io->at) {
        io->short_of_data = 1;
        memset(data, 0, size);
        return;
    }
    if (io->in) memcpy(data, io->in + io->at, size);
    if (io->out) memcpy(io->out + io->at, data, size);
    io->at += size;
}

void tsr__stream_word64(tsr__stream *io, uint64_t *value) {
    unsigned char b[8];
    for (int i = 0; i < 8; i++) b[i] = (unsigned char)(*value >> (8 * i));
    tsr__stream_bytes(io, b, sizeof b);
    if (!io->in) return;
    *value = 0;
    for (int i = 0; i < 8; i++) *value |= (uint64_t)b[i] << (8 * i);
}

void tsr__stream_word32(tsr__stream *io, uint32_t *value) {
    unsigned char b[4] = { (unsigned char)*value, (unsigned char)(*value >> 8), (unsigned char)(*value >> 16),
                           (unsigned char)(*value >> 24) };
    tsr__stream_bytes(io, b, sizeof b);
    if (io->in) *value = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

void tsr__stream_whole(tsr__stream *io, int *value) {
    uint32_t word = (uint32_t)*value;
    tsr__stream_word32(io, &word);
    if (io->in) *value = word > INT_MAX ? -1 : (int)word;
}

void tsr__stream_real32(tsr__stream *io, float *value) {
    uint32_t word;
    memcpy(&word, value, sizeof word);
    tsr__stream_word32(io, &word);
    memcpy(value, &word, sizeof word);
}

void tsr__stream_real64(tsr__stream *io, double *value) {
    uint64_t word;
    memcpy(&word, value, sizeof word);
    tsr__stream_word64(io, &word);
    memcpy(value, &word, sizeof word);
}

void tsr__stream_reals(tsr__stream *io, float *values, size_t count) {
    if (!io->in && !io->out) {
        io->at += count * sizeof *values;
        return;
    }
    for (size_t i = 0; i < count; i++) tsr__stream_real32(io, &values[i]);
}

void tsr__stream_block(tsr__stream *io, const void **data, size_t *size) {
    uint64_t length = *size;
    tsr__stream_word64(io, &length);
    if (io->in) {
        if (io->short_of_data || length > tsr__stream_left(io)) {
            io->short_of_data = 1;
            length = 0;
        }
        *data = io->in + io->at;
        *size = (size_t)length;
    }
    if (io->out && length) memcpy(io->out + io->at, *data, (size_t)length);
    io->at += (size_t)length;
}

size_t tsr__stream_left(const tsr__stream *io) {
    return io->size - io->at;
}

uint64_t tsr__stream_checksum(const void *data, size_t size) {
    const unsigned char *bytes = data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}
