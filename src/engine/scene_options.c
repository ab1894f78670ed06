/* engine/scene_options.c - the option table, looking keys up in it, and checking values against a row.
 *
 * Knows nothing of a scene's memory. Immutable. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/suggest.h"
#include "engine/scene_priv.h"
#include "tessera/schedule.h"
#include "tessera/solver.h"

static const tsr_option_info scene_options[] = {
#define GLOBAL(name, key, kind, flags, low, high, fallback, choices, metavar, group, help, comfyui)                    \
    { #key, TSR_OPTION_##kind, flags, low, high, fallback, choices, metavar, group, help, comfyui },
#define REGION(...)
#include "engine/scene_options.inc"
#undef GLOBAL
#undef REGION
};

static const tsr_option_info region_options[] = {
#define GLOBAL(...)
#define REGION(name, key, kind, flags, low, high, fallback, choices, metavar, help, comfyui)                           \
    { #key, TSR_OPTION_##kind, flags, low, high, fallback, choices, metavar, "Region", help, comfyui },
#include "engine/scene_options.inc"
#undef GLOBAL
#undef REGION
};

int tsr_option_count(tsr_option_scope scope) {
    return scope == TSR_OPTIONS_SCENE ? TSR__OPT_COUNT : TSR__REG_COUNT;
}

const tsr_option_info *tsr_option_at(tsr_option_scope scope, int index) {
    if (index < 0 || index >= tsr_option_count(scope)) return NULL;
    return scope == TSR_OPTIONS_SCENE ? &scene_options[index] : &region_options[index];
}

static int same_key(const char *a, const char *b) {
    for (; *a && *b; a++, b++)
        if ((*a == '-' ? '_' : *a) != (*b == '-' ? '_' : *b)) return 0;
    return *a == *b;
}

int tsr_option_find(tsr_option_scope scope, const char *key) {
    for (int i = 0; key && i < tsr_option_count(scope); i++)
        if (same_key(tsr_option_at(scope, i)->key, key)) return i;
    return -1;
}

static const char *typed_key(tsr_option_scope scope, int index) {
    const tsr_option_info *option = tsr_option_at(scope, index);
    return option && !(option->flags & TSR_OPTION_HIDDEN) ? option->key : NULL;
}
static const char *scene_key_at(int index) {
    return typed_key(TSR_OPTIONS_SCENE, index);
}
static const char *region_key_at(int index) {
    return typed_key(TSR_OPTIONS_REGION, index);
}

const char *tsr_option_nearest(tsr_option_scope scope, const char *key) {
    char plain[64];
    size_t n = strnlen(key, sizeof plain - 1);
    for (size_t i = 0; i < n; i++) plain[i] = key[i] == '-' ? '_' : key[i];
    plain[n] = 0;
    return tsr__suggest(plain, scope == TSR_OPTIONS_SCENE ? scene_key_at : region_key_at, tsr_option_count(scope));
}

/* --- values ----------------------------------------------------------------------------------------------------------- */
static tsr_status keep(char **out, const char *text, tsr_error *err) {
    *out = tsr__strdup(text);
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

static tsr_status normalise_number(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    char printed[40], low[40], high[40];
    double value;
    int whole = option->kind == TSR_OPTION_INT;
    tsr__print_number(low, sizeof low, option->minimum);
    tsr__print_number(high, sizeof high, option->maximum);
    if (!tsr__parse_number(text, &value) || (whole && value != floor(value)) || value < option->minimum ||
        value > option->maximum)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: '%.64s' is not a %snumber from %s to %s", option->key, text,
                         whole ? "whole " : "", low, high);
    tsr__print_number(printed, sizeof printed, value == 0 ? 0.0 : value);
    return keep(out, printed, err);
}

static tsr_status normalise_seed(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    size_t n = strlen(text);
    if (strcmp(text, "random") == 0 || strcmp(text, "-1") == 0) return keep(out, "random", err);
    while (n > 1 && *text == '0') text++, n--;
    if (n == 0 || strspn(text, "0123456789") != n || n > 20 || (n == 20 && strcmp(text, "18446744073709551615") > 0))
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "%s: '%.64s' is not a whole number from 0 to 18446744073709551615, nor 'random'", option->key,
                         text);
    return keep(out, text, err);
}

static tsr_status normalise_flag(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    static const char *const words[] = { "true", "on", "yes", "1", "false", "off", "no", "0" };
    for (int i = 0; i < 8; i++)
        if (strcmp(text, words[i]) == 0) return keep(out, i < 4 ? "true" : "false", err);
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: '%.64s' is neither true nor false", option->key, text);
}

static int in_choices(const char *choices, const char *text) {
    size_t n = strlen(text);
    for (const char *at = choices; at && *at; at += strcspn(at, "|"), at += *at == '|')
        if (strcspn(at, "|") == n && memcmp(at, text, n) == 0) return n > 0;
    return 0;
}

static tsr_status normalise_name(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    int sampler = option->kind == TSR_OPTION_SAMPLER;
    const char *kind = sampler ? "sampler" : "scheduler";
    if (in_choices(option->choices, text) || (sampler ? tsr_sampler_find(text) : tsr_scheduler_find(text)) >= 0)
        return keep(out, text, err);
    const char *near = sampler ? tsr__suggest(text, tsr_sampler_name, tsr_sampler_count())
                               : tsr__suggest(text, tsr_scheduler_name, tsr_scheduler_count());
    if (near)
        return tsr__fail(err, TSR_NOT_FOUND, "%s: no %s is called '%.64s'; did you mean '%s'?", option->key, kind, text,
                         near);
    return tsr__fail(err, TSR_NOT_FOUND, "%s: no %s is called '%.64s'; `tessera %ss` lists them", option->key, kind,
                     text, kind);
}

static tsr_status normalise_choice(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    if (in_choices(option->choices, text)) return keep(out, text, err);
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: '%.64s' is none of %s", option->key, text, option->choices);
}

static tsr_status normalise_color(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    char color[8] = "#";
    const char *digits = text + (*text == '#');
    if (strlen(digits) != 6 || strspn(digits, "0123456789abcdefABCDEF") != 6)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: '%.64s' is not a colour such as #ff8800", option->key, text);
    for (int i = 0; i < 6; i++)
        color[i + 1] = (char)(digits[i] >= 'A' && digits[i] <= 'F' ? digits[i] + 32 : digits[i]);
    color[7] = 0;
    return keep(out, color, err);
}

static tsr_status normalise_size(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    size_t bytes;
    tsr_error reason = TSR_ERROR_INIT;
    if (tsr_size_parse(&bytes, text, &reason) == TSR_OK) return keep(out, text, err);
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: %s", option->key, reason.message);
}

static tsr_status normalise_box(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    int box[4];
    if (tsr__parse_box(text, 1000, 1000, box) && box[2] > 0 && box[3] > 0) return keep(out, text, err);
    return tsr__fail(err, TSR_BAD_ARGUMENT,
                     "%s: '%.64s' is not X:Y:WIDTH:HEIGHT in pixels or percent, such as 0:0:50%%:100%%", option->key,
                     text);
}

/* Control characters would break the one-line formats that carry these texts; newline and tab are text. */
static tsr_status normalise_text(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    size_t limit = option->kind == TSR_OPTION_PATH ? 4096 : 65536;
    if (option->kind == TSR_OPTION_DATA) limit = TSR__DATA_MAX_BYTES / 3 * 4 + 8;
    if (strlen(text) > limit)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: %zu bytes are over the limit of %zu", option->key, strlen(text),
                         limit);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t' && *c != '\r')
            return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: holds the control character 0x%02x", option->key,
                             (unsigned)(unsigned char)*c);
    return keep(out, text, err);
}

static tsr_status normalise_one(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    *out = NULL;
    switch (option->kind) {
    case TSR_OPTION_INT:
    case TSR_OPTION_FLOAT: return normalise_number(out, option, text, err);
    case TSR_OPTION_SEED: return normalise_seed(out, option, text, err);
    case TSR_OPTION_FLAG: return normalise_flag(out, option, text, err);
    case TSR_OPTION_CHOICE: return normalise_choice(out, option, text, err);
    case TSR_OPTION_SAMPLER:
    case TSR_OPTION_SCHEDULER: return normalise_name(out, option, text, err);
    case TSR_OPTION_COLOR: return normalise_color(out, option, text, err);
    case TSR_OPTION_BOX: return normalise_box(out, option, text, err);
    case TSR_OPTION_SIZE: return normalise_size(out, option, text, err);
    case TSR_OPTION_TEXT:
    case TSR_OPTION_PATH:
    case TSR_OPTION_ADAPTERS:
    case TSR_OPTION_DATA: break;
    }
    return normalise_text(out, option, text, err);
}

/* An item of data may be empty: a picture that was too large to keep. */
static tsr_status normalise_list(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *list = NULL, *item = NULL, *good = NULL;
    int count = tsr__list_count(text);
    *out = NULL;
    if (count > TSR__LIST_MAX)
        TSR_FAIL(err, TSR_TOO_LARGE, "%s: %d values; a list has at most %d", option->key, count, TSR__LIST_MAX);
    for (int i = 0; i < count; i++) {
        TSR_TRY(tsr__list_item(&item, text, i, err));
        if (!*item && option->kind != TSR_OPTION_DATA)
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: value %d of the list is empty", option->key, i + 1);
        TSR_TRY(normalise_one(&good, option, item, err));
        TSR_TRY(tsr__list_add(&list, good, err));
        free(item);
        free(good);
        item = good = NULL;
    }
    *out = list;
    list = NULL;
done:
    free(list);
    free(item);
    free(good);
    return status;
}

tsr_status tsr__option_normalise(char **out, const tsr_option_info *option, const char *text, tsr_error *err) {
    int several = (option->flags & TSR_OPTION_LIST) && strchr(text, ';');
    return several ? normalise_list(out, option, text, err) : normalise_one(out, option, text, err);
}
