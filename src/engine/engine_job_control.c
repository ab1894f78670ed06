/* engine/engine_job_control.c - a scene's and its regions' control keys made uses of control networks. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "picture/preprocess.h"

/* The keys of one scope: of the scene (region -1) or of a region. */
typedef struct keys {
    const char *model, *image, *preprocess;
    double strength, start, end;
    char **data;
} keys;

static keys read_keys(tsr__job *job, int region) {
    tsr_scene *scene = job->scene;
    keys k;
    if (region < 0) {
        k.model = tsr__scene_text(scene, TSR__OPT_CONTROL);
        k.image = tsr__scene_text(scene, TSR__OPT_CONTROL_IMAGE);
        k.preprocess = tsr__scene_text(scene, TSR__OPT_CONTROL_PREPROCESS);
        k.strength = tsr__scene_number(scene, TSR__OPT_CONTROL_STRENGTH);
        k.start = tsr__scene_number(scene, TSR__OPT_CONTROL_START);
        k.end = tsr__scene_number(scene, TSR__OPT_CONTROL_END);
        k.data = &scene->text[TSR__OPT_CONTROL_IMAGE_DATA];
        return k;
    }
    k.model = tsr__region_text(scene, region, TSR__REG_CONTROL);
    k.image = tsr__region_text(scene, region, TSR__REG_CONTROL_IMAGE);
    k.preprocess = tsr__region_text(scene, region, TSR__REG_CONTROL_PREPROCESS);
    k.strength = tsr__region_number(scene, region, TSR__REG_CONTROL_STRENGTH);
    k.start = tsr__region_number(scene, region, TSR__REG_CONTROL_START);
    k.end = tsr__region_number(scene, region, TSR__REG_CONTROL_END);
    k.data = &scene->regions[region].text[TSR__REG_CONTROL_IMAGE_DATA];
    return k;
}

/* Fills a use; *pixels is what it points at, the caller's. */
static tsr_status make_use(tsr__control_use *out, float **pixels, tsr_engine *engine, tsr__job *job, const keys *k,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *image = NULL;
    TSR_TRY(tsr__job_load_picture(&image, job, k->image, k->data, err));
    TSR_ALLOC(err, *pixels, (size_t)image->width * (size_t)image->height * 3);
    tsr_image_to_floats(image, *pixels);
    TSR_TRY(tsr__preprocess(*pixels, image->width, image->height,
                            (tsr__preprocess_kind)tsr__preprocess_find(k->preprocess), err));
    out->model = k->model;
    out->pixels = *pixels;
    out->width = image->width;
    out->height = image->height;
    out->strength = (float)k->strength;
    out->start_sigma = tsr_sigma_of_percent(engine->table, k->start);
    out->end_sigma = tsr_sigma_of_percent(engine->table, k->end);
done:
    tsr_image_free(image);
    return status;
}

tsr_status tsr__job_controls(tsr__control_set **out, tsr_engine *engine, tsr__job *job, int region, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__control_use uses[2];
    float *pixels[2] = { NULL, NULL };
    char label[80] = "the scene";
    int count = 0;
    *out = NULL;
    if (region >= 0) tsr__region_label(label, sizeof label, job->scene, region);
    for (int i = 0; i < (region < 0 ? 1 : 2); i++) {
        keys k = read_keys(job, i ? region : -1);
        if (!*k.model || k.strength == 0) continue;
        TSR_TRY(make_use(&uses[count], &pixels[count], engine, job, &k, err));
        count++;
    }
    TSR_TRY(tsr__controls_get(out, engine, uses, count, label, err));
done:
    for (int i = 0; i < 2; i++) free(pixels[i]);
    return status;
}
