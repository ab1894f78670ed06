/* engine/engine_job_concat.c - an init image and its mask as inpainting networks see them: encoded with grey where it is to be
 * repainted, as ComfyUI's InpaintModelConditioning does. */
#include <stdlib.h>

#include "engine/engine_priv.h"
#include "picture/mask_priv.h"

static int for_inpainting(const tsr_guide *guide) {
    return ((const tsr_engine *)guide->denoiser->user)->checkpoint.variant == TSR_VARIANT_INPAINT;
}

tsr_status tsr__job_make_concat(tsr__job *job, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_mask *mask = job->latent->noise_mask;
    int wanted = for_inpainting(&job->base.guide);
    for (int i = 0; i < job->region_count; i++) wanted |= for_inpainting(&job->regions[i].guide);
    if (!wanted || !job->rgb || !mask) goto done;
    /* Of a batch of masks the first counts. */
    tsr__mask_grey_out(job->rgb, 3, mask->values, (size_t)mask->width * (size_t)mask->height);
    TSR_TRY(tsr__engine_encode_rgb(&job->concat, engine, job->rgb, job->width, job->height,
                                   tsr__scene_int(job->scene, TSR__OPT_VAE_TILE), err));
    TSR_TRY(tsr_mask_copy(&job->concat->noise_mask, mask, err));
done:
    free(job->rgb);
    job->rgb = NULL;
    return status;
}
