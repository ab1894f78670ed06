/* engine/scene_json.c - scenes as JSON: the same keys and values as the command, one list of regions.
 *
 * Trusts nothing it reads: sizes are limited, unknown keys refused. Knows nothing of pictures. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/scene_priv.h"

#define SCENE_FORMAT 1 /* grows when an old Tessera would misread a new scene */

/* --- reading ------------------------------------------------------------------------------------------------------------ */
/* The text a person would type for a JSON value; *out points into room or into the value. */
static tsr_status value_text(const char **out, char *room, size_t size, const char *key, const json_t *value,
                             tsr_error *err) {
    *out = room;
    switch (json_typeof(value)) {
    case JSON_STRING:
        *out = json_string_value(value);
        if (strlen(*out) != json_string_length(value))
            return tsr__fail(err, TSR_BAD_FORMAT, "scene: %.64s holds a zero character", key);
        return TSR_OK;
    case JSON_INTEGER: snprintf(room, size, "%lld", (long long)json_integer_value(value)); return TSR_OK;
    case JSON_REAL: tsr__print_number(room, size, json_real_value(value)); return TSR_OK;
    case JSON_TRUE: *out = "true"; return TSR_OK;
    case JSON_FALSE: *out = "false"; return TSR_OK;
    default: return tsr__fail(err, TSR_BAD_FORMAT, "scene: %.64s must be a text, a number or true/false", key);
    }
}

/* An array of a row that takes several values, as its text; *out is the caller's. */
static tsr_status array_text(char **out, const char *key, const json_t *array, tsr_error *err) {
    size_t i;
    const json_t *item = NULL;
    json_array_foreach(array, i, item) {
        char room[64];
        const char *text = NULL;
        tsr_status status = value_text(&text, room, sizeof room, key, item, err);
        if (status == TSR_OK && strchr(text, ';'))
            status = tsr__fail(err, TSR_BAD_FORMAT, "scene: %.64s: item %zu holds a ';'", key, i + 1);
        if (status == TSR_OK) status = tsr__list_add(out, text, err);
        if (status != TSR_OK) return status;
    }
    return *out ? TSR_OK : tsr__fail(err, TSR_BAD_FORMAT, "scene: %.64s is an empty list; leave it out", key);
}

/* Data keys come last: setting the file's name drops the bytes that belonged to the name before. */
static tsr_status read_settings(tsr_scene *scene, int region, const json_t *object, int data, tsr_error *err) {
    const char *key = NULL;
    const json_t *value = NULL;
    tsr_option_scope scope = region < 0 ? TSR_OPTIONS_SCENE : TSR_OPTIONS_REGION;
    json_object_foreach((json_t *)object, key, value) {
        char room[64];
        const char *text = NULL;
        char *list = NULL;
        const tsr_option_info *option = tsr_option_at(scope, tsr_option_find(scope, key));
        if (region < 0 && (strcmp(key, "regions") == 0 || strcmp(key, "tessera_scene") == 0)) continue;
        if (json_is_null(value) || (option && option->kind == TSR_OPTION_DATA) != data) continue;
        int several = option && (option->flags & TSR_OPTION_LIST) && json_is_array(value);
        tsr_status status =
            several ? array_text(&list, key, value, err) : value_text(&text, room, sizeof room, key, value, err);
        if (several) text = list;
        if (status == TSR_OK)
            status =
                region < 0 ? tsr_scene_set(scene, key, text, err) : tsr_scene_set_region(scene, region, key, text, err);
        free(list);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

static tsr_status read_regions(tsr_scene *scene, const json_t *list, tsr_error *err) {
    size_t i;
    const json_t *item = NULL;
    if (!list) return TSR_OK;
    if (!json_is_array(list)) return tsr__fail(err, TSR_BAD_FORMAT, "scene: regions must be a list");
    json_array_foreach(list, i, item) {
        int index;
        if (!json_is_object(item)) return tsr__fail(err, TSR_BAD_FORMAT, "scene: region %zu must be an object", i + 1);
        tsr_status status = tsr_scene_add_region(scene, &index, err);
        if (status == TSR_OK) status = read_settings(scene, index, item, 0, err);
        if (status == TSR_OK) status = read_settings(scene, index, item, 1, err);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

tsr_status tsr_scene_from_json(tsr_scene **out, const char *text, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *scene = NULL;
    json_t *root = NULL;
    json_error_t where;
    *out = NULL;
    if (size > TSR__SCENE_MAX_BYTES) TSR_FAIL(err, TSR_TOO_LARGE, "scene: %zu bytes are over the limit", size);
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        if (err && err->status == TSR_OK) err->offset = where.position;
        TSR_FAIL(err, TSR_BAD_FORMAT, "scene: line %d: %s", where.line, where.text);
    }
    if (!json_is_object(root)) TSR_FAIL(err, TSR_BAD_FORMAT, "scene: must be a JSON object with keys such as prompt");
    const json_t *format = json_object_get(root, "tessera_scene");
    if (format && (!json_is_integer(format) || json_integer_value(format) != SCENE_FORMAT))
        TSR_FAIL(err, TSR_UNSUPPORTED, "scene: written in a format that this Tessera (%s) does not know; update it",
                 tsr_version());
    TSR_TRY(tsr_scene_new(&scene, err));
    TSR_TRY(read_settings(scene, -1, root, 0, err));
    TSR_TRY(read_settings(scene, -1, root, 1, err));
    TSR_TRY(read_regions(scene, json_object_get(root, "regions"), err));
    *out = scene;
    scene = NULL;
done:
    tsr_scene_free(scene);
    json_decref(root);
    return status;
}

tsr_status tsr_scene_from_file(tsr_scene **out, const char *path, tsr_error *err) {
    void *text = NULL;
    size_t size = 0;
    tsr_error inner = TSR_ERROR_INIT;
    *out = NULL;
    tsr_status status = tsr__read_file(&text, &size, path, TSR__SCENE_MAX_BYTES, err);
    if (status != TSR_OK) return status;
    status = tsr_scene_from_json(out, text, size, &inner);
    if (status != TSR_OK) {
        status = tsr__fail(err, inner.status, "%s: %s", path, inner.message);
        if (err) err->offset = inner.offset;
    }
    free(text);
    return status;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */
static json_t *one_json(const tsr_option_info *option, const char *text) {
    double number = 0;
    switch (option->kind) {
    case TSR_OPTION_FLAG: return json_boolean(strcmp(text, "true") == 0);
    case TSR_OPTION_INT: return json_integer(strtoll(text, NULL, 10));
    case TSR_OPTION_FLOAT: (void)tsr__parse_number(text, &number); return json_real(number);
    case TSR_OPTION_SEED:
        /* Above 2^53 many JSON readers round; a text stays exact. */
        if (strcmp(text, "random") != 0 && strlen(text) < 16) return json_integer(strtoll(text, NULL, 10));
        return json_string(text);
    default: return json_string(text);
    }
}

static json_t *value_json(const tsr_option_info *option, const char *text) {
    if (!(option->flags & TSR_OPTION_LIST) || !strchr(text, ';')) return one_json(option, text);
    json_t *list = json_array();
    tsr_error ignored = TSR_ERROR_INIT;
    for (int i = 0; i < tsr__list_count(text); i++) {
        char *item = NULL;
        int good = tsr__list_item(&item, text, i, &ignored) == TSR_OK &&
                   json_array_append_new(list, one_json(option, item)) == 0;
        free(item);
        if (good) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static int write_settings(json_t *object, char *const *text, tsr_option_scope scope, unsigned without) {
    for (int i = 0; i < tsr_option_count(scope); i++) {
        const tsr_option_info *option = tsr_option_at(scope, i);
        if (!text[i] || (option->flags & without)) continue;
        if (json_object_set_new(object, option->key, value_json(option, text[i]))) return 0;
    }
    return 1;
}

static tsr_status write_scene(char **out, const tsr_scene *scene, unsigned without, size_t flags, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *root = json_object();
    *out = NULL;
    int good = root && json_object_set_new(root, "tessera_scene", json_integer(SCENE_FORMAT)) == 0 &&
               write_settings(root, scene->text, TSR_OPTIONS_SCENE, without);
    if (good && scene->region_count) {
        json_t *list = json_array();
        good = json_object_set_new(root, "regions", list) == 0;
        for (int i = 0; good && i < scene->region_count; i++) {
            json_t *region = json_object();
            good = json_array_append_new(list, region) == 0 &&
                   write_settings(region, scene->regions[i].text, TSR_OPTIONS_REGION, without);
        }
    }
    /* A text that is not UTF-8 cannot be JSON. */
    if (!good) TSR_FAIL(err, TSR_BAD_ARGUMENT, "scene: a text in it is not UTF-8, or memory is out");
    *out = json_dumps(root, flags | JSON_REAL_PRECISION(9));
    if (!*out) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    json_decref(root);
    return status;
}

tsr_status tsr_scene_to_json(char **out, const tsr_scene *scene, tsr_error *err) {
    return write_scene(out, scene, 0, JSON_INDENT(2), err);
}

tsr_status tsr__scene_metadata_json(char **out, const tsr_scene *scene, tsr_error *err) {
    return write_scene(out, scene, TSR_OPTION_LOCAL, JSON_COMPACT, err);
}
