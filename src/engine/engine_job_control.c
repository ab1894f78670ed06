/* engine/engine_job_control.c - a scene's and its regions' control keys made uses of control networks. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "picture/preprocess.h"

/* The keys of one scope, of the scene (region -1) or of a region: lists of one value, or of one for each network. */
typedef struct keys {
    const char *model, *image, *preprocess, *type, *strength, *start, *end;
    char **data;
} keys;

static keys read_keys(tsr__job *job, int region) {
    tsr_scene *scene = job->scene;
    keys k;
    if (region < 0) {
        k.model = tsr__scene_text(scene, TSR__OPT_CONTROL);
        k.image = tsr__scene_text(scene, TSR__OPT_CONTROL_IMAGE);
        k.preprocess = tsr__scene_text(scene, TSR__OPT_CONTROL_PREPROCESS);
        k.type = tsr__scene_text(scene, TSR__OPT_CONTROL_TYPE);
        k.strength = tsr__scene_text(scene, TSR__OPT_CONTROL_STRENGTH);
        k.start = tsr__scene_text(scene, TSR__OPT_CONTROL_START);
        k.end = tsr__scene_text(scene, TSR__OPT_CONTROL_END);
        k.data = &scene->text[TSR__OPT_CONTROL_IMAGE_DATA];
        return k;
    }
    k.model = tsr__region_text(scene, region, TSR__REG_CONTROL);
    k.image = tsr__region_text(scene, region, TSR__REG_CONTROL_IMAGE);
    k.preprocess = tsr__region_text(scene, region, TSR__REG_CONTROL_PREPROCESS);
    k.type = tsr__region_text(scene, region, TSR__REG_CONTROL_TYPE);
    k.strength = tsr__region_text(scene, region, TSR__REG_CONTROL_STRENGTH);
    k.start = tsr__region_text(scene, region, TSR__REG_CONTROL_START);
    k.end = tsr__region_text(scene, region, TSR__REG_CONTROL_END);
    k.data = &scene->regions[region].text[TSR__REG_CONTROL_IMAGE_DATA];
    return k;
}

/* The bytes of all pictures, which a result's metadata keeps; read where the list has none. */
static tsr_status keep_pictures(tsr_image **images, int count, tsr__job *job, const keys *k, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *list = NULL, *path = NULL, *bytes = NULL;
    for (int i = 0; i < count; i++) {
        TSR_TRY(tsr__list_item(&path, k->image, i, err));
        if (*k->data) TSR_TRY(tsr__list_item(&bytes, *k->data, i, err));
        if (bytes && !*bytes) {
            free(bytes);
            bytes = NULL;
        }
        TSR_TRY(tsr__job_load_picture(&images[i], job, path, &bytes, err));
        TSR_TRY(tsr__list_add(&list, bytes ? bytes : "", err));
        free(path);
        free(bytes);
        path = bytes = NULL;
    }
    free(*k->data);
    *k->data = NULL;
    if (!list) TSR_FAIL(err, TSR_BAD_ARGUMENT, "control needs control_image, the picture that it reads");
    if (strspn(list, ";") == strlen(list)) goto done; /* none of them is kept */
    *k->data = list;
    list = NULL;
done:
    free(list);
    free(path);
    free(bytes);
    return status;
}

/* What one network is used with, and what it points at. */
typedef struct held {
    char *model;
    float *pixels;
} held;

static tsr_status preprocess(float *pixels, const tsr_image *image, const char *name, const tsr__job *job,
                             tsr_error *err) {
    const tsr__preprocess_kind kind = (tsr__preprocess_kind)tsr__preprocess_find(name);
    if (kind != TSR__PREPROCESS_INPAINT) return tsr__preprocess(pixels, image->width, image->height, kind, err);
    const tsr_mask *mask = job->latent->noise_mask;
    if (!mask)
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "control_preprocess inpaint blanks what is repainted: give mask, and init_image");
    tsr__blank_masked(pixels, image->width, image->height, mask->values, mask->width, mask->height);
    return TSR_OK;
}

static tsr_status make_use(tsr__control_use *out, held *own, const tsr_engine *engine, const tsr__job *job,
                           const keys *k, int index, const tsr_image *image, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *name = NULL, *type = NULL;
    TSR_TRY(tsr__list_item(&own->model, k->model, index, err));
    TSR_TRY(tsr__list_item(&name, k->preprocess, index, err));
    TSR_TRY(tsr__list_item(&type, k->type, index, err));
    TSR_ALLOC(err, own->pixels, (size_t)image->width * (size_t)image->height * 3);
    tsr_image_to_floats(image, own->pixels);
    TSR_TRY(preprocess(own->pixels, image, name, job, err));
    out->model = own->model;
    out->pixels = own->pixels;
    out->width = image->width;
    out->height = image->height;
    out->type = tsr__control_type(type);
    out->strength = (float)tsr__list_number(k->strength, index);
    out->start_sigma = tsr_sigma_of_percent(engine->table, tsr__list_number(k->start, index));
    out->end_sigma = tsr_sigma_of_percent(engine->table, tsr__list_number(k->end, index));
done:
    free(name);
    free(type);
    return status;
}

/* Adds the networks of one scope that count at all. */
static tsr_status add_scope(tsr__control_use *uses, held *own, int *count, const tsr_engine *engine, tsr__job *job,
                            int region, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *images[TSR__LIST_MAX] = { NULL };
    keys k = read_keys(job, region);
    int nets = tsr__list_count(k.model), pictures = tsr__list_count(*k.image ? k.image : *k.data ? *k.data : "");
    int wanted = 0;
    for (int i = 0; *k.model && i < nets; i++) wanted += tsr__list_number(k.strength, i) != 0;
    if (!wanted) return TSR_OK;
    TSR_TRY(keep_pictures(images, pictures, job, &k, err));
    for (int i = 0; i < nets; i++) {
        if (tsr__list_number(k.strength, i) == 0) continue;
        TSR_TRY(make_use(&uses[*count], &own[*count], engine, job, &k, i, images[pictures == 1 ? 0 : i], err));
        (*count)++;
    }
done:
    for (int i = 0; i < TSR__LIST_MAX; i++) tsr_image_free(images[i]);
    return status;
}

tsr_status tsr__job_controls(tsr__control_set **out, tsr_engine *engine, tsr__job *job, int region, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__control_use uses[2 * TSR__LIST_MAX];
    held own[2 * TSR__LIST_MAX];
    char label[80] = "the scene";
    int count = 0;
    *out = NULL;
    memset(own, 0, sizeof own);
    if (region >= 0) tsr__region_label(label, sizeof label, job->scene, region);
    TSR_TRY(add_scope(uses, own, &count, engine, job, -1, err));
    if (region >= 0) TSR_TRY(add_scope(uses, own, &count, engine, job, region, err));
    TSR_TRY(tsr__controls_get(out, engine, uses, count, label, err));
done:
    for (int i = 0; i < 2 * TSR__LIST_MAX; i++) {
        free(own[i].model);
        free(own[i].pixels);
    }
    return status;
}
