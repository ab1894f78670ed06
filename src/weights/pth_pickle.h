/* weights/pth_pickle.h - reads a pickle into plain values, calling nothing.
 *
 * Owns the values (one arena for each reader). Knows the names of PyTorch's state dicts, but no files and no tensor data:
 * a tensor is the numbers its pickle gives, unchecked except for their kind. */
#ifndef TSR_PTH_PICKLE_H
#define TSR_PTH_PICKLE_H

#include "weights/weights.h"

enum { TSR__PICKLE_MAX_RANK = 8 };

typedef enum tsr__pickle_kind {
    TSR__PICKLE_NONE,
    TSR__PICKLE_BOOL,
    TSR__PICKLE_INT,
    TSR__PICKLE_BIG_INT, /* does not fit 64 bits: its bytes, little-endian */
    TSR__PICKLE_FLOAT,
    TSR__PICKLE_TEXT,
    TSR__PICKLE_BYTES,
    TSR__PICKLE_TUPLE,
    TSR__PICKLE_LIST,
    TSR__PICKLE_DICT, /* items: key, value, key, value, ... */
    TSR__PICKLE_GLOBAL,
    TSR__PICKLE_STORAGE,
    TSR__PICKLE_TENSOR,
} tsr__pickle_kind;

typedef struct tsr__pickle_value tsr__pickle_value;
struct tsr__pickle_value {
    tsr__pickle_kind kind;
    union {
        int64_t integer; /* BOOL, INT; of GLOBAL the row of the table of allowed names */
        double real;
        struct {
            const char *text; /* into the pickle, not 0-terminated */
            size_t length;
        } bytes;
        struct {
            tsr__pickle_value **at;
            size_t count, room;
        } items;
        struct {
            tsr__dtype dtype;
            const char *key;
            size_t key_length;
            int64_t count;                 /* elements */
            const tsr__pickle_value *next; /* the storage named before this one */
        } storage;
        struct {
            const tsr__pickle_value *storage;
            int64_t offset; /* elements */
            int rank;
            const tsr__pickle_value *shape, *strides; /* tuples of rank integers */
        } tensor;
    } u;
};

typedef struct tsr__pickle tsr__pickle;

tsr_status tsr__pickle_new(tsr__pickle **out, const char *path /* for messages, borrowed */, tsr_error *err);
void tsr__pickle_free(tsr__pickle *pickle);
/* Reads one pickle; *root stays valid until _free, data must stay as long. *used: bytes up to and with its STOP. */
tsr_status tsr__pickle_read(tsr__pickle *pickle, const tsr__pickle_value **root, const unsigned char *data, size_t size,
                            size_t *used, tsr_error *err);
/* The storages that pickles named so far, newest first, one key perhaps often; NULL when none. */
const tsr__pickle_value *tsr__pickle_storages(const tsr__pickle *pickle);
/* Of a dict: the value under that text, or NULL. */
const tsr__pickle_value *tsr__pickle_get(const tsr__pickle_value *dict, const char *key);
int tsr__pickle_is_text(const tsr__pickle_value *value, const char *text);

#endif /* TSR_PTH_PICKLE_H */
