/* weights/model_open.h - a model out of whatever files hold it, as one single-file checkpoint.
 *
 * One file of any kind, a diffusers folder, or parts in files of their own: what comes out has the names and shapes of a
 * single file, so nothing above knows the difference. Threads: immutable after opening. */
#ifndef TSR_MODEL_OPEN_H
#define TSR_MODEL_OPEN_H

#include "weights/weights.h"

/* Paths; NULL or "" where nothing is given. Parts of their own replace the model's. */
typedef struct tsr__model_files {
    const char
        *model; /* checkpoint, diffusers folder, or a UNet alone; may be missing where unet or another part is given */
    const char *unet;
    const char *text[2];
    const char *vae;
} tsr__model_files;
int tsr__model_files_given(const tsr__model_files *files); /* whether there is any part of its own */

/* What is missing in the result is not an error here. */
tsr_status tsr__model_open(tsr__weights **out, const tsr__model_files *files, tsr_error *err);

/* --- diffusers_folder.c --- */
/* The folder of a model_index.json: unet/, vae/, text_encoder/ and text_encoder_2/, each of one file or of shards that an
 * index names. What the folder's JSON says of heads and prediction becomes the metadata tessera.config. NOT_FOUND,
 * BAD_FORMAT, UNSUPPORTED (another family's pipeline), TOO_LARGE. */
tsr_status tsr__diffusers_open(tsr__weights **out, const char *folder, tsr_error *err);
int tsr__diffusers_is_model(const char *folder); /* whether it has a model_index.json */
/* Checks the text of an index of shards: {"weight_map": {TENSOR: FILE}}. *files_out lists its files, each once, ending in
 * NULL; names are plain ones, of files in that folder. Release it with tsr__shards_free. path: for messages. */
tsr_status tsr__shards_read(char ***files_out, const char *text, size_t size, const char *path, tsr_error *err);
void tsr__shards_free(char **files);
/* Which parts a model_index.json names. */
typedef struct tsr__pipeline {
    char name[64]; /* the class */
    int unet, vae, text[2];
} tsr__pipeline;
tsr_status tsr__pipeline_read(tsr__pipeline *out, const char *text, size_t size, const char *path, tsr_error *err);

#endif /* TSR_MODEL_OPEN_H */
