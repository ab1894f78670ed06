/* core/stream.h - fields to little-endian bytes and back.
 *
 * One function that walks the fields serves to measure, to write and to read, so that the directions cannot differ.
 * Reading past the end gives zeros and sets short_of_data; nothing is ever read or written outside the given bytes. */
#ifndef TSR_STREAM_H
#define TSR_STREAM_H

#include <stddef.h>
#include <stdint.h>

typedef struct tsr__stream {
    unsigned char *out;      /* writing: NULL to measure */
    const unsigned char *in; /* reading, else NULL */
    size_t at, size;         /* size: of in */
    int short_of_data;
} tsr__stream;

void tsr__stream_bytes(tsr__stream *io, void *data, size_t size);
void tsr__stream_word64(tsr__stream *io, uint64_t *value);
void tsr__stream_word32(tsr__stream *io, uint32_t *value);
/* An int that is not negative; reading refuses what an int cannot hold by giving -1. */
void tsr__stream_whole(tsr__stream *io, int *value);
void tsr__stream_real32(tsr__stream *io, float *value);
void tsr__stream_real64(tsr__stream *io, double *value);
void tsr__stream_reals(tsr__stream *io, float *values, size_t count);
/* Bytes of a length that is written before them. Reading: *data points into `in`. */
void tsr__stream_block(tsr__stream *io, const void **data, size_t *size);
/* What is left to read. */
size_t tsr__stream_left(const tsr__stream *io);

/* FNV-1a: finds damage, not malice. */
uint64_t tsr__stream_checksum(const void *data, size_t size);

#endif /* TSR_STREAM_H */
