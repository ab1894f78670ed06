/* engine/engine_inspect.c - what a file contains, told to a person: checkpoint, picture or latent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/engine_priv.h"

/* Appends to *text; 0 when memory is out. */
static int add(char **text, char *more) {
    char *joined = more && *text ? tsr__format("%s%s", *text, more) : NULL;
    free(more);
    free(*text);
    *text = joined;
    return joined != NULL;
}

/* --- safetensors ---------------------------------------------------------------------------------------------------------------- */
static char *dtype_line(const tsr__checkpoint_info *info) {
    char *text = tsr__strdup("types:");
    for (int i = 0; i < TSR_DTYPE_COUNT_; i++)
        if (info->dtypes[i])
            add(&text, tsr__format(" %s in %zu tensors,", tsr__dtype_name((tsr__dtype)i), info->dtypes[i]));
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

static tsr_status inspect_weights(char **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    tsr__checkpoint_info info;
    *out = NULL;
    TSR_TRY(tsr__weights_open(&weights, path, err));
    tsr__checkpoint_describe(&info, weights);
    *out = tsr__format("%s: %s, %zu tensors, %.2f M parameters\n", path, tsr__checkpoint_kind_name(info.kind),
                       info.tensors, (double)info.parameters * 1e-6);
    const char *config = tsr__weights_metadata(weights, "tessera.config");
    int good = add(out, parts_text(&info)) && add(out, dtype_line(&info));
    if (good && info.unet_channels)
        good = add(out, tsr__format("UNet: %lld channels, context width %lld; text width %lld; %lld latent channels\n",
                                    (long long)info.unet_channels, (long long)info.context_width,
                                    (long long)info.text_width, (long long)info.vae_channels));
    if (good && info.kind == TSR_CHECKPOINT_LATENT) good = add(out, latent_text(weights));
    if (good && config) good = add(out, tsr__format("tessera.config: %s\n", config));
    if (good && *info.missing && info.kind != TSR_CHECKPOINT_LATENT)
        good = add(out, tsr__format("as a checkpoint it lacks: %s\n", info.missing));
    if (!good) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    if (status != TSR_OK) {
        free(*out);
        *out = NULL;
    }
    tsr__weights_close(weights);
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

tsr_status tsr_inspect_file(char **out, const char *path, tsr_error *err) {
    unsigned char head[12] = { 0 };
    struct stat info;
    *out = NULL;
    /* A pipe without a writer would hold fopen for ever; inspect_weights says what is wrong with one. */
    FILE *file = stat(path, &info) == 0 && S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    if (file) {
        size_t n = fread(head, 1, sizeof head, file);
        fclose(file);
        int picture = (n >= 8 && memcmp(head, "\x89PNG", 4) == 0) || (n >= 3 && memcmp(head, "\xff\xd8\xff", 3) == 0) ||
                      (n >= 12 && memcmp(head, "RIFF", 4) == 0 && memcmp(head + 8, "WEBP", 4) == 0);
        if (picture) return inspect_picture(out, path, err);
    }
    return inspect_weights(out, path, err);
}
