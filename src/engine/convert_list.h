/* engine/convert_list.h - what is written when a model is converted: tensors under their new names, made one by one.
 *
 * A list borrows the numbers of the weights. Knows no containers and no names of networks. */
#ifndef TSR_CONVERT_LIST_H
#define TSR_CONVERT_LIST_H

#include "tessera/engine.h"
#include "weights/gguf.h"

/* How far all lists of one conversion are. */
typedef struct tsr__convert_watch {
    tsr_convert_fn progress;
    void *user;
    uint64_t done, total; /* bytes */
} tsr__convert_watch;

typedef struct tsr__convert_item {
    tsr__tensor_view view; /* where the numbers come from; may be rows of a tensor */
    int turned;            /* a matrix that is transposed */
} tsr__convert_item;

typedef struct tsr__convert_list {
    const tsr__weights *weights; /* borrowed */
    tsr__tensor_out *out;        /* names are the list's */
    tsr__convert_item *items;
    size_t count, room;
    tsr__convert_watch *watch; /* borrowed */
    float *values[2];          /* scratch for the largest tensor that is computed, and for its transpose */
    unsigned char *bytes;
} tsr__convert_list;

/* Adds a tensor with the type that it has. */
tsr_status tsr__convert_list_add(tsr__convert_list *list, const char *name, const tsr__tensor_view *view, int turned,
                                 tsr_error *err);
void tsr__convert_list_clear(tsr__convert_list *list);
uint64_t tsr__convert_list_bytes(const tsr__convert_list *list);
/* When all types are chosen: makes room for making them. */
tsr_status tsr__convert_list_ready(tsr__convert_list *list, tsr_error *err);
/* For tsr__safetensors_save_made and tsr__gguf_save_made; user is the list. */
tsr_status tsr__convert_list_make(void *user, size_t index, const void **data, tsr_error *err);

#endif /* TSR_CONVERT_LIST_H */
