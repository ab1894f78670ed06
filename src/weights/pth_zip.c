/* weights/pth_zip.c - finding and checking a zip archive's stored entries (PKWARE's APPNOTE 4.3, 4.4, 4.5.3). */
#include "weights/pth_zip.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum {
    END_BYTES = 22,       /* 4.3.16 end of central directory record */
    END64_BYTES = 56,     /* 4.3.14, without its extensible part */
    LOCATOR_BYTES = 20,   /* 4.3.15 */
    DIRECTORY_BYTES = 46, /* 4.3.12, before the name */
    LOCAL_BYTES = 30,     /* 4.3.7, before the name */
    MAX_COMMENT = 65535,
    SHOWN_NAME = 80,
};
static const uint64_t MAX_ENTRIES = 400000;

static unsigned u16(const unsigned char *at) {
    return (unsigned)at[0] | (unsigned)at[1] << 8;
}

static uint32_t u32(const unsigned char *at) {
    return (uint32_t)u16(at) | (uint32_t)u16(at + 2) << 16;
}

static uint64_t u64(const unsigned char *at) {
    return (uint64_t)u32(at) | (uint64_t)u32(at + 4) << 32;
}

typedef struct directory {
    uint64_t count, size, offset;
} directory;

/* The last end record whose comment ends with the file. */
static const unsigned char *find_end(const tsr__zip *zip) {
    if (zip->size < END_BYTES) return NULL;
    for (size_t comment = 0; comment <= MAX_COMMENT && comment + END_BYTES <= zip->size; comment++) {
        const unsigned char *at = zip->data + zip->size - END_BYTES - comment;
        if (u32(at) == 0x06054b50 && u16(at + 20) == comment) return at;
    }
    return NULL;
}

static tsr_status read_end64(const tsr__zip *zip, const unsigned char *end, directory *out, tsr_error *err) {
    const size_t place = (size_t)(end - zip->data);
    if (place < LOCATOR_BYTES + END64_BYTES || u32(end - LOCATOR_BYTES) != 0x07064b50)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: bad zip archive: its zip64 record is missing", zip->path);
    const uint64_t at = u64(end - LOCATOR_BYTES + 8);
    if (at > place - LOCATOR_BYTES - END64_BYTES || u32(zip->data + at) != 0x06064b50)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: bad zip archive: its zip64 record is not where it should be",
                         zip->path);
    const unsigned char *record = zip->data + at;
    *out = (directory){ u64(record + 32), u64(record + 40), u64(record + 48) };
    return TSR_OK;
}

static tsr_status read_end(const tsr__zip *zip, directory *out, tsr_error *err) {
    const unsigned char *end = find_end(zip);
    if (!end)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: truncated: this zip archive has no end; fetch the file again",
                         zip->path);
    *out = (directory){ u16(end + 10), u32(end + 12), u32(end + 16) };
    if (out->count == 0xffff || out->size == 0xffffffff || out->offset == 0xffffffff) {
        tsr_status status = read_end64(zip, end, out, err);
        if (status != TSR_OK) return status;
    }
    const uint64_t limit = (uint64_t)(end - zip->data);
    if (out->offset > limit || out->size > limit - out->offset || out->count > out->size / DIRECTORY_BYTES)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: bad zip archive: its directory lies outside the file", zip->path);
    if (out->count > MAX_ENTRIES)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: zip archive with more than %llu entries", zip->path,
                         (unsigned long long)MAX_ENTRIES);
    return TSR_OK;
}

/* 4.5.3: the 64-bit sizes and place stand in an extra field, only those whose 32-bit field is full, in this order. */
static int read_extra64(tsr__zip_entry *entry, const unsigned char *extra, size_t length) {
    uint64_t *const wanted[] = { &entry->size, &entry->packed_size, &entry->header };
    int missing = 0;
    for (int i = 0; i < 3; i++) missing += *wanted[i] == 0xffffffff;
    while (missing && length >= 4) {
        const size_t field = u16(extra + 2);
        if (field > length - 4) return 0;
        if (u16(extra) == 1) {
            const unsigned char *at = extra + 4, *end = at + field;
            for (int i = 0; i < 3; i++) {
                if (*wanted[i] != 0xffffffff) continue;
                if (end - at < 8) return 0;
                *wanted[i] = u64(at);
                at += 8;
            }
            return 1;
        }
        extra += 4 + field;
        length -= 4 + field;
    }
    return !missing;
}

/* One record of the directory at `at`; 0 when it does not fit. */
static size_t read_entry(tsr__zip_entry *entry, const unsigned char *at, size_t left) {
    if (left < DIRECTORY_BYTES || u32(at) != 0x02014b50) return 0;
    const size_t name = u16(at + 28), extra = u16(at + 30), comment = u16(at + 32);
    if (name + extra + comment > left - DIRECTORY_BYTES) return 0;
    *entry = (tsr__zip_entry){
        .name = (const char *)at + DIRECTORY_BYTES,
        .name_length = name,
        .flags = u16(at + 8),
        .method = u16(at + 10),
        .packed_size = u32(at + 20),
        .size = u32(at + 24),
        .header = u32(at + 42),
    };
    if (!read_extra64(entry, at + DIRECTORY_BYTES + name, extra)) return 0;
    return DIRECTORY_BYTES + name + extra + comment;
}

static int compare(const char *a, size_t a_length, const char *b, size_t b_length) {
    const size_t common = a_length < b_length ? a_length : b_length;
    const int order = common ? memcmp(a, b, common) : 0;
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_entries(const void *left, const void *right) {
    const tsr__zip_entry *a = left, *b = right;
    return compare(a->name, a->name_length, b->name, b->name_length);
}

tsr_status tsr__zip_open(tsr__zip *out, const unsigned char *data, size_t size, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    directory place = { 0, 0, 0 };
    *out = (tsr__zip){ .data = data, .size = size, .path = path };
    TSR_TRY(read_end(out, &place, err));
    TSR_ALLOC_ZERO(err, out->entries, place.count + 1);
    const unsigned char *at = data + place.offset;
    size_t left = (size_t)place.size;
    for (; out->count < place.count; out->count++) {
        const size_t used = read_entry(&out->entries[out->count], at, left);
        if (!used)
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: bad zip archive: entry %zu of its directory is broken", path,
                     out->count);
        at += used;
        left -= used;
    }
    qsort(out->entries, out->count, sizeof *out->entries, compare_entries);
    for (size_t i = 1; i < out->count; i++) {
        if (compare_entries(&out->entries[i - 1], &out->entries[i]) == 0)
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: bad zip archive: two entries have one name", path);
    }
done:
    if (status != TSR_OK) tsr__zip_close(out);
    return status;
}

void tsr__zip_close(tsr__zip *zip) {
    free(zip->entries);
    zip->entries = NULL;
    zip->count = 0;
}

const tsr__zip_entry *tsr__zip_find(const tsr__zip *zip, const char *name, size_t length) {
    const tsr__zip_entry key = { .name = name, .name_length = length };
    return bsearch(&key, zip->entries, zip->count, sizeof key, compare_entries);
}

tsr_status tsr__zip_bytes(const tsr__zip *zip, const tsr__zip_entry *entry, const unsigned char **out, tsr_error *err) {
    char shown[SHOWN_NAME + 1];
    const size_t length = entry->name_length < SHOWN_NAME ? entry->name_length : SHOWN_NAME;
    for (size_t i = 0; i < length; i++)
        shown[i] = entry->name[i] >= 0x20 && entry->name[i] < 0x7f ? entry->name[i] : '?';
    shown[length] = '\0';
    *out = NULL;
    if (entry->method != 0 || (entry->flags & 1u) || entry->packed_size != entry->size)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: entry \"%s\" is compressed or encrypted; torch.save stores plainly",
                         zip->path, shown);
    if (entry->header > zip->size || zip->size - entry->header < LOCAL_BYTES ||
        u32(zip->data + entry->header) != 0x04034b50)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: bad zip archive: entry \"%s\" is not where it should be", zip->path,
                         shown);
    const unsigned char *local = zip->data + entry->header;
    const uint64_t begin = LOCAL_BYTES + (uint64_t)u16(local + 26) + u16(local + 28);
    const uint64_t left = zip->size - entry->header;
    if (begin > left || entry->size > left - begin)
        return tsr__fail(err, TSR_BAD_FORMAT,
                         "%s: truncated: entry \"%s\" has %llu bytes, which the file does not hold", zip->path, shown,
                         (unsigned long long)entry->size);
    *out = local + begin;
    return TSR_OK;
}
