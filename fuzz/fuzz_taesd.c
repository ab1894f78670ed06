/* fuzz_taesd.c - TAESD from foreign bytes: its layouts put under one set of names, built, and a cell decoded and a picture
 * encoded where that succeeds. */
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "model/taesd.h"
#include "weights/model_parts.h"
#include "weights/taesd_files.h"

enum { SIDE = 8, MAX_CHANNELS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One for all inputs: opening it costs far more than the rest. */
static tsr__nn *context(void) {
    static tsr__nn *nn;
    const tsr__nn_options options = { TSR__F32, 1 };
    if (!nn && tsr__nn_new(&nn, &options, NULL) != TSR_OK) abort();
    return nn;
}

static void check_names(const tsr__weights *weights) {
    if (!tsr__weights_find(weights, "first_stage_model.vae_scale")) abort();
    for (size_t i = 0; i < tsr__weights_count(weights); i++)
        if (strncmp(tsr__weights_at(weights, i)->name, "first_stage_model.", 18) != 0) abort();
}

static void run(const tsr__weights *weights) {
    static float picture[3 * SIDE * SIDE], latent[MAX_CHANNELS];
    tsr__vae *vae = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__vae_new(&vae, context(), weights, "first_stage_model.", NULL, &err) != TSR_OK) {
        if (vae || err.status == TSR_OK || !err.message[0]) abort();
        return;
    }
    if (!tsr__vae_is_tiny(vae) || tsr__vae_latent_channels(vae) < 1) abort();
    if (tsr__vae_latent_channels(vae) <= MAX_CHANNELS) {
        (void)tsr__vae_decode(vae, picture, latent, 1, 1, 1, 0, NULL);
        (void)tsr__vae_encode(vae, latent, picture, 1, SIDE, SIDE, 0, NULL);
    }
    tsr__vae_free(vae);
}

/* The first byte chooses the model that it is for. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const tsr__checkpoint_kind kinds[] = { TSR_CHECKPOINT_UNKNOWN, TSR_CHECKPOINT_SD1, TSR_CHECKPOINT_SDXL };
    tsr__weights *source = NULL, *weights = NULL;
    tsr__union *all = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (size == 0 || tsr__weights_open_memory(&source, data + 1, size - 1, NULL) != TSR_OK) return 0;
    if (!tsr__parts_has_vae(source) || tsr__union_new(&all, "fuzz", NULL) != TSR_OK) {
        tsr__weights_close(source);
        return 0;
    }
    tsr__taesd_found found;
    const int is_tiny = tsr__taesd_find(&found, source);
    tsr_status status = tsr__union_own(all, source, &err);
    if (status == TSR_OK) status = tsr__parts_add_vae(all, source, kinds[data[0] % 3], &err);
    if (status == TSR_OK) status = tsr__union_finish(&weights, all, &err);
    else tsr__union_free(all);
    if (status != TSR_OK && (err.status == TSR_OK || !err.message[0])) abort();
    if (weights && is_tiny && tsr__taesd_is_at(weights, "first_stage_model.")) {
        check_names(weights);
        run(weights);
    }
    tsr__weights_close(weights);
    return 0;
}
