/* weights/lora_keys.h - the names a checkpoint's layer has in adapter files. Pure text; knows no tensors. */
#ifndef TSR_LORA_KEYS_H
#define TSR_LORA_KEYS_H

#include <stddef.h>

enum { TSR__LORA_NAME_SIZE = 256, TSR__LORA_MAX_NAMES = 16 };

typedef struct tsr__lora_names {
    char at[TSR__LORA_MAX_NAMES][TSR__LORA_NAME_SIZE];
    int count;
    int is_bias; /* the checkpoint's tensor is the layer's bias, not its weight */
} tsr__lora_names;

/* All names of the layer whose weight or bias the checkpoint calls key; count 0 when adapters do not name it. */
void tsr__lora_names_of(tsr__lora_names *out, const char *key);
/* OpenCLIP's attn.in_proj_weight holds q, k and v, a third of the rows each, which adapters name one by one: the three names
 * that tsr__lora_names_of knows. 0 for every other key. */
int tsr__lora_split(const char *key, char parts[3][TSR__LORA_NAME_SIZE]);
/* Whether key belongs to a text encoder. */
int tsr__lora_is_text(const char *key);

#endif /* TSR_LORA_KEYS_H */
