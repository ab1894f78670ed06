/* apps/options.c - from argv to a scene. Every option is a row of the library's table; nothing is listed here. */
#include "options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int report(const tsr_error *err) {
    fprintf(stderr, "tessera: %s\n", err->message[0] ? err->message : tsr_status_text(err->status));
    return err->status == TSR_CANCELLED ? EXIT_INTERRUPTED : EXIT_RUN;
}

int usage_error(const char *format, ...) {
    va_list args;
    fputs("tessera: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_USAGE;
}

/* A value that the library refused: the message starts with the option's key. */
static int bad_value(const tsr_error *err) {
    report(err);
    return EXIT_USAGE;
}

typedef struct argument {
    const tsr_option_info *option;
    const char *value; /* NULL: a flag alone */
    int negated;       /* --no-FLAG */
} argument;

static int option_of(const char *name, size_t length) {
    char key[64];
    if (length == 0 || length >= sizeof key) return -1;
    memcpy(key, name, length);
    key[length] = 0;
    int index = tsr_option_find(TSR_OPTIONS_SCENE, key);
    return index >= 0 && tsr_option_at(TSR_OPTIONS_SCENE, index)->flags & TSR_OPTION_HIDDEN ? -1 : index;
}

static void with_dashes(char *out, size_t size, const char *key) {
    size_t i = 0;
    for (; key[i] && i + 1 < size; i++) out[i] = key[i] == '_' ? '-' : key[i];
    out[i] = 0;
}

static int unknown_option(const char *text) {
    char name[64], dashed[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text + 2, "="), text + 2);
    const char *near = tsr_option_nearest(TSR_OPTIONS_SCENE, name);
    if (!near) return usage_error("unknown option '%.80s'; `tessera generate --help` lists them", text);
    with_dashes(dashed, sizeof dashed, near);
    return usage_error("unknown option '--%s'; did you mean '--%s'?", name, dashed);
}

/* Takes one option (and its value) from argv[*at]. */
static int take_argument(argument *out, int argc, char **argv, int *at) {
    const char *text = argv[(*at)++];
    memset(out, 0, sizeof *out);
    if (strncmp(text, "--", 2) != 0 || !text[2])
        return usage_error("'%.80s' is not an option; texts belong to an option, such as --prompt \"...\"", text);
    const char *equal = strchr(text, '=');
    size_t length = equal ? (size_t)(equal - text - 2) : strlen(text + 2);
    int index = option_of(text + 2, length);
    if (index < 0 && strncmp(text, "--no-", 5) == 0 && !equal) {
        index = option_of(text + 5, length - 3);
        if (index >= 0 && tsr_option_at(TSR_OPTIONS_SCENE, index)->kind != TSR_OPTION_FLAG) index = -1;
        out->negated = 1;
    }
    if (index < 0) return unknown_option(text);
    out->option = tsr_option_at(TSR_OPTIONS_SCENE, index);
    out->value = equal ? equal + 1 : NULL;
    if (out->option->kind != TSR_OPTION_FLAG && !out->value) {
        if (*at >= argc) return usage_error("%s needs a value: %s %s", text, text, out->option->metavar);
        out->value = argv[(*at)++];
    }
    return 0;
}

/* --from, --scene and --resume start the scene, wherever they stand on the line; --region adds to it. */
static int is_start(const tsr_option_info *option) {
    return option && strcmp(option->key, "region") != 0 && (option->flags & TSR_OPTION_COMMAND);
}

static int load_state(tsr_scene **out, resume_from *resume, const char *path) {
    tsr_error err = TSR_ERROR_INIT;
    resume->path = path;
    if (tsr_state_load(&resume->state, &resume->size, path, &err) != TSR_OK) return report(&err);
    if (tsr_state_scene(out, resume->state, resume->size, &err) == TSR_OK) return 0;
    fprintf(stderr, "tessera: %s: %s\n", path, err.message);
    return EXIT_RUN;
}

static int load_start(tsr_scene **out, resume_from *resume, const argument *source) {
    tsr_error err = TSR_ERROR_INIT;
    if (source->option && strcmp(source->option->key, "resume") == 0) return load_state(out, resume, source->value);
    if (!source->option) return tsr_scene_new(out, &err) == TSR_OK ? 0 : report(&err);
    if (strcmp(source->option->key, "scene") == 0)
        return tsr_scene_from_file(out, source->value, &err) == TSR_OK ? 0 : report(&err);
    tsr_image *image = NULL;
    tsr_status status = tsr_image_load(&image, source->value, &err);
    if (status == TSR_OK && (status = tsr_scene_from_image(out, image, &err)) != TSR_OK)
        fprintf(stderr, "tessera: %s: %s\n", source->value, err.message);
    else if (status != TSR_OK) report(&err);
    tsr_image_free(image);
    return status == TSR_OK ? 0 : EXIT_RUN;
}

static int apply(tsr_scene *scene, const argument *given) {
    tsr_error err = TSR_ERROR_INIT;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): take_argument gave it an option, or failed */
    if (strcmp(given->option->key, "region") == 0)
        return tsr_scene_parse_region(scene, given->value, NULL, &err) == TSR_OK ? 0 : bad_value(&err);
    const char *value = given->value ? given->value : given->negated ? "false" : "true";
    return tsr_scene_set(scene, given->option->key, value, &err) == TSR_OK ? 0 : bad_value(&err);
}

/* What a stopped run may be given: things that do not change its picture. */
static int check_resumed(const argument *given) {
    char dashed[64];
    const tsr_option_info *option = given->option;
    if (!option || is_start(option) || (option->flags & TSR_OPTION_LOCAL) || strcmp(option->key, "model") == 0)
        return 0;
    with_dashes(dashed, sizeof dashed, option->key);
    return usage_error("--%s cannot be given with --resume, which goes on with the picture as it was", dashed);
}

int parse_options(tsr_scene **out, resume_from *resume, int argc, char **argv) {
    argument source = { 0 }, given;
    tsr_scene *scene = NULL;
    int result = 0;
    *out = NULL;
    memset(resume, 0, sizeof *resume);
    for (int at = 0; at < argc && !result;) {
        result = take_argument(&given, argc, argv, &at);
        if (result || !is_start(given.option)) continue;
        if (source.option) result = usage_error("give one --from, one --scene or one --resume");
        source = given;
    }
    if (!result) result = load_start(&scene, resume, &source);
    for (int at = 0; at < argc && !result;) {
        result = take_argument(&given, argc, argv, &at);
        if (!result && resume->path) result = check_resumed(&given);
        if (!result && !is_start(given.option)) result = apply(scene, &given);
    }
    if (!result) {
        *out = scene;
        scene = NULL;
    }
    tsr_scene_free(scene);
    return result;
}
