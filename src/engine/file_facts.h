/* engine/file_facts.h - what a file of weights is, gathered once for the two ways of telling it.
 *
 * Owns the opened weights; texts are literals or the weights'. */
#ifndef TSR_FILE_FACTS_H
#define TSR_FILE_FACTS_H

#include "engine/engine_family.h"
#include "weights/taesd_files.h"

typedef struct tsr__file_facts {
    const char *path; /* borrowed */
    const char
        *container; /* "safetensors", "GGUF", "PyTorch (zip)", "PyTorch (pickle)", "diffusers folder", "packed cache" */
    const char *layout; /* whose names the tensors have; NULL: none that is known */
    const char *family; /* "SD1", "SD2", "SDXL"; NULL: not told */
    tsr__weights *weights;
    tsr__checkpoint_info info;
    size_t bytes[TSR_DTYPE_COUNT_];
    int has_network; /* the next two are told */
    tsr_prediction prediction;
    int zero_snr;
    struct {
        size_t layers, dora; /* low-rank layers; those with DoRA's scale */
        long long lowest, highest;
    } adapter;
    long long vectors;                     /* of a textual inversion; 0: none */
    char unusable[TSR_ERROR_MESSAGE_SIZE]; /* why a UNet alone cannot be opened as --unet does; "" when it can */
    int has_tiny;
    tsr__taesd_found tiny;
} tsr__file_facts;

tsr_status tsr__file_facts_open(tsr__file_facts *out, const char *path, tsr_error *err);
void tsr__file_facts_clear(tsr__file_facts *facts);

/* --- engine_inspect_json.c: one JSON object on one line; *out is released with free() --- */
tsr_status tsr__inspect_weights_json(char **out, const tsr__file_facts *facts, tsr_error *err);
/* scene: JSON of the picture's scene, or NULL. */
tsr_status tsr__inspect_picture_json(char **out, const char *path, const tsr_image *image, const char *scene,
                                     tsr_error *err);

#endif /* TSR_FILE_FACTS_H */
