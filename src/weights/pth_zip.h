/* weights/pth_zip.h - the stored entries of a zip archive in memory.
 *
 * Owns the sorted index, borrows the bytes. Knows nothing of PyTorch; reads what its archives use: stored (not
 * compressed) entries and zip64. Checksums are not verified. */
#ifndef TSR_PTH_ZIP_H
#define TSR_PTH_ZIP_H

#include "weights/weights.h"

typedef struct tsr__zip_entry {
    const char *name; /* not 0-terminated */
    size_t name_length;
    uint64_t size, header; /* bytes; place of the local header */
    unsigned flags, method;
    uint64_t packed_size;
} tsr__zip_entry;

typedef struct tsr__zip {
    const unsigned char *data;
    size_t size;
    const char *path;        /* for messages, borrowed */
    tsr__zip_entry *entries; /* sorted by name */
    size_t count;
} tsr__zip;

/* Reads the central directory; every number in it is checked against the file. */
tsr_status tsr__zip_open(tsr__zip *out, const unsigned char *data, size_t size, const char *path, tsr_error *err);
void tsr__zip_close(tsr__zip *zip);
const tsr__zip_entry *tsr__zip_find(const tsr__zip *zip, const char *name, size_t length); /* NULL when absent */
/* The entry's bytes; UNSUPPORTED when they are compressed or encrypted. */
tsr_status tsr__zip_bytes(const tsr__zip *zip, const tsr__zip_entry *entry, const unsigned char **out, tsr_error *err);

#endif /* TSR_PTH_ZIP_H */
