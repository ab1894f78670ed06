/* fuzz_diffusers_json.c - model_index.json and the index of shards: what comes through stays in its folder. */
#include <stdlib.h>
#include <string.h>

#include "weights/model_open.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tsr__pipeline pipeline;
    char **files = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = tsr__pipeline_read(&pipeline, (const char *)data, size, "model_index.json", &err);
    if (status == TSR_OK ? !pipeline.unet || !pipeline.name[0] : err.status == TSR_OK || !err.message[0]) abort();
    tsr_error other = TSR_ERROR_INIT;
    status = tsr__shards_read(&files, (const char *)data, size, "index.json", &other);
    if (status != TSR_OK && (files || other.status == TSR_OK || !other.message[0])) abort();
    if (status == TSR_OK && !files[0]) abort();
    for (int i = 0; files && files[i]; i++) {
        if (!files[i][0] || files[i][0] == '.' || strpbrk(files[i], "/\\")) abort();
        for (int k = 0; k < i; k++)
            if (strcmp(files[i], files[k]) == 0) abort();
    }
    tsr__shards_free(files);
    return 0;
}
