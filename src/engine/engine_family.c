/* engine/engine_family.c - SD1, SD2 and SDXL: one row each, and the rules that tell eps from v. */
#include "engine/engine_family.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/check.h"
#include "core/memory.h"

static const tsr__family FAMILIES[] = {
    { TSR_CHECKPOINT_SD1, "SD1", TSR__TEXT_SD1, 0.18215f, 512 },
    { TSR_CHECKPOINT_SD2, "SD2", TSR__TEXT_SD2, 0.18215f, 768 },
    { TSR_CHECKPOINT_SDXL, "SDXL", TSR__TEXT_SDXL, 0.13025f, 1024 },
};

/* The family of a part, by the names of its text encoders; a VAE's does not matter. */
static tsr__checkpoint_kind kind_of_part(const tsr__weights *weights, tsr__checkpoint_kind kind) {
    if (kind != TSR_CHECKPOINT_TEXT_ENCODER && kind != TSR_CHECKPOINT_VAE && kind != TSR_CHECKPOINT_TAESD) return kind;
    if (tsr__weights_find(weights, "conditioner.embedders.1.model.token_embedding.weight")) return TSR_CHECKPOINT_SDXL;
    if (tsr__weights_find(weights, "cond_stage_model.model.token_embedding.weight")) return TSR_CHECKPOINT_SD2;
    return TSR_CHECKPOINT_SD1;
}

/* A VAE of another family may have been given beside the UNet. */
static tsr_status check_latents(const tsr__weights *weights, const tsr__checkpoint_info *info, tsr_error *err) {
    const long long c = (long long)info->unet_out_channels;
    if (info->variant == TSR_VARIANT_UNKNOWN)
        return tsr__fail(err, TSR_UNSUPPORTED,
                         "%s: %lld channels go into its UNet, %lld come out; what goes in must be %lld, %lld to edit "
                         "pictures or %lld for inpainting",
                         tsr__weights_path(weights), (long long)info->unet_in_channels, c, c, 2 * c, 2 * c + 1);
    if (!c || !info->vae_channels || c == info->vae_channels) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: its UNet paints latents of %lld channels, its VAE has %lld",
                     tsr__weights_path(weights), c, (long long)info->vae_channels);
}

tsr_status tsr__family_find(const tsr__family **out, const tsr__weights *weights, const tsr__checkpoint_info *info,
                            int partial, tsr_error *err) {
    const char *path = tsr__weights_path(weights), *what = tsr__checkpoint_kind_name(info->kind);
    const tsr__checkpoint_kind kind = partial ? kind_of_part(weights, info->kind) : info->kind;
    *out = NULL;
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
        if (FAMILIES[i].kind != kind) continue;
        if (info->missing[0] && !partial)
            return tsr__fail(err, TSR_UNSUPPORTED,
                             "%s: %s without all its parts (%s); give them too, or a full checkpoint", path, what,
                             info->missing);
        *out = &FAMILIES[i];
        return check_latents(weights, info, err);
    }
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: this is %s; a full SD1, SD2 or SDXL checkpoint is needed%s%s%s", path,
                     what, info->missing[0] ? " (" : "", info->missing, info->missing[0] ? ")" : "");
}

tsr_status tsr__family_choose(const tsr__family **family, const char *told, const tsr__weights *weights,
                              const tsr__checkpoint_info *info, tsr_error *err) {
    int is_vae = info->kind == TSR_CHECKPOINT_VAE || info->kind == TSR_CHECKPOINT_TAESD;
    if (!told || strcmp(told, "auto") == 0) return TSR_OK;
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
        if (strcasecmp(told, FAMILIES[i].name) != 0) continue;
        if (&FAMILIES[i] != *family && !is_vae)
            return tsr__fail(err, TSR_UNSUPPORTED,
                             "family: %s cannot be %s, its weights are those of %s; leave family out",
                             tsr__weights_path(weights), FAMILIES[i].name, (*family)->name);
        *family = &FAMILIES[i];
        return TSR_OK;
    }
    return tsr__fail(err, TSR_BAD_ARGUMENT, "family: '%.40s' is not auto, sd1, sd2 or sdxl", told);
}

/* SD2's 768-v and 512-base have the same names; the reference tells them apart by how widely this bias is spread. */
static tsr_status sd2_predicts_v(int *out, const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view =
        tsr__weights_find(weights, "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias");
    float *values = NULL;
    double sum = 0.0, squares = 0.0;
    *out = 0;
    if (!view || !view->count) return TSR_OK;
    TSR_ALLOC(err, values, view->count);
    TSR_TRY(tsr__tensor_to_f32(view, values, err));
    for (size_t i = 0; i < view->count; i++) sum += (double)values[i];
    double mean = sum / (double)view->count;
    for (size_t i = 0; i < view->count; i++) squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    *out = sqrt(squares / (double)view->count) > 0.09;
done:
    free(values);
    return status;
}

/* "eps" or "v" of tessera.config; -1 when it says nothing. */
static tsr_status config_prediction(int *out, const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *root = config ? json_loads(config, 0, NULL) : NULL;
    const json_t *value = json_object_get(root, "prediction");
    const char *text = json_string_value(value);
    *out = -1;
    if (!value) goto done;
    if (text && strcmp(text, "v") == 0) *out = TSR_PREDICTION_V;
    else if (text && strcmp(text, "eps") == 0) *out = TSR_PREDICTION_EPS;
    else TSR_FAIL(err, TSR_BAD_FORMAT, "tessera.config: prediction must be \"eps\" or \"v\"");
done:
    json_decref(root);
    return status;
}

tsr_status tsr__family_zero_snr(int *out, const tsr__weights *weights, const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *root = config ? json_loads(config, 0, NULL) : NULL;
    const json_t *value = json_object_get(root, "zsnr");
    *out = tsr__weights_find(weights, "v_pred") && tsr__weights_find(weights, "ztsnr");
    if (value && !json_is_boolean(value)) TSR_FAIL(err, TSR_BAD_FORMAT, "tessera.config: zsnr must be true or false");
    if (value) *out = json_is_true(value);
done:
    json_decref(root);
    return status;
}

tsr_status tsr__family_prediction(tsr_prediction *out, const tsr__family *family, const tsr__weights *weights,
                                  const tsr__checkpoint_info *info, const char *config, tsr_error *err) {
    tsr_status status = TSR_OK;
    int told = -1, v = 0;
    *out = TSR_PREDICTION_EPS;
    TSR_TRY(config_prediction(&told, config, err));
    if (told >= 0) {
        *out = (tsr_prediction)told;
        goto done;
    }
    if (tsr__weights_find(weights, "v_pred")) v = 1; /* a mark that v-prediction fine-tunes carry */
    /* SD2's inpainting model predicts eps, however wide the bias is spread. */
    else if (family->kind == TSR_CHECKPOINT_SD2 && info->variant == TSR_VARIANT_PLAIN)
        TSR_TRY(sd2_predicts_v(&v, weights, err));
    if (v) *out = TSR_PREDICTION_V;
done:
    return status;
}

void tsr__family_label(float *out, const float *pooled, int pooled_width, const float sizes[TSR__SIZE_VALUES]) {
    enum { HALF = TSR__SIZE_WIDTH / 2 };
    memcpy(out, pooled, (size_t)pooled_width * sizeof *out);
    out += pooled_width;
    for (int k = 0; k < TSR__SIZE_VALUES; k++, out += TSR__SIZE_WIDTH)
        for (int i = 0; i < HALF; i++) {
            float frequency = expf((float)(-log(10000.0)) * (float)i / (float)HALF);
            out[i] = cosf(sizes[k] * frequency);
            out[HALF + i] = sinf(sizes[k] * frequency);
        }
}
