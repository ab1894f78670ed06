/* engine/scene_image.c - scenes out of pictures: Tessera's own metadata, a TesseraScene node of a ComfyUI prompt, or A1111's
 * `parameters` text, and writing the latter.
 *
 * The text is "PROMPT\nNegative prompt: NEGATIVE\nSteps: 20, Sampler: Euler a, ...". Unknown fields are skipped, unreadable
 * values as well: other programs write whatever they like there. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/scene_priv.h"
#include "engine/workflow_text.h"
#include "tessera/engine.h"
#include "tessera/schedule.h"
#include "tessera/solver.h"

/* A1111's names of what ComfyUI calls differently. */
static const struct sampler_word {
    const char *a1111, *comfyui;
} sampler_words[] = {
    { "Euler", "euler" },
    { "Euler a", "euler_ancestral" },
    { "Heun", "heun" },
    { "DPM2", "dpm_2" },
    { "DPM2 a", "dpm_2_ancestral" },
    { "LMS", "lms" },
    { "DPM fast", "dpm_fast" },
    { "DPM adaptive", "dpm_adaptive" },
    { "DPM++ 2S a", "dpmpp_2s_ancestral" },
    { "DPM++ SDE", "dpmpp_sde" },
    { "DPM++ 2M", "dpmpp_2m" },
    { "DPM++ 2M SDE", "dpmpp_2m_sde" },
    { "DPM++ 3M SDE", "dpmpp_3m_sde" },
    { "DDIM", "ddim" },
    { "UniPC", "uni_pc" },
    { "LCM", "lcm" },
};
static const struct sampler_word scheduler_words[] = {
    { "Karras", "karras" }, { "Exponential", "exponential" }, { "SGM Uniform", "sgm_uniform" },
    { "Simple", "simple" }, { "Normal", "normal" },           { "DDIM", "ddim_uniform" },
    { "Beta", "beta" },     { "KL Optimal", "kl_optimal" },
};
enum { SAMPLER_WORDS = sizeof sampler_words / sizeof *sampler_words };
enum { SCHEDULER_WORDS = sizeof scheduler_words / sizeof *scheduler_words };

static const char *to_comfyui(const struct sampler_word *words, int count, const char *text) {
    for (int i = 0; i < count; i++)
        if (strcasecmp(words[i].a1111, text) == 0) return words[i].comfyui;
    return text;
}

static const char *to_a1111(const struct sampler_word *words, int count, const char *text) {
    for (int i = 0; i < count; i++)
        if (strcmp(words[i].comfyui, text) == 0) return words[i].a1111;
    return text;
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */
/* Sets what can be set; a value that Tessera does not know is no reason to refuse the picture. */
static void try_set(tsr_scene *scene, const char *key, const char *text) {
    tsr_error ignored = TSR_ERROR_INIT;
    (void)tsr_scene_set(scene, key, text, &ignored);
}

/* "DPM++ 2M Karras" was how older versions named both at once. */
static void set_sampler(tsr_scene *scene, char *text) {
    for (int i = 0; i < SCHEDULER_WORDS; i++) {
        size_t n = strlen(text), m = strlen(scheduler_words[i].a1111);
        if (n > m + 1 && text[n - m - 1] == ' ' && strcasecmp(text + n - m, scheduler_words[i].a1111) == 0) {
            try_set(scene, "scheduler", scheduler_words[i].comfyui);
            text[n - m - 1] = 0;
            break;
        }
    }
    try_set(scene, "sampler", to_comfyui(sampler_words, SAMPLER_WORDS, text));
}

static void set_size(tsr_scene *scene, char *text) {
    char *cross = strchr(text, 'x');
    if (!cross) return;
    *cross = 0;
    try_set(scene, "width", text);
    try_set(scene, "height", cross + 1);
}

static void set_field(tsr_scene *scene, const char *name, char *value) {
    static const struct {
        const char *name, *key;
    } fields[] = { { "Steps", "steps" }, { "CFG scale", "cfg" }, { "Seed", "seed" }, { "Clip skip", "clip_skip" } };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(name, fields[i].name) == 0) try_set(scene, fields[i].key, value);
    if (strcmp(name, "Sampler") == 0) set_sampler(scene, value);
    if (strcmp(name, "Schedule type") == 0)
        try_set(scene, "scheduler", to_comfyui(scheduler_words, SCHEDULER_WORDS, value));
    if (strcmp(name, "Size") == 0) set_size(scene, value);
}

/* "Name: value, Name: "quoted, value", ..." */
static void read_fields(tsr_scene *scene, char *line) {
    while (*line) {
        char *colon = strchr(line, ':'), *value, *end;
        if (!colon) return;
        *colon = 0;
        value = colon + 1 + (colon[1] == ' ');
        if (*value == '"') {
            for (end = ++value; *end && *end != '"'; end++)
                if (*end == '\\' && end[1]) end++;
        } else {
            end = value + strcspn(value, ",");
        }
        char *next = end + (*end != 0);
        *end = 0;
        set_field(scene, line, value);
        next += strspn(next, ", ");
        line = next;
    }
}

static void trim(char *text) {
    size_t n = strlen(text);
    while (n && isspace((unsigned char)text[n - 1])) text[--n] = 0;
}

static tsr_status read_parameters(tsr_scene *scene, const char *parameters, tsr_error *err) {
    static const char mark[] = "Negative prompt: ";
    tsr_status status = TSR_OK;
    char *text = tsr__strdup(parameters), *fields = NULL, *negative = NULL;
    if (!text) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    /* The fields are the last line that starts with "Steps:"; prompts may hold anything. */
    for (char *at = strstr(text, "Steps: "); at; at = strstr(at + 1, "Steps: "))
        if (at == text || at[-1] == '\n') fields = at;
    if (fields) {
        char *end = strchr(fields, '\n');
        if (end) *end = 0;
        if (fields > text) fields[-1] = 0;
    }
    for (char *at = fields == text ? NULL : strstr(text, mark); at && !negative; at = strstr(at + 1, mark))
        if (at == text || at[-1] == '\n') negative = at;
    if (fields) read_fields(scene, fields);
    try_set(scene, "embedding_names", "a1111");
    if (negative) {
        if (negative > text) negative[-1] = 0;
        trim(negative);
        try_set(scene, "negative", negative + sizeof mark - 1);
    }
    trim(text);
    if (text != negative && text != fields) TSR_TRY(tsr_scene_set(scene, "prompt", text, err));
done:
    free(text);
    return status;
}

/* --- a workflow's node ---------------------------------------------------------------------------------------------------- */
/* The inputs of the first TesseraScene whose scene is written in it, or NULL. */
static const json_t *scene_inputs(const json_t *prompt) {
    const char *id;
    json_t *node;
    json_object_foreach((json_t *)prompt, id, node) {
        const char *class_type = json_string_value(json_object_get(node, "class_type"));
        const json_t *inputs = json_object_get(node, "inputs");
        if (class_type && strcmp(class_type, "TesseraScene") == 0 && json_is_string(json_object_get(inputs, "scene")))
            return inputs;
    }
    return NULL;
}

/* The node's seed counts, not the scene's; one that comes along a link is not known. */
static tsr_status set_node_seed(tsr_scene *scene, const json_t *seed, tsr_error *err) {
    const char *big = json_string_value(seed);
    char text[32];
    if (big && *big == TSR__BIG_MARK) return tsr_scene_set(scene, "seed", big + 1, err);
    if (!json_is_integer(seed)) return TSR_OK;
    snprintf(text, sizeof text, "%lld", (long long)json_integer_value(seed));
    return tsr_scene_set(scene, "seed", text, err);
}

/* The shipped model needs no name; another is named as the server that painted the picture knew it. */
static tsr_status set_node_model(tsr_scene *scene, const char *name, tsr_error *err) {
    tsr_error ignored = TSR_ERROR_INIT;
    char *shipped = NULL;
    if (!name) return TSR_OK;
    const char *slash = tsr_engine_find_model(&shipped, &ignored) == TSR_OK && shipped ? strrchr(shipped, '/') : NULL;
    int is_shipped = slash && strcmp(slash + 1, name) == 0;
    tsr_free(shipped);
    return tsr_scene_set(scene, "model", is_shipped ? NULL : name, err);
}

/* *out stays NULL when the prompt has no such node, or cannot be read: other programs write there too. */
static tsr_status read_prompt(tsr_scene **out, const char *prompt, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error ignored = TSR_ERROR_INIT;
    tsr_scene *scene = NULL;
    json_t *root = NULL;
    *out = NULL;
    const json_t *inputs =
        tsr__workflow_parse(&root, prompt, strlen(prompt), &ignored) == TSR_OK ? scene_inputs(root) : NULL;
    if (!inputs) goto done;
    const json_t *text = json_object_get(inputs, "scene");
    TSR_TRY(tsr_scene_from_json(&scene, json_string_value(text), json_string_length(text), err));
    TSR_TRY(set_node_seed(scene, json_object_get(inputs, "seed"), err));
    TSR_TRY(set_node_model(scene, json_string_value(json_object_get(inputs, "ckpt_name")), err));
    *out = scene;
    scene = NULL;
done:
    tsr_scene_free(scene);
    json_decref(root);
    return status;
}

/* Pictures that say nothing of it are older than putting pixels back, and shall come out as they did. */
static tsr_status read_own(tsr_scene **out, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *scene = NULL;
    TSR_TRY(tsr_scene_from_json(&scene, text, strlen(text), err));
    if (tsr__scene_has_mask(scene) && !scene->text[TSR__OPT_PASTE_BACK])
        TSR_TRY(tsr_scene_set(scene, "paste_back", "false", err));
    *out = scene;
    scene = NULL;
done:
    tsr_scene_free(scene);
    return status;
}

tsr_status tsr_scene_from_image(tsr_scene **out, const tsr_image *image, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *scene = NULL;
    const char *own = tsr_image_text(image, "tessera"), *parameters = tsr_image_text(image, "parameters");
    const char *prompt = tsr_image_text(image, "prompt");
    *out = NULL;
    if (own) return read_own(out, own, err);
    if (prompt) TSR_TRY(read_prompt(out, prompt, err));
    if (*out) return TSR_OK;
    if (!parameters)
        TSR_FAIL(err, TSR_NOT_FOUND,
                 "the picture's metadata has neither 'tessera', a 'prompt' with a TesseraScene, nor 'parameters'");
    if (strlen(parameters) > TSR__SCENE_MAX_BYTES) TSR_FAIL(err, TSR_TOO_LARGE, "the 'parameters' text is too long");
    TSR_TRY(tsr_scene_new(&scene, err));
    TSR_TRY(read_parameters(scene, parameters, err));
    *out = scene;
    scene = NULL;
done:
    tsr_scene_free(scene);
    return status;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */
static char *regions_text(const tsr_scene *scene) {
    char *all = tsr__strdup("");
    for (int i = 0; all && i < scene->region_count; i++) {
        char *more = tsr__format("%s\nRegion %d: %s", all, i + 1, tsr__region_text(scene, i, TSR__REG_PROMPT));
        free(all);
        all = more;
    }
    return all;
}

tsr_status tsr_scene_parameters_text(char **out, const tsr_scene *scene, tsr_error *err) {
    const char *negative = tsr__scene_text(scene, TSR__OPT_NEGATIVE), *model = tsr__scene_text(scene, TSR__OPT_MODEL);
    const char *slash = strrchr(model, '/');
    char denoise[64] = "", skip[64] = "";
    char *regions = regions_text(scene);
    *out = NULL;
    if (scene->text[TSR__OPT_INIT_IMAGE] || scene->text[TSR__OPT_INIT_LATENT])
        snprintf(denoise, sizeof denoise, ", Denoising strength: %.32s", tsr__scene_text(scene, TSR__OPT_DENOISE));
    if (tsr__scene_int(scene, TSR__OPT_CLIP_SKIP) > 1)
        snprintf(skip, sizeof skip, ", Clip skip: %.32s", tsr__scene_text(scene, TSR__OPT_CLIP_SKIP));
    if (regions)
        *out = tsr__format("%s%s%s%s\nSteps: %s, Sampler: %s, Schedule type: %s, CFG scale: %s, Seed: %s, Size: %sx%s, "
                           "Model: %s%s%s, Version: Tessera %s",
                           tsr__scene_text(scene, TSR__OPT_PROMPT), regions, *negative ? "\nNegative prompt: " : "",
                           negative, tsr__scene_text(scene, TSR__OPT_STEPS),
                           to_a1111(sampler_words, SAMPLER_WORDS, tsr__scene_text(scene, TSR__OPT_SAMPLER)),
                           to_a1111(scheduler_words, SCHEDULER_WORDS, tsr__scene_text(scene, TSR__OPT_SCHEDULER)),
                           tsr__scene_text(scene, TSR__OPT_CFG), tsr__scene_text(scene, TSR__OPT_SEED),
                           tsr__scene_text(scene, TSR__OPT_WIDTH), tsr__scene_text(scene, TSR__OPT_HEIGHT),
                           slash    ? slash + 1
                           : *model ? model
                                    : "tessera-demo",
                           denoise, skip, tsr_version());
    free(regions);
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}
