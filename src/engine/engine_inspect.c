/* engine/engine_inspect.c - what a file contains, told to a person: checkpoint, picture or latent; engine_inspect_json.c tells
 * it to programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/engine_priv.h"
#include "engine/file_facts.h"
#include "weights/packed_file.h"

/* Appends to *text; 0 when memory is out. */
static int add(char **text, char *more) {
    char *joined = more && *text ? tsr__format("%s%s", *text, more) : NULL;
    free(more);
    free(*text);
    *text = joined;
    return joined != NULL;
}

/* --- weights -------------------------------------------------------------------------------------------------------------------- */
/* "types: F16 in 748 tensors (46.2 MiB), ..." */
static char *dtype_line(const tsr__file_facts *facts) {
    char *text = tsr__strdup("types:");
    for (int i = 0; i < TSR_DTYPE_COUNT_; i++)
        if (facts->info.dtypes[i])
            add(&text, tsr__format(" %s in %zu tensors (%.1f MiB),", tsr__dtype_name((tsr__dtype)i),
                                   facts->info.dtypes[i], (double)facts->bytes[i] / (1 << 20)));
    if (text && *text) text[strlen(text) - 1] = '\n';
    return text;
}

static char *parts_text(const tsr__checkpoint_info *info) {
    char *text = tsr__strdup("");
    for (int i = 0; i < TSR_PART_COUNT_; i++)
        if (info->parts[i].tensors)
            add(&text, tsr__format("  %-14s %5zu tensors, %.2f M parameters\n",
                                   tsr__checkpoint_part_name((tsr__checkpoint_part)i), info->parts[i].tensors,
                                   (double)info->parts[i].parameters * 1e-6));
    return text;
}

static char *latent_text(const tsr__weights *weights) {
    const tsr__tensor_view *view = tsr__weights_find(weights, "latent_tensor");
    if (!view || view->rank != 4) return tsr__strdup("");
    return tsr__format("latent: %lld of %lld channels, %lldx%lld (a picture of %lldx%lld)\n", (long long)view->shape[0],
                       (long long)view->shape[1], (long long)view->shape[3], (long long)view->shape[2],
                       (long long)view->shape[3] * 8, (long long)view->shape[2] * 8);
}

/* What a packed cache was made for, whether that is here, and what it was made from. */
static char *packed_text(const tsr__weights *weights) {
    const tsr__packed_info *info = tsr__packed_info_of(weights);
    tsr__nn_packing here;
    size_t bytes = 0, count = tsr__packed_count(weights, &bytes);
    tsr__nn_packing_here(&here);
    const int fits =
        info->version == here.version && strcmp(info->library, here.library) == 0 && strcmp(info->isa, here.isa) == 0;
    char *text = tsr__format("packed in %s for %s on %s (packing %d, %d threads)%s: %zu weights (%.1f MiB)\n",
                             info->precision, info->library, info->isa, info->version, info->threads,
                             fits ? ", as here" : ", not for this machine", count, (double)bytes / (1 << 20));
    for (int i = 0; i < info->source_count; i++) {
        const tsr__packed_source *source = &info->sources[i];
        struct stat there;
        const char *now = "which is no longer there";
        if (stat(source->path, &there) == 0)
            now = S_ISDIR(there.st_mode) ? "a folder"
                  : (int64_t)there.st_size == source->bytes && (int64_t)there.st_mtime == source->modified
                      ? "which is unchanged"
                      : "which has changed since";
        add(&text, tsr__format("made from %s, %s\n", source->path, now));
    }
    for (char *at = text; at && *at; at++)
        if ((unsigned char)*at < 0x20 && *at != '\n') *at = ' ';
    return text;
}

static char *model_text(const tsr__file_facts *facts) {
    const tsr__checkpoint_info *info = &facts->info;
    if (*facts->unusable) return tsr__format("it cannot be used as a UNet: %s\n", facts->unusable);
    char *text = tsr__format("UNet: %lld channels, %lld going in, context width %lld", (long long)info->unet_channels,
                             (long long)info->unet_in_channels, (long long)info->context_width);
    if (info->text_width || info->vae_channels)
        add(&text, tsr__format("; text width %lld; %lld latent channels", (long long)info->text_width,
                               (long long)info->vae_channels));
    add(&text, tsr__strdup("\n"));
    if (!facts->has_network) return text;
    add(&text,
        tsr__format("family %s%s, predicts %s%s\n", facts->family, tsr__checkpoint_variant_name(info->variant),
                    facts->prediction == TSR_PREDICTION_V ? "v" : "eps", facts->zero_snr ? ", zero terminal SNR" : ""));
    return text;
}

/* Ranks from the smallest to the largest, how many layers, and for which family by the width of the text they see. */
static char *lora_text(const tsr__file_facts *facts) {
    const long long lowest = facts->adapter.lowest, highest = facts->adapter.highest;
    const size_t layers = facts->adapter.layers;
    char *text = layers == 0 ? tsr__strdup("adapter: no low-rank layers")
                 : lowest == highest
                     ? tsr__format("adapter: %zu low-rank layers of rank %lld", layers, highest)
                     : tsr__format("adapter: %zu low-rank layers of rank %lld to %lld", layers, lowest, highest);
    if (facts->adapter.dora) add(&text, tsr__format(", %zu of DoRA", facts->adapter.dora));
    if (facts->family) add(&text, tsr__format(", made for %s", facts->family));
    add(&text, tsr__strdup("\n"));
    return text;
}

/* A file of unknown kind: some of its names may tell a reader more. */
static char *names_text(const tsr__file_facts *facts) {
    char *text = tsr__strdup("it holds:");
    for (size_t i = 0; i < facts->info.tensors && i < 4; i++)
        add(&text, tsr__format("%s %.100s", i ? "," : "", tsr__weights_at(facts->weights, i)->name));
    add(&text, tsr__strdup(facts->info.tensors > 4 ? ", ...\n" : "\n"));
    return text;
}

static char *tiny_text(const tsr__taesd_found *tiny) {
    const tsr__taesd_found found = *tiny;
    char channels[32] = "";
    if (found.channels) (void)snprintf(channels, sizeof channels, ", %lld latent channels", (long long)found.channels);
    char *text = tsr__format("TAESD: %s%s%s, %lld wide%s; ", found.has_encoder ? "encoder" : "",
                             found.has_encoder && found.has_decoder ? " and " : "", found.has_decoder ? "decoder" : "",
                             (long long)found.width, channels);
    if (!found.told_by) add(&text, tsr__strdup("for which models it does not say\n"));
    else add(&text, tsr__format("by %s for %s\n", found.told_by, tsr__taesd_models(found.family)));
    return text;
}

static long long side_of(const tsr__weights *weights, const char *name, int axis) {
    const tsr__tensor_view *view = tsr__weights_find(weights, name);
    return view && view->rank > axis ? (long long)view->shape[axis] : 0;
}

/* Which models a T2I-Adapter steers, told by the pixels in one of its cells: SDXL's are larger. */
static char *adapter_text(const tsr__weights *weights) {
    static const char *const firsts[] = { "conv_in.weight", "adapter.conv_in.weight", "body.0.in_conv.weight",
                                          "adapter.body.0.in_conv.weight" };
    long long taken = 0;
    int i = 0;
    for (; i < 4 && !taken; i++) taken = side_of(weights, firsts[i], 1);
    return tsr__format("control: %s, for %s\n", i > 2 ? "light" : "full", taken % 256 ? "SD1" : "SDXL");
}

/* The same for ControlNets, by the width of the text they see and by SDXL's second vector; and a union's types. */
static char *control_text(const tsr__weights *weights, tsr__checkpoint_kind kind) {
    long long context = 0, types = side_of(weights, "task_embedding", 0);
    int labels = 0;
    if (kind == TSR_CHECKPOINT_T2I_ADAPTER) return adapter_text(weights);
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (strstr(view->name, "label_emb.0.0.") || strstr(view->name, "add_embedding.linear_1.")) labels = 1;
        if (view->rank < 2 || context) continue;
        if (strstr(view->name, "attn2.to_k.weight") || strstr(view->name, "attn2.to_k.down"))
            context = (long long)view->shape[1];
    }
    const char *family = labels ? "SDXL" : context == 768 ? "SD1" : context == 1024 ? "SD2" : "models";
    char *text = context ? tsr__format("control: for %s with %lld values a token", family, context)
                         : tsr__format("control: for %s, reads no text", family);
    if (types) add(&text, tsr__format(", %lld types of picture", types));
    add(&text, tsr__strdup("\n"));
    return text;
}

/* What is told of each kind of file. */
static char *kind_text(const tsr__file_facts *facts) {
    switch (facts->info.kind) {
    case TSR_CHECKPOINT_SD1:
    case TSR_CHECKPOINT_SD2:
    case TSR_CHECKPOINT_SDXL:
    case TSR_CHECKPOINT_LDM_UNET:
    case TSR_CHECKPOINT_DIFFUSERS_UNET: return model_text(facts);
    case TSR_CHECKPOINT_CONTROLNET:
    case TSR_CHECKPOINT_CONTROL_UNION:
    case TSR_CHECKPOINT_CONTROL_LORA:
    case TSR_CHECKPOINT_CONTROL_DIFFERENCE:
    case TSR_CHECKPOINT_T2I_ADAPTER: return control_text(facts->weights, facts->info.kind);
    case TSR_CHECKPOINT_LORA: return lora_text(facts);
    case TSR_CHECKPOINT_TAESD: return facts->has_tiny ? tiny_text(&facts->tiny) : tsr__strdup("");
    case TSR_CHECKPOINT_LATENT: return latent_text(facts->weights);
    case TSR_CHECKPOINT_UNKNOWN: return names_text(facts);
    case TSR_CHECKPOINT_EMBEDDING:
        return tsr__format("embedding: %lld vectors%s%s\n", facts->vectors, facts->family ? ", made for " : "",
                           facts->family ? facts->family : "");
    default: return tsr__strdup("");
    }
}

/* "key: value", values cut short and on one line. */
static tsr_status add_metadata(char **out, const tsr__weights *weights, tsr_error *err) {
    enum { LONGEST = 160 };
    tsr_status status = TSR_OK;
    const char **pairs = NULL;
    TSR_TRY(tsr__weights_all_metadata(&pairs, weights, err));
    for (size_t i = 0; pairs[i]; i += 2) {
        if (strcmp(pairs[i], TSR__PACKED_METADATA) == 0) continue; /* told in words */
        const int cut = strlen(pairs[i + 1]) > LONGEST;
        char *line = tsr__format("%.80s: %.*s%s", pairs[i], LONGEST, pairs[i + 1], cut ? "..." : "");
        for (char *at = line; at && *at; at++)
            if ((unsigned char)*at < 0x20) *at = ' ';
        char *whole = line ? tsr__format("%s\n", line) : NULL;
        free(line);
        if (!add(out, whole)) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
done:
    free(pairs);
    return status;
}

static tsr_status inspect_weights(char **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__file_facts facts = { 0 };
    *out = NULL;
    TSR_TRY(tsr__file_facts_open(&facts, path, err));
    const tsr__checkpoint_info *info = &facts.info;
    *out = tsr__format("%s: %s (%s), %zu tensors, %.2f M parameters\n", path, tsr__checkpoint_kind_name(info->kind),
                       facts.container, info->tensors, (double)info->parameters * 1e-6);
    int good = add(out, parts_text(info)) && add(out, dtype_line(&facts));
    if (good && facts.layout) good = add(out, tsr__format("layout: %s\n", facts.layout));
    if (good && tsr__packed_info_of(facts.weights)) good = add(out, packed_text(facts.weights));
    good = good && add(out, kind_text(&facts));
    if (!good) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(add_metadata(out, facts.weights, err));
    if (*info->missing && info->kind != TSR_CHECKPOINT_UNKNOWN && info->kind <= TSR_CHECKPOINT_SDXL)
        good = add(out, tsr__format("as a checkpoint it lacks: %s\n", info->missing));
    if (!good) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    if (status != TSR_OK) {
        free(*out);
        *out = NULL;
    }
    tsr__file_facts_clear(&facts);
    return status;
}

/* --- pictures ---------------------------------------------------------------------------------------------------------------------- */
/* Base64 of masks would bury the rest. */
static tsr_status readable_scene(char **out, const tsr_image *image, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *scene = NULL;
    TSR_TRY(tsr_scene_from_image(&scene, image, err));
    for (int i = 0; i < TSR__OPT_COUNT; i++) {
        if (!scene->text[i] || tsr_option_at(TSR_OPTIONS_SCENE, i)->kind != TSR_OPTION_DATA) continue;
        free(scene->text[i]);
        scene->text[i] = tsr__strdup("(kept)");
    }
    for (int i = 0; i < scene->region_count; i++) {
        char **kept = &scene->regions[i].text[TSR__REG_MASK_DATA];
        if (!*kept) continue;
        free(*kept);
        *kept = tsr__strdup("(kept)");
    }
    TSR_TRY(tsr_scene_to_json(out, scene, err));
done:
    tsr_scene_free(scene);
    return status;
}

static tsr_status inspect_picture(char **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    char *scene = NULL;
    *out = NULL;
    TSR_TRY(tsr_image_load(&image, path, err));
    *out = tsr__format("%s: a picture of %dx%d, %s\n", path, image->width, image->height,
                       image->channels == 4 ? "with alpha" : "without alpha");
    int good = *out != NULL;
    for (int i = 0; good && i < image->text_count; i++) {
        const tsr_text_entry *entry = &image->texts[i];
        if (strcmp(entry->key, "tessera") == 0) continue;
        good = add(out, tsr__format("%s: %s\n", entry->key, entry->text));
    }
    tsr_error unreadable = TSR_ERROR_INIT;
    if (good && tsr_image_text(image, "tessera")) {
        if (readable_scene(&scene, image, &unreadable) == TSR_OK) good = add(out, tsr__format("tessera: %s\n", scene));
        else good = add(out, tsr__format("tessera: cannot be read: %s\n", unreadable.message));
    }
    if (!good) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    if (status != TSR_OK) {
        free(*out);
        *out = NULL;
    }
    free(scene);
    tsr_image_free(image);
    return status;
}

static int is_picture(const char *path) {
    unsigned char head[12] = { 0 };
    struct stat info;
    /* A pipe without a writer would hold fopen for ever; inspect_weights says what is wrong with one. */
    FILE *file = stat(path, &info) == 0 && S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    if (!file) return 0;
    size_t n = fread(head, 1, sizeof head, file);
    fclose(file);
    return (n >= 8 && memcmp(head, "\x89PNG", 4) == 0) || (n >= 3 && memcmp(head, "\xff\xd8\xff", 3) == 0) ||
           (n >= 12 && memcmp(head, "RIFF", 4) == 0 && memcmp(head + 8, "WEBP", 4) == 0);
}

tsr_status tsr_inspect_file(char **out, const char *path, tsr_error *err) {
    *out = NULL;
    return is_picture(path) ? inspect_picture(out, path, err) : inspect_weights(out, path, err);
}

tsr_status tsr_inspect_file_json(char **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    tsr__file_facts facts = { 0 };
    char *scene = NULL;
    tsr_error unreadable = TSR_ERROR_INIT;
    *out = NULL;
    if (is_picture(path)) {
        TSR_TRY(tsr_image_load(&image, path, err));
        if (tsr_image_text(image, "tessera")) (void)readable_scene(&scene, image, &unreadable);
        TSR_TRY(tsr__inspect_picture_json(out, path, image, scene, err));
    } else {
        TSR_TRY(tsr__file_facts_open(&facts, path, err));
        TSR_TRY(tsr__inspect_weights_json(out, &facts, err));
    }
done:
    free(scene);
    tsr_image_free(image);
    tsr__file_facts_clear(&facts);
    return status;
}
