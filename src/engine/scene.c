/* engine/scene.c - the scene object: settings and regions by key, and regions from KEY=VALUE text.
 *
 * Owns the texts; opens no file. */
#include "tessera/scene.h"

#include <stdlib.h>
#include <string.h>

#include "engine/scene_priv.h"

tsr_status tsr_scene_new(tsr_scene **out, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, 1);
done:
    return status;
}

static void clear_region(tsr__scene_region *region) {
    for (int i = 0; i < TSR__REG_COUNT; i++) free(region->text[i]);
    memset(region, 0, sizeof *region);
}

void tsr_scene_clear_regions(tsr_scene *scene) {
    for (int i = 0; i < scene->region_count; i++) clear_region(&scene->regions[i]);
    free(scene->regions);
    scene->regions = NULL;
    scene->region_count = 0;
}

void tsr_scene_free(tsr_scene *scene) {
    if (!scene) return;
    for (int i = 0; i < TSR__OPT_COUNT; i++) free(scene->text[i]);
    tsr_scene_clear_regions(scene);
    free(scene);
}

static tsr_status copy_texts(char **to, char *const *from, int count, tsr_error *err) {
    for (int i = 0; i < count; i++)
        if (from[i] && !(to[i] = tsr__strdup(from[i]))) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    return TSR_OK;
}

tsr_status tsr_scene_copy(tsr_scene **out, const tsr_scene *scene, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *copy = NULL;
    *out = NULL;
    TSR_TRY(tsr_scene_new(&copy, err));
    TSR_TRY(copy_texts(copy->text, scene->text, TSR__OPT_COUNT, err));
    for (int i = 0; i < scene->region_count; i++) {
        TSR_TRY(tsr_scene_add_region(copy, NULL, err));
        TSR_TRY(copy_texts(copy->regions[i].text, scene->regions[i].text, TSR__REG_COUNT, err));
    }
    *out = copy;
    copy = NULL;
done:
    tsr_scene_free(copy);
    return status;
}

/* --- keys and values ---------------------------------------------------------------------------------------------------- */
static tsr_status find_key(int *out, tsr_option_scope scope, const char *key, tsr_error *err) {
    const char *what = scope == TSR_OPTIONS_SCENE ? "setting" : "region key";
    *out = tsr_option_find(scope, key ? key : "");
    if (*out >= 0 && !(tsr_option_at(scope, *out)->flags & TSR_OPTION_COMMAND)) return TSR_OK;
    if (*out >= 0)
        return tsr__fail(err, TSR_NOT_FOUND, "'%s' is an option of the command, not a setting of a scene", key);
    const char *near = key ? tsr_option_nearest(scope, key) : NULL;
    if (near) return tsr__fail(err, TSR_NOT_FOUND, "unknown %s '%.64s'; did you mean '%s'?", what, key, near);
    return tsr__fail(err, TSR_NOT_FOUND, "unknown %s '%.64s'", what, key ? key : "");
}

static tsr_status set_text(char **slot, const tsr_option_info *option, const char *text, tsr_error *err) {
    char *value = NULL;
    if (text) {
        tsr_status status = tsr__option_normalise(&value, option, text, err);
        if (status != TSR_OK) return status;
    }
    free(*slot);
    *slot = value;
    return TSR_OK;
}

static void drop(char **slot) {
    free(*slot);
    *slot = NULL;
}

tsr_status tsr_scene_set(tsr_scene *scene, const char *key, const char *text, tsr_error *err) {
    int option;
    tsr_status status = find_key(&option, TSR_OPTIONS_SCENE, key, err);
    if (status == TSR_OK) status = set_text(&scene->text[option], tsr_option_at(TSR_OPTIONS_SCENE, option), text, err);
    /* The bytes kept in metadata belong to the file named before. */
    if (status == TSR_OK && option == TSR__OPT_MASK) drop(&scene->text[TSR__OPT_MASK_DATA]);
    if (status == TSR_OK && option == TSR__OPT_CONTROL_IMAGE) drop(&scene->text[TSR__OPT_CONTROL_IMAGE_DATA]);
    if (status == TSR_OK && option == TSR__OPT_COLOR_IMAGE) drop(&scene->text[TSR__OPT_COLOR_IMAGE_DATA]);
    return status;
}

const char *tsr_scene_get(const tsr_scene *scene, const char *key) {
    int option = tsr_option_find(TSR_OPTIONS_SCENE, key);
    return option < 0 ? NULL : tsr__scene_text(scene, option);
}

int tsr_scene_is_set(const tsr_scene *scene, const char *key) {
    int option = tsr_option_find(TSR_OPTIONS_SCENE, key);
    return option >= 0 && scene->text[option] != NULL;
}

int tsr_scene_region_count(const tsr_scene *scene) {
    return scene->region_count;
}

tsr_status tsr_scene_add_region(tsr_scene *scene, int *index_out, tsr_error *err) {
    if (index_out) *index_out = -1;
    if (scene->region_count >= TSR_SCENE_MAX_REGIONS)
        return tsr__fail(err, TSR_TOO_LARGE, "a scene has at most %d regions", TSR_SCENE_MAX_REGIONS);
    size_t count = (size_t)scene->region_count + 1;
    tsr__scene_region *grown = realloc(scene->regions, count * sizeof *grown);
    if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    scene->regions = grown;
    memset(&grown[count - 1], 0, sizeof *grown);
    if (index_out) *index_out = scene->region_count;
    scene->region_count++;
    return TSR_OK;
}

tsr_status tsr_scene_set_region(tsr_scene *scene, int index, const char *key, const char *text, tsr_error *err) {
    int option;
    if (index < 0 || index >= scene->region_count)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "there is no region %d; the scene has %d", index, scene->region_count);
    char **slots = scene->regions[index].text;
    tsr_status status = find_key(&option, TSR_OPTIONS_REGION, key, err);
    if (status == TSR_OK) status = set_text(&slots[option], tsr_option_at(TSR_OPTIONS_REGION, option), text, err);
    if (status == TSR_OK && option == TSR__REG_MASK) drop(&slots[TSR__REG_MASK_DATA]);
    if (status == TSR_OK && option == TSR__REG_CONTROL_IMAGE) drop(&slots[TSR__REG_CONTROL_IMAGE_DATA]);
    return status;
}

const char *tsr_scene_get_region(const tsr_scene *scene, int index, const char *key) {
    int option = tsr_option_find(TSR_OPTIONS_REGION, key);
    if (option < 0 || index < 0 || index >= scene->region_count) return NULL;
    return tsr__region_text(scene, index, option);
}

int tsr_scene_region_is_set(const tsr_scene *scene, int index, const char *key) {
    int option = tsr_option_find(TSR_OPTIONS_REGION, key);
    return option >= 0 && index >= 0 && index < scene->region_count && scene->regions[index].text[option] != NULL;
}

/* --- typed reading -------------------------------------------------------------------------------------------------------- */
const char *tsr__scene_text(const tsr_scene *scene, int option) {
    const char *text = scene->text[option];
    return text ? text : tsr_option_at(TSR_OPTIONS_SCENE, option)->default_text;
}

double tsr__scene_number(const tsr_scene *scene, int option) {
    double value = 0;
    (void)tsr__parse_number(tsr__scene_text(scene, option), &value);
    return value;
}

int tsr__scene_int(const tsr_scene *scene, int option) {
    return (int)tsr__scene_number(scene, option);
}

int tsr__scene_flag(const tsr_scene *scene, int option) {
    return strcmp(tsr__scene_text(scene, option), "true") == 0;
}

int tsr__scene_outpaints(const tsr_scene *scene) {
    static const int sides[] = { TSR__OPT_OUTPAINT_LEFT, TSR__OPT_OUTPAINT_TOP, TSR__OPT_OUTPAINT_RIGHT,
                                 TSR__OPT_OUTPAINT_BOTTOM };
    int pixels = 0;
    for (int i = 0; i < 4; i++) pixels += tsr__scene_int(scene, sides[i]);
    return pixels > 0;
}

int tsr__scene_has_mask(const tsr_scene *scene) {
    return scene->text[TSR__OPT_MASK] || scene->text[TSR__OPT_MASK_DATA] || tsr__scene_outpaints(scene);
}

uint64_t tsr__scene_seed(const tsr_scene *scene, int option) {
    return strtoull(tsr__scene_text(scene, option), NULL, 10);
}

const char *tsr__region_text(const tsr_scene *scene, int region, int option) {
    const char *text = scene->regions[region].text[option];
    if (text) return text;
    switch (option) {
    case TSR__REG_NEGATIVE: return tsr__scene_text(scene, TSR__OPT_NEGATIVE);
    case TSR__REG_CFG: return tsr__scene_text(scene, TSR__OPT_CFG);
    case TSR__REG_SAMPLER: return tsr__scene_text(scene, TSR__OPT_SAMPLER);
    case TSR__REG_SCHEDULER: return tsr__scene_text(scene, TSR__OPT_SCHEDULER);
    default: return tsr_option_at(TSR_OPTIONS_REGION, option)->default_text;
    }
}

double tsr__region_number(const tsr_scene *scene, int region, int option) {
    double value = 0;
    (void)tsr__parse_number(tsr__region_text(scene, region, option), &value);
    return value;
}

uint64_t tsr__region_seed(const tsr_scene *scene, int region, int option) {
    return strtoull(tsr__region_text(scene, region, option), NULL, 10);
}

void tsr__region_label(char *out, size_t size, const tsr_scene *scene, int region) {
    const char *name = tsr__region_text(scene, region, TSR__REG_NAME);
    if (*name) snprintf(out, size, "region %d (%.40s)", region + 1, name);
    else snprintf(out, size, "region %d", region + 1);
}

/* --- regions from text ------------------------------------------------------------------------------------------------------ */
/* Whether a comma at `text` ends a value: the text ends there, or KEY= follows. Any other comma belongs to the value, so that
 * "prompt=a fox, snow,cfg=5" means what it says. */
static int ends_value(const char *text) {
    if (*text != ',') return 0;
    do text++;
    while (*text == ' ');
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    return !*text || (n > 0 && text[n] == '=');
}

/* Copies one value into `value` (as long as the rest of text), undoing quotes and backslashes; returns where it ends. */
static const char *take_value(char *value, const char *text, int *closed) {
    int quoted = 0;
    *closed = 1;
    for (; *text && (quoted || !ends_value(text)); text++) {
        if (*text == '"') {
            quoted = !quoted;
        } else if (*text == '\\' && (text[1] == ',' || text[1] == '"' || text[1] == '\\')) {
            *value++ = *++text;
        } else {
            *value++ = *text;
        }
    }
    *value = 0;
    *closed = !quoted;
    return text;
}

static tsr_status parse_pair(tsr_scene *scene, int index, const char **text, char *room, tsr_error *err) {
    char key[64];
    int closed;
    size_t n;
    while (**text == ' ') (*text)++;
    n = strcspn(*text, "=,");
    if ((*text)[n] != '=' || n == 0 || n >= sizeof key)
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "region: '%.40s' is not KEY=VALUE; give for example box=0:0:50%%:100%%,prompt=a fox", *text);
    memcpy(key, *text, n);
    key[n] = 0;
    *text = take_value(room, *text + n + 1, &closed);
    if (!closed) return tsr__fail(err, TSR_BAD_ARGUMENT, "region: the quote in %s=... is not closed", key);
    if (**text == ',') (*text)++;
    if (tsr_scene_region_is_set(scene, index, key))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "region: %s is given twice", key);
    return tsr_scene_set_region(scene, index, key, room, err);
}

tsr_status tsr_scene_parse_region(tsr_scene *scene, const char *text, int *index_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *room = NULL;
    int index = -1;
    if (index_out) *index_out = -1;
    if (strlen(text) > TSR__SCENE_MAX_BYTES) TSR_FAIL(err, TSR_TOO_LARGE, "region: the text is too long");
    TSR_ALLOC(err, room, strlen(text) + 1);
    TSR_TRY(tsr_scene_add_region(scene, &index, err));
    if (!*text) TSR_FAIL(err, TSR_BAD_ARGUMENT, "region: empty; give at least a place and a prompt");
    while (*text) TSR_TRY(parse_pair(scene, index, &text, room, err));
    if (index_out) *index_out = index;
    index = -1;
done:
    if (index >= 0) clear_region(&scene->regions[--scene->region_count]);
    free(room);
    return status;
}

/* --- do the settings fit together --------------------------------------------------------------------------------------------- */
/* The control keys of the scene or of a region: `control` and what starts with control_. */
static tsr_status check_control(const char *who, tsr_option_scope scope, char *const *text, tsr_error *err) {
    const char *model = text[tsr_option_find(scope, "control")], *image = text[tsr_option_find(scope, "control_image")];
    int has_model = model && *model;
    int has_image = (image && *image) || text[tsr_option_find(scope, "control_image_data")];
    if (has_model != has_image)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: %s", who,
                         has_model ? "control needs control_image, the picture that it reads"
                                   : "control_image needs control, the network that reads it");
    int nets = has_model ? tsr__list_count(model) : 1;
    for (int i = 0; i < tsr_option_count(scope); i++) {
        const tsr_option_info *option = tsr_option_at(scope, i);
        if (!text[i] || strncmp(option->key, "control_", 8) != 0) continue;
        int values = tsr__list_count(text[i]);
        if (values != 1 && values != nets)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: %s has %d values and control %d; give one, or one for each",
                             who, option->key, values, nets);
    }
    return TSR_OK;
}

static tsr_status check_region(const tsr_scene *scene, int i, tsr_error *err) {
    char *const *text = scene->regions[i].text;
    char label[80];
    int places = (text[TSR__REG_BOX] != NULL) + (text[TSR__REG_MASK] || text[TSR__REG_MASK_DATA]) +
                 (text[TSR__REG_COLOR] != NULL);
    tsr__region_label(label, sizeof label, scene, i);
    if (places != 1)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: needs one of box, mask and color, has %d", label, places);
    if (text[TSR__REG_COLOR] && !scene->text[TSR__OPT_COLOR_IMAGE] && !scene->text[TSR__OPT_COLOR_IMAGE_DATA])
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: color needs color_image, the picture that has the colour", label);
    if (text[TSR__REG_DENOISE] && text[TSR__REG_START])
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: denoise is another way to write start; give one of them", label);
    if (text[TSR__REG_DENOISE] && tsr__region_number(scene, i, TSR__REG_DENOISE) <= 0)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: denoise is 0: it would never paint; give more, up to 1", label);
    if (text[TSR__REG_SEED] && (text[TSR__REG_VARIATION_SEED] || text[TSR__REG_VARIATION_STRENGTH]))
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "%s: seed gives the region its whole noise, variation_seed a part; give one of them", label);
    if (!text[TSR__REG_PROMPT]) return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: has no prompt", label);
    return check_control(label, TSR_OPTIONS_REGION, text, err);
}

/* Settings of a mask, where there is none. */
static tsr_status check_repaint(const tsr_scene *scene, tsr_error *err) {
    static const int of_mask[] = { TSR__OPT_MASK_INVERT, TSR__OPT_MASK_GROW, TSR__OPT_MASK_FEATHER, TSR__OPT_MASK_FILL,
                                   TSR__OPT_DIFFERENTIAL };
    if (tsr__scene_outpaints(scene) && !scene->text[TSR__OPT_INIT_IMAGE])
        return tsr__fail(err, TSR_BAD_ARGUMENT, "outpaint needs init_image, the picture that goes on at its sides");
    for (size_t i = 0; i < sizeof of_mask / sizeof *of_mask && !tsr__scene_has_mask(scene); i++) {
        const tsr_option_info *option = tsr_option_at(TSR_OPTIONS_SCENE, of_mask[i]);
        if (strcmp(tsr__scene_text(scene, of_mask[i]), option->default_text) != 0)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "%s needs mask, the picture that marks what is repainted",
                             option->key);
    }
    return TSR_OK;
}

tsr_status tsr_scene_check(const tsr_scene *scene, tsr_error *err) {
    static const int sides[2] = { TSR__OPT_WIDTH, TSR__OPT_HEIGHT };
    for (int i = 0; i < 2; i++) {
        int side = tsr__scene_int(scene, sides[i]);
        if (side % 8)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: %d is not a multiple of 8; try %d",
                             tsr_option_at(TSR_OPTIONS_SCENE, sides[i])->key, side, side < 8 ? 8 : (side + 4) / 8 * 8);
    }
    if (scene->text[TSR__OPT_INIT_IMAGE] && scene->text[TSR__OPT_INIT_LATENT])
        return tsr__fail(err, TSR_BAD_ARGUMENT, "give init_image or init_latent, not both");
    int has_init = scene->text[TSR__OPT_INIT_IMAGE] || scene->text[TSR__OPT_INIT_LATENT];
    if (!has_init && tsr__scene_number(scene, TSR__OPT_DENOISE) < 1)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "denoise below 1 needs init_image or init_latent to start from");
    if (!has_init && (scene->text[TSR__OPT_MASK] || scene->text[TSR__OPT_MASK_DATA]))
        return tsr__fail(err, TSR_BAD_ARGUMENT, "mask needs init_image or init_latent to repaint");
    tsr_status status = check_control("the scene", TSR_OPTIONS_SCENE, scene->text, err);
    if (status == TSR_OK) status = check_repaint(scene, err);
    for (int i = 0; i < scene->region_count && status == TSR_OK; i++) status = check_region(scene, i, err);
    return status;
}
