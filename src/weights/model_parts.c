/* weights/model_parts.c - see model_parts.h. */
#include "weights/model_parts.h"

#include <stdio.h>
#include <string.h>

#include "core/check.h"
#include "core/text.h"
#include "weights/diffusers_names.h"
#include "weights/taesd_files.h"

#define UNET_PREFIX "model.diffusion_model."
#define VAE_PREFIX  "first_stage_model."
#define SD1_PREFIX  "cond_stage_model.transformer."
#define SD2_PREFIX  "cond_stage_model.model."
#define CPP_PREFIX  "cond_stage_model.1.transformer."
#define XL_PREFIX_1 "conditioner.embedders.0.transformer."
#define XL_PREFIX_2 "conditioner.embedders.1.model."

typedef enum layout { NOT_THERE, LDM, DIFFUSERS } layout;

static const char *const UNET_PREFIXES[] = { UNET_PREFIX, "diffusion_model.", "unet.", "", NULL };
static const char *const VAE_PREFIXES[] = { VAE_PREFIX, "vae.", "", NULL };

static const struct text_place {
    const char *prefix;
    int is_open;
} TEXT_PLACES[] = {
    { SD1_PREFIX, 0 }, { CPP_PREFIX, 0 }, { XL_PREFIX_1, 0 }, { "transformer.", 0 }, { "text_encoder.", 0 },
    { "", 0 },         { SD2_PREFIX, 1 }, { XL_PREFIX_2, 1 }, { "model.", 1 },       { "", 1 },
};

static const char HF_TOKENS[] = "text_model.embeddings.token_embedding.weight";
static const char OPEN_TOKENS[] = "token_embedding.weight";

static const tsr__tensor_view *find(const tsr__weights *source, const char *prefix, const char *name) {
    char whole[TSR__NAME_SIZE];
    (void)snprintf(whole, sizeof whole, "%s%s", prefix, name);
    return tsr__weights_find(source, whole);
}

static layout find_layout(const char **prefix, const tsr__weights *source, const char *const *prefixes,
                          const char *ldm_name, const char *diffusers_name) {
    for (int i = 0; prefixes[i]; i++) {
        *prefix = prefixes[i];
        if (find(source, prefixes[i], ldm_name)) return LDM;
        if (find(source, prefixes[i], diffusers_name)) return DIFFUSERS;
    }
    return NOT_THERE;
}

static layout find_unet(const char **prefix, const tsr__weights *source) {
    return find_layout(prefix, source, UNET_PREFIXES, "input_blocks.0.0.weight",
                       "down_blocks.0.resnets.0.time_emb_proj.weight");
}

static layout find_vae(const char **prefix, const tsr__weights *source) {
    return find_layout(prefix, source, VAE_PREFIXES, "decoder.mid.block_1.norm1.weight",
                       "decoder.mid_block.resnets.0.norm1.weight");
}

int tsr__parts_has_vae(const tsr__weights *source) {
    const char *prefix;
    tsr__taesd_found tiny;
    return find_vae(&prefix, source) != NOT_THERE || tsr__taesd_find(&tiny, source);
}

tsr__unet_needs tsr__parts_needs(const tsr__weights *source) {
    tsr__unet_needs needs = { TSR_CHECKPOINT_UNKNOWN, 0 };
    const char *prefix;
    int64_t projection_rank = 0;
    const layout which = find_unet(&prefix, source);
    if (which == NOT_THERE) return needs;
    const size_t length = strlen(prefix);
    for (size_t i = 0; i < tsr__weights_count(source); i++) {
        const tsr__tensor_view *view = tsr__weights_at(source, i);
        if (strncmp(view->name, prefix, length) != 0) continue;
        if (!needs.context && view->rank == 2 && tsr__ends_with(view->name, strlen(view->name), ".attn2.to_k.weight"))
            needs.context = view->shape[1];
        if (!projection_rank && tsr__ends_with(view->name, strlen(view->name), ".proj_in.weight"))
            projection_rank = view->rank;
    }
    if (find(source, prefix, "label_emb.0.0.weight") || find(source, prefix, "add_embedding.linear_1.weight"))
        needs.kind = TSR_CHECKPOINT_SDXL;
    else if (needs.context == 1024) needs.kind = TSR_CHECKPOINT_SD2;
    else if (needs.context == 768) needs.kind = TSR_CHECKPOINT_SD1;
    else needs.kind = projection_rank == 2 ? TSR_CHECKPOINT_SD2 : TSR_CHECKPOINT_SD1; /* SD1 projects by convolution */
    return needs;
}

/* The projections around the transformers of SD2 and SDXL are matrices. */
static int is_projection(const tsr__tensor_view *view) {
    return view->rank == 4 && view->shape[2] == 1 && view->shape[3] == 1 &&
           (tsr__ends_with(view->name, strlen(view->name), ".proj_in.weight") ||
            tsr__ends_with(view->name, strlen(view->name), ".proj_out.weight"));
}

int tsr__parts_is_renamed(const tsr__weights *source) {
    const tsr__tensor_view *tokens = find(source, SD1_PREFIX, HF_TOKENS);
    if (!find(source, UNET_PREFIX, "input_blocks.0.0.weight")) return 0;
    return find(source, CPP_PREFIX, HF_TOKENS) || (tokens && tokens->rank == 2 && tokens->shape[1] >= 1024);
}

/* --- UNet and VAE ------------------------------------------------------------------------------------------------------- */
/* Adds a view under prefix and name; a name too long has been refused by whoever made it. */
static tsr_status add(tsr__union *all, const char *prefix, const char *name, const tsr__tensor_view *view,
                      tsr_error *err) {
    char whole[2 * TSR__NAME_SIZE];
    const int length = snprintf(whole, sizeof whole, "%s%s", prefix, name);
    if (length < 0 || (size_t)length >= sizeof whole)
        return tsr__fail(err, TSR_BAD_FORMAT, "a tensor's name of %d letters is too long", length);
    return tsr__union_add(all, whole, view, err);
}

/* Beside other parts, only what is a UNet's or a VAE's. */
static int is_bare(const char *name, const char *const *starts) {
    for (int i = 0; starts[i]; i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0) return 1;
    return 0;
}

static const char *const UNET_STARTS[] = {
    "input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.", NULL
};
static const char *const VAE_STARTS[] = { "encoder.", "decoder.", "quant_conv.", "post_quant_conv.", NULL };

/* Marks of how a UNet was trained stand beside it. */
static tsr_status add_marks(tsr__union *all, const tsr__weights *source, tsr_error *err) {
    static const char *const marks[] = { "v_pred", "ztsnr" };
    tsr_status status = TSR_OK;
    for (int i = 0; i < 2; i++) {
        const tsr__tensor_view *view = tsr__weights_find(source, marks[i]);
        if (view) TSR_TRY(tsr__union_add(all, marks[i], view, err));
    }
done:
    return status;
}

static tsr_status add_ldm(tsr__union *all, const tsr__weights *source, const char *prefix, const char *const *starts,
                          const char *target, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(prefix);
    const int is_matrix = starts == UNET_STARTS && tsr__parts_needs(source).kind != TSR_CHECKPOINT_SD1;
    for (size_t i = 0; i < tsr__weights_count(source); i++) {
        tsr__tensor_view view = *tsr__weights_at(source, i);
        if (strncmp(view.name, prefix, length) != 0) continue;
        if (!length && !is_bare(view.name, starts)) continue;
        if (is_matrix && is_projection(&view)) view.rank = 2;
        TSR_TRY(add(all, target, view.name + length, &view, err));
    }
done:
    return status;
}

static tsr_status add_diffusers(tsr__union *all, const tsr__weights *source, const char *prefix, int is_vae,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(prefix);
    tsr__diffusers_shape shape = { 0 };
    for (size_t i = 0; i < tsr__weights_count(source); i++) {
        const char *name = tsr__weights_at(source, i)->name;
        if (strncmp(name, prefix, length) == 0) tsr__diffusers_look(&shape, name + length);
    }
    for (size_t i = 0; i < tsr__weights_count(source); i++) {
        tsr__tensor_view view = *tsr__weights_at(source, i);
        char name[TSR__NAME_SIZE];
        if (strncmp(view.name, prefix, length) != 0 || strcmp(view.name, "v_pred") == 0 ||
            strcmp(view.name, "ztsnr") == 0)
            continue;
        const int known = is_vae ? tsr__diffusers_vae_name(name, view.name + length, &shape)
                                 : tsr__diffusers_unet_name(name, view.name + length, &shape);
        if (!known)
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: tensor \"%.200s\": SD1, SD2 and SDXL have no such layer in %s",
                     tsr__weights_path(source), view.name, is_vae ? "their VAE" : "their UNet");
        if (is_vae && view.rank == 2 && strstr(name, ".attn_1.")) { /* single files keep them as convolutions */
            view.shape[2] = view.shape[3] = 1;
            view.rank = 4;
        }
        TSR_TRY(add(all, is_vae ? VAE_PREFIX : UNET_PREFIX, name, &view, err));
    }
done:
    return status;
}

static tsr_status fail_part(const tsr__weights *source, const char *part, tsr_error *err) {
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, source);
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: this is %s; %s of SD1, SD2 or SDXL is needed",
                     tsr__weights_path(source), tsr__checkpoint_kind_name(info.kind), part);
}

tsr_status tsr__parts_add_unet(tsr__union *all, const tsr__weights *source, tsr_error *err) {
    const char *prefix;
    tsr_status status = TSR_OK;
    switch (find_unet(&prefix, source)) {
    case LDM: TSR_TRY(add_ldm(all, source, prefix, UNET_STARTS, UNET_PREFIX, err)); break;
    case DIFFUSERS: TSR_TRY(add_diffusers(all, source, prefix, 0, err)); break;
    default: return fail_part(source, "a UNet", err);
    }
    TSR_TRY(add_marks(all, source, err));
done:
    return status;
}

tsr_status tsr__parts_add_vae(tsr__union *all, const tsr__weights *source, tsr__checkpoint_kind kind, tsr_error *err) {
    const char *prefix;
    tsr__taesd_found tiny;
    switch (find_vae(&prefix, source)) {
    case LDM: return add_ldm(all, source, prefix, VAE_STARTS, VAE_PREFIX, err);
    case DIFFUSERS: return add_diffusers(all, source, prefix, 1, err);
    default:
        if (tsr__taesd_find(&tiny, source)) return tsr__taesd_add(all, source, kind, err);
        return fail_part(source, "a VAE", err);
    }
}

/* --- text encoders ------------------------------------------------------------------------------------------------------ */
int tsr__parts_find_text(tsr__encoders *found, const tsr__weights *source) {
    int count = 0;
    for (size_t i = 0; i < sizeof TEXT_PLACES / sizeof *TEXT_PLACES && count < 2; i++) {
        const struct text_place *place = &TEXT_PLACES[i];
        const tsr__tensor_view *tokens = find(source, place->prefix, place->is_open ? OPEN_TOKENS : HF_TOKENS);
        if (!tokens || tokens->rank != 2 || found->count == TSR__PARTS_ENCODERS) continue;
        tsr__encoder encoder = { source, place->prefix, place->is_open, tokens->shape[1] };
        found->at[found->count++] = encoder;
        count++;
    }
    return count;
}

void tsr__parts_guess_text(tsr__unet_needs *needs, const tsr__encoders *found) {
    const tsr__encoder *first = &found->at[0];
    needs->kind = TSR_CHECKPOINT_UNKNOWN;
    needs->context = 0;
    if (found->count == 0) return;
    needs->kind = first->is_open || first->width >= 1024 ? TSR_CHECKPOINT_SD2 : TSR_CHECKPOINT_SD1;
    needs->context = first->width;
    if (found->count == 1) return;
    needs->kind = TSR_CHECKPOINT_SDXL;
    needs->context += found->at[1].width;
}

/* Hugging Face's names, as SD1 and SDXL's first encoder have them. */
static tsr_status add_hf(tsr__union *all, const tsr__encoder *encoder, const char *target, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(encoder->prefix);
    if (encoder->is_open)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: an OpenCLIP text encoder, where CLIP-L is needed",
                 tsr__weights_path(encoder->source));
    for (size_t i = 0; i < tsr__weights_count(encoder->source); i++) {
        const tsr__tensor_view *view = tsr__weights_at(encoder->source, i);
        if (strncmp(view->name, encoder->prefix, length) != 0) continue;
        if (strncmp(view->name + length, "text_model.", strlen("text_model.")) != 0) continue;
        TSR_TRY(add(all, target, view->name + length, view, err));
    }
done:
    return status;
}

/* q, k and v of a layer, found from q's name, as one. */
static tsr_status add_joined(tsr__union *all, const tsr__encoder *encoder, const char *name,
                             const tsr__tensor_view *query, tsr_error *err) {
    const tsr__tensor_view *parts[3] = { query };
    char other[TSR__NAME_SIZE];
    const char *at = strstr(query->name, ".q_proj.");
    for (int i = 1; i < 3; i++) {
        (void)snprintf(other, sizeof other, "%.*s.%c_proj.%s", (int)(at - query->name), query->name, "qkv"[i],
                       at + strlen(".q_proj."));
        parts[i] = tsr__weights_find(encoder->source, other);
        if (!parts[i])
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%.200s\" is missing",
                             tsr__weights_path(encoder->source), other);
    }
    return tsr__union_stack(all, name, parts, 3, err);
}

static tsr_status add_open_tensor(tsr__union *all, const tsr__encoder *encoder, const char *target,
                                  const tsr__tensor_view *view, tsr_error *err) {
    char name[TSR__NAME_SIZE], whole[2 * TSR__NAME_SIZE];
    const char *given = view->name + strlen(encoder->prefix);
    tsr__open_clip_part part = encoder->is_open ? TSR__OPEN_PLAIN : tsr__open_clip_name(name, given);
    if (part == TSR__OPEN_NONE) return TSR_OK; /* position_ids and the like: nothing is computed with them */
    (void)snprintf(whole, sizeof whole, "%s%s", target, encoder->is_open ? given : name);
    if (!encoder->is_open && strlen(view->name) >= sizeof name) return TSR_OK;
    switch (part) {
    case TSR__OPEN_PLAIN: return tsr__union_add(all, whole, view, err);
    case TSR__OPEN_TURNED: return tsr__union_transpose(all, whole, view, err);
    case TSR__OPEN_Q: return add_joined(all, encoder, whole, view, err);
    default: return TSR_OK; /* k and v come with q */
    }
}

/* As SD2 and SDXL's second encoder have it. */
static tsr_status add_open(tsr__union *all, const tsr__encoder *encoder, const char *target, tsr_error *err) {
    static const char *const starts[] = {
        "token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection", "logit_scale", NULL
    };
    tsr_status status = TSR_OK;
    const size_t length = strlen(encoder->prefix);
    for (size_t i = 0; i < tsr__weights_count(encoder->source); i++) {
        const tsr__tensor_view *view = tsr__weights_at(encoder->source, i);
        if (strncmp(view->name, encoder->prefix, length) != 0) continue;
        if (encoder->is_open && !is_bare(view->name + length, starts)) continue;
        TSR_TRY(add_open_tensor(all, encoder, target, view, err));
    }
done:
    return status;
}

/* The first two encoders, the narrower one first, that give `context` values together. */
static int find_pair(const tsr__encoder *pair[2], const tsr__encoders *found, int64_t context) {
    for (int sum = 1; sum < 2 * found->count; sum++)
        for (int i = 0; i < found->count; i++) {
            const int k = sum - i;
            if (k < 0 || k >= found->count || k == i) continue;
            pair[0] = &found->at[i];
            pair[1] = &found->at[k];
            if (pair[0]->width < pair[1]->width && pair[0]->width + pair[1]->width == context) return 1;
        }
    return 0;
}

static tsr_status fail_widths(const tsr__encoders *found, tsr__unet_needs needs, const char *path, tsr_error *err) {
    char widths[160] = "";
    size_t used = 0;
    for (int i = 0; i < found->count; i++) {
        const int length =
            snprintf(widths + used, sizeof widths - used, "%s%lld", i ? ", " : "", (long long)found->at[i].width);
        if (length > 0 && used + (size_t)length < sizeof widths) used += (size_t)length;
    }
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: its UNet takes %lld values a token%s; the text encoder%s given: %s",
                     path, (long long)needs.context, needs.kind == TSR_CHECKPOINT_SDXL ? ", of two encoders" : "",
                     found->count > 1 ? "s" : "", found->count ? widths : "none");
}

tsr_status tsr__parts_add_text(tsr__union *all, const tsr__encoders *found, tsr__unet_needs needs, const char *path,
                               tsr_error *err) {
    const tsr__encoder *pair[2] = { NULL, NULL };
    tsr_status status = TSR_OK;
    if (needs.kind == TSR_CHECKPOINT_SDXL) {
        if (!find_pair(pair, found, needs.context)) return fail_widths(found, needs, path, err);
        TSR_TRY(add_hf(all, pair[0], XL_PREFIX_1, err));
        return add_open(all, pair[1], XL_PREFIX_2, err);
    }
    for (int i = 0; i < found->count && !pair[0]; i++)
        if (found->at[i].width == needs.context) pair[0] = &found->at[i];
    if (!pair[0]) return fail_widths(found, needs, path, err);
    if (needs.kind == TSR_CHECKPOINT_SD2) return add_open(all, pair[0], SD2_PREFIX, err);
    return add_hf(all, pair[0], SD1_PREFIX, err);
done:
    return status;
}
