/* graph/nodes_inpaint.c - rows that make latents and conditionings for repainting a part of a picture, and for editing one.
 *
 * What networks do with a conditioning's picture is in engine/engine_concat.h. */
#include <string.h>

#include "graph/graph_priv.h"
#include "picture/mask_priv.h"

/* --- pictures and masks cut alike -------------------------------------------------------------------------------------------- */
/* What VAEs take: multiples of 8, out of the middle. */
typedef struct box {
    int left, top, w, h;
} box;

static tsr_status box_of(box *out, const tsr__pictures *p, tsr_error *err) {
    const box found = { p->w % 8 / 2, p->h % 8 / 2, p->w / 8 * 8, p->h / 8 * 8 };
    *out = found;
    if (found.w >= 8 && found.h >= 8) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "pixels: %dx%d is smaller than 8x8", p->w, p->h);
}

/* Scaled to the pictures' size, then cut. */
static tsr_status fit_mask(tsr_mask **out, const tsr_mask *mask, const tsr__pictures *p, box b, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_mask *sized = NULL;
    TSR_TRY(tsr_mask_resize(&sized, mask, p->w, p->h, err));
    TSR_TRY(tsr_mask_new(out, b.w, b.h, 0.0f, err));
    for (int y = 0; y < b.h; y++)
        memcpy((*out)->values + (size_t)y * (size_t)b.w,
               sized->values + (size_t)(y + b.top) * (size_t)p->w + (size_t)b.left, (size_t)b.w * sizeof(float));
done:
    tsr_mask_free(sized);
    return status;
}

static tsr_status cut_pictures(tsr__value **out, const tsr__pictures *p, box b, tsr_error *err) {
    tsr_status status = tsr__value_pictures(out, p->n, b.h, b.w, 3, err);
    float *to = status == TSR_OK ? (*out)->pictures.values : NULL;
    for (size_t i = 0; to && i < (size_t)p->n; i++)
        for (size_t y = 0; y < (size_t)b.h; y++)
            for (size_t x = 0; x < (size_t)b.w; x++, to += 3)
                memcpy(to,
                       p->values +
                           ((i * (size_t)p->h + y + (size_t)b.top) * (size_t)p->w + x + (size_t)b.left) * (size_t)p->c,
                       3 * sizeof *to);
    return status;
}

/* masks: one for all, or one each. */
static void grey_out(tsr__pictures *p, tsr_mask *const *masks, int n_masks) {
    const size_t plane = (size_t)p->h * (size_t)p->w;
    for (size_t i = 0; i < (size_t)p->n; i++)
        tsr__mask_grey_out(p->values + i * plane * (size_t)p->c, p->c, masks[n_masks > 1 ? i : 0]->values, plane);
}

/* The masks at the size of the cut pictures, as one batch: one for all pictures, or one each. */
static tsr_status fit_masks(tsr__value **out, const tsr__masks *given, const tsr__pictures *p, box b, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *masks = NULL;
    *out = NULL;
    if (given->n != 1 && given->n != p->n)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "mask: %d masks for %d pictures; give one, or one for each", given->n, p->n);
    TSR_TRY(tsr__value_masks(&masks, given->n, b.w, b.h, err));
    for (int i = 0; i < given->n; i++) {
        tsr_mask_free(masks->masks.items[i]);
        masks->masks.items[i] = NULL;
        TSR_TRY(fit_mask(&masks->masks.items[i], given->items[i], p, b, err));
    }
    *out = masks;
    masks = NULL;
done:
    tsr__value_unref(masks);
    return status;
}

/* --- VAEEncodeForInpaint ------------------------------------------------------------------------------------------------------- */
static const tsr__input encode_inputs[] = {
    TSR__LINK("pixels", IMAGE, "The pictures."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__LINK("mask", MASK, "1: repaint."),
    TSR__INT("grow_mask_by", 6, 0, 64, "Pixels by which the mask grows, so that edges are repainted too."),
    TSR__END,
};

/* In place. */
static tsr_status grow_masks(tsr__masks *masks, int by, tsr_error *err) {
    for (int i = 0; i < masks->n; i++) {
        tsr_mask *grown = NULL, *mask = masks->items[i];
        tsr_status status = tsr_mask_grow(&grown, mask, mask->width, mask->height, by, err);
        if (status != TSR_OK) return status;
        masks->items[i] = grown;
        tsr_mask_free(mask);
    }
    return TSR_OK;
}

static tsr_status run_encode(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pictures *p = &tsr__arg(call->in, "pixels")->pictures;
    tsr__value *pixels = NULL, *masks = NULL;
    tsr_latent *latent = NULL;
    box b;
    TSR_TRY(box_of(&b, p, err));
    TSR_TRY(fit_masks(&masks, &tsr__arg(call->in, "mask")->masks, p, b, err));
    TSR_TRY(cut_pictures(&pixels, p, b, err));
    grey_out(&pixels->pictures, masks->masks.items, masks->masks.n);
    TSR_TRY(tsr__encode(&latent, call->graph, tsr__arg(call->in, "vae"), &pixels->pictures, 0, err));
    TSR_TRY(grow_masks(&masks->masks, tsr__arg_int(call->in, "grow_mask_by"), err));
    TSR_TRY(tsr__noise_mask(&latent->noise_mask, masks, err));
    status = tsr__value_take_latent(&call->results[0], latent, err);
    latent = NULL;
done:
    tsr_latent_free(latent);
    tsr__value_unref(pixels);
    tsr__value_unref(masks);
    return status;
}

/* --- conditionings that bring a picture --------------------------------------------------------------------------------------- */
/* Both lists, every entry with `concat` (LATENT) in place of what it had. */
static tsr_status set_concat(tsr__call *call, tsr__value *concat, tsr_error *err) {
    static const char *const lists[] = { "positive", "negative" };
    for (int i = 0; i < 2; i++) {
        tsr__value *result = NULL;
        tsr_status status = tsr__value_copy_conds(&result, tsr__arg(call->in, lists[i]), err);
        if (status != TSR_OK) return status;
        for (int k = 0; k < result->n_conds; k++) {
            tsr__value_unref(result->conds[k].concat);
            result->conds[k].concat = tsr__value_ref(concat);
        }
        call->results[i] = result;
    }
    return TSR_OK;
}

static const tsr__input model_inputs[] = {
    TSR__LINK("positive", CONDITIONING, "The positive conditioning."),
    TSR__LINK("negative", CONDITIONING, "The negative conditioning."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__LINK("pixels", IMAGE, "The pictures; cut to multiples of 8 in the middle."),
    TSR__LINK("mask", MASK, "1: repaint."),
    TSR__BOOL(
        "noise_mask", 1,
        "Add a noise mask to the latent, so that only what is inside the mask is sampled. Off, the network paints "
        "all of the picture."),
    TSR__END,
};

static tsr_status run_model(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__value *vae = tsr__arg(call->in, "vae");
    const tsr__pictures *p = &tsr__arg(call->in, "pixels")->pictures;
    tsr__value *pixels = NULL, *masks = NULL, *concat = NULL;
    tsr_latent *masked = NULL, *latent = NULL;
    box b;
    TSR_TRY(box_of(&b, p, err));
    TSR_TRY(fit_masks(&masks, &tsr__arg(call->in, "mask")->masks, p, b, err));
    TSR_TRY(cut_pictures(&pixels, p, b, err));
    grey_out(&pixels->pictures, masks->masks.items, masks->masks.n);
    TSR_TRY(tsr__encode(&masked, call->graph, vae, &pixels->pictures, 0, err));
    TSR_TRY(tsr__noise_mask(&masked->noise_mask, masks, err));
    status = tsr__value_take_latent(&concat, masked, err);
    masked = NULL;
    if (status != TSR_OK) goto done;
    TSR_TRY(tsr__encode(&latent, call->graph, vae, p, 0, err));
    if (tsr__arg_bool(call->in, "noise_mask")) TSR_TRY(tsr__noise_mask(&latent->noise_mask, masks, err));
    TSR_TRY(set_concat(call, concat, err));
    status = tsr__value_take_latent(&call->results[2], latent, err);
    latent = NULL;
done:
    tsr_latent_free(masked);
    tsr_latent_free(latent);
    tsr__value_unref(pixels);
    tsr__value_unref(masks);
    tsr__value_unref(concat);
    return status;
}

static const tsr__input edit_inputs[] = {
    TSR__LINK("positive", CONDITIONING, "The positive conditioning: what to change."),
    TSR__LINK("negative", CONDITIONING, "The negative conditioning."),
    TSR__LINK("vae", VAE, "The model's VAE."),
    TSR__LINK("pixels", IMAGE, "The pictures to edit; cut to multiples of 8 in the middle."),
    TSR__END,
};

/* The start is empty: the picture comes in beside it. */
static tsr_status run_edit(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *concat = NULL;
    tsr_latent *picture = NULL, *empty = NULL;
    TSR_TRY(
        tsr__encode(&picture, call->graph, tsr__arg(call->in, "vae"), &tsr__arg(call->in, "pixels")->pictures, 0, err));
    const int *shape = picture->shape;
    TSR_TRY(tsr_latent_new(&empty, shape[0], shape[1], shape[2], shape[3], err));
    status = tsr__value_take_latent(&concat, picture, err);
    picture = NULL;
    if (status != TSR_OK) goto done;
    TSR_TRY(set_concat(call, concat, err));
    status = tsr__value_take_latent(&call->results[2], empty, err);
    empty = NULL;
done:
    tsr_latent_free(picture);
    tsr_latent_free(empty);
    tsr__value_unref(concat);
    return status;
}

#define GIVES_THREE                                                                                                    \
    {                                                                                                                  \
        { "positive", TSR__V_CONDITIONING }, { "negative", TSR__V_CONDITIONING }, {                                    \
            "latent", TSR__V_LATENT                                                                                    \
        }                                                                                                              \
    }
static const tsr__node rows[] = {
    { "VAEEncodeForInpaint",
      "VAE Encode (for Inpainting)",
      "latent/inpaint",
      encode_inputs,
      { { "LATENT", TSR__V_LATENT } },
      0,
      run_encode,
      "Pictures to latents with a hole to repaint." },
    { "InpaintModelConditioning", "InpaintModelConditioning", "conditioning/inpaint", model_inputs, GIVES_THREE, 0,
      run_model, "A mask and the picture without what it covers, for inpainting models." },
};
const tsr__node_group tsr__nodes_inpaint = { rows, sizeof rows / sizeof *rows, "nodes" };

static const tsr__node edit_rows[] = {
    { "InstructPixToPixConditioning", "InstructPixToPixConditioning", "conditioning/instructpix2pix", edit_inputs,
      GIVES_THREE, 0, run_edit, "A picture to edit, for InstructPix2Pix models." },
};
const tsr__node_group tsr__nodes_edit = { edit_rows, sizeof edit_rows / sizeof *edit_rows, "comfy_extras.nodes_ip2p" };
