/* engine/file_facts.c - see file_facts.h. */
#include "engine/file_facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/check.h"
#include "core/memory.h"
#include "weights/control_open.h"
#include "weights/model_open.h"
#include "weights/packed_file.h"

/* What the file is by its first bytes; the reader has checked them. */
static const char *container_of(const char *path) {
    unsigned char head[4] = { 0 };
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return "diffusers folder";
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file) fclose(file);
    if (n == 4 && memcmp(head, "GGUF", 4) == 0) return "GGUF";
    if (n == 4 && memcmp(head, "PK\x03\x04", 4) == 0) return "PyTorch (zip)";
    return head[0] == 0x80 ? "PyTorch (pickle)" : "safetensors";
}

/* --- layouts ---------------------------------------------------------------------------------------------------------------- */
/* Whose names they are, by a piece of a name; the first row that is found tells. */
static const struct {
    const char *piece, *layout;
} LAYOUTS[] = {
    { "lora_unet_", "kohya" },
    { "lora_te", "kohya" },
    { ".lora_A.", "diffusers" },
    { "unet.", "diffusers" },
    { "model.diffusion_model.", "single file" },
    { "control_model.", "single file" },
    { "input_hint_block.", "single file, bare" },
    { "controlnet_cond_embedding.", "diffusers" },
    { "input_blocks.0.", "single file, bare" },
    { "down_blocks.0.", "diffusers" },
    { "decoder.mid_block.", "diffusers" },
    { "first_stage_model.", "single file" },
    { "cond_stage_model.", "single file" },
    { "conditioner.embedders.", "single file" },
    { "decoder.mid.", "single file, bare" },
    { "text_model.", "Hugging Face" },
    { "transformer.resblocks.", "OpenCLIP" },
};

static const char *layout_of(const tsr__file_facts *facts) {
    if (strcmp(facts->container, "diffusers folder") == 0) return "diffusers";
    for (size_t k = 0; k < sizeof LAYOUTS / sizeof *LAYOUTS; k++)
        for (size_t i = 0; i < facts->info.tensors; i++)
            if (strstr(tsr__weights_at(facts->weights, i)->name, LAYOUTS[k].piece)) return LAYOUTS[k].layout;
    return NULL;
}

/* --- adapters and embeddings ------------------------------------------------------------------------------------------------- */
/* The tensor of a layer whose first side is the rank, by how its name goes on. */
static int is_rank_tensor(const char *name) {
    static const char *const parts[] = {
        ".lora_down.", ".lora.down.", "_lora.down.", ".lora_A.", ".lora_linear_layer.down.",
        ".hada_w1_b",  ".lokr_w1_b",  ".lokr_w2_b"
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(name, parts[i])) return 1;
    return 0;
}

static void look_at_adapter(tsr__file_facts *facts) {
    for (size_t i = 0; i < facts->info.tensors; i++) {
        const tsr__tensor_view *view = tsr__weights_at(facts->weights, i);
        if (strstr(view->name, ".dora_scale")) facts->adapter.dora++;
        if (!is_rank_tensor(view->name) || view->rank < 2) continue;
        const long long rank = (long long)view->shape[0];
        if (!facts->adapter.layers || rank < facts->adapter.lowest) facts->adapter.lowest = rank;
        if (rank > facts->adapter.highest) facts->adapter.highest = rank;
        facts->adapter.layers++;
    }
}

static const char *family_of_width(long long width) {
    return width == 768 ? "SD1" : width == 1024 ? "SD2" : width == 2048 ? "SDXL" : NULL;
}

/* What the layers that see text take: the same in UNets, control networks and adapters of a family. */
static long long width_of_text(const tsr__file_facts *facts) {
    for (size_t i = 0; i < facts->info.tensors; i++) {
        const tsr__tensor_view *view = tsr__weights_at(facts->weights, i);
        if (!strstr(view->name, "attn2_to_k") && !strstr(view->name, "attn2.to_k")) continue;
        if (view->rank >= 2 && (facts->info.kind != TSR_CHECKPOINT_LORA || is_rank_tensor(view->name)))
            return (long long)view->shape[1];
    }
    return 0;
}

static void look_at_embedding(tsr__file_facts *facts) {
    int both = tsr__weights_find(facts->weights, "clip_l") && tsr__weights_find(facts->weights, "clip_g");
    for (size_t i = 0; i < facts->info.tensors && !facts->vectors; i++) {
        const tsr__tensor_view *view = tsr__weights_at(facts->weights, i);
        if (!tsr__dtype_is_float(view->dtype) || view->rank < 1 || view->rank > 2) continue;
        facts->vectors = view->rank == 2 ? (long long)view->shape[0] : 1;
        facts->family = both ? "SDXL" : family_of_width((long long)view->shape[view->rank - 1]);
    }
}

/* The weights of a folder that is no whole model but a control network; *file NULL: it is something else. */
static tsr_status control_folder(char **file, const char *path, tsr_error *err) {
    struct stat info;
    *file = NULL;
    char *index = tsr__format("%s/model_index.json", path);
    if (!index) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    const int wanted = stat(path, &info) == 0 && S_ISDIR(info.st_mode) && stat(index, &info) != 0;
    free(index);
    tsr_error ignored = TSR_ERROR_INIT;
    if (wanted && tsr__control_path(file, path, &ignored) != TSR_OK) *file = NULL;
    return TSR_OK;
}

/* --- models ------------------------------------------------------------------------------------------------------------------ */
static void look_at_model(tsr__file_facts *facts, const tsr__weights *weights, const tsr__checkpoint_info *info) {
    const char *config = tsr__weights_metadata(weights, "tessera.config");
    const tsr__family *family = NULL;
    tsr_error ignored = TSR_ERROR_INIT;
    if (tsr__family_find(&family, weights, info, 1, &ignored) != TSR_OK) return;
    facts->family = family->name;
    if (!info->unet_channels) return;
    facts->has_network =
        tsr__family_prediction(&facts->prediction, family, weights, info, config, &ignored) == TSR_OK &&
        tsr__family_zero_snr(&facts->zero_snr, weights, config, &ignored) == TSR_OK;
}

/* A file of one UNet, opened as --unet opens it. */
static void look_at_unet(tsr__file_facts *facts) {
    tsr__weights *weights = NULL;
    const tsr__model_files files = { .unet = facts->path };
    tsr__checkpoint_info info;
    tsr_error reason = TSR_ERROR_INIT;
    if (tsr__model_open(&weights, &files, &reason) != TSR_OK) {
        (void)snprintf(facts->unusable, sizeof facts->unusable, "%s", reason.message);
        return;
    }
    tsr__checkpoint_describe(&info, weights);
    look_at_model(facts, weights, &info);
    facts->info.unet_channels = info.unet_channels;
    facts->info.unet_in_channels = info.unet_in_channels;
    facts->info.context_width = info.context_width;
    facts->info.variant = info.variant;
    tsr__weights_close(weights);
}

tsr_status tsr__file_facts_open(tsr__file_facts *out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__model_files files = { .model = path };
    char *inner = NULL;
    memset(out, 0, sizeof *out);
    out->path = path;
    TSR_TRY(control_folder(&inner, path, err));
    if (inner) files.model = inner;
    TSR_TRY(tsr__model_open(&out->weights, &files, err));
    tsr__checkpoint_describe(&out->info, out->weights);
    out->container = tsr__packed_info_of(out->weights) ? "packed cache" : container_of(path);
    (void)tsr__packed_count(out->weights, &out->bytes[TSR_DTYPE_PACKED]);
    out->layout = layout_of(out);
    for (size_t i = 0; i < out->info.tensors; i++) {
        const tsr__tensor_view *view = tsr__weights_at(out->weights, i);
        out->bytes[view->dtype] += tsr__tensor_bytes(view);
    }
    switch (out->info.kind) {
    case TSR_CHECKPOINT_SD1:
    case TSR_CHECKPOINT_SD2:
    case TSR_CHECKPOINT_SDXL: look_at_model(out, out->weights, &out->info); break;
    case TSR_CHECKPOINT_LDM_UNET:
    case TSR_CHECKPOINT_DIFFUSERS_UNET: look_at_unet(out); break;
    case TSR_CHECKPOINT_LORA: look_at_adapter(out); break;
    case TSR_CHECKPOINT_EMBEDDING: look_at_embedding(out); break;
    case TSR_CHECKPOINT_TAESD: out->has_tiny = tsr__taesd_find(&out->tiny, out->weights); break;
    default: break;
    }
    if (!out->family) out->family = family_of_width(width_of_text(out));
done:
    free(inner);
    if (status != TSR_OK) tsr__file_facts_clear(out);
    return status;
}

void tsr__file_facts_clear(tsr__file_facts *facts) {
    tsr__weights_close(facts->weights);
    facts->weights = NULL;
}
