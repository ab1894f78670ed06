/* graph/nodes_scene.c - the row that paints a whole scene, and which files a scene from a workflow may name.
 *
 * A workflow comes from anywhere; a scene's paths are those of whoever runs the command. So here they are names inside the
 * graph's folders, and what would write files is refused. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* --- which files ---------------------------------------------------------------------------------------------------------- */
/* A file's name in *text becomes its path. */
static tsr_status resolve(char **text, const tsr_graph *graph, const tsr_option_info *option, tsr_error *err) {
    tsr_error reason = TSR_ERROR_INIT;
    const char *folder = strcmp(option->key, "model") == 0     ? "checkpoints"
                         : strcmp(option->key, "control") == 0 ? "controlnet"
                                                               : "input";
    char *path = NULL;
    tsr_status status = tsr__find_file(&path, graph, folder, *text, &reason);
    if (status != TSR_OK) {
        free(path);
        return tsr__fail(err, status, "scene: %s: %s", option->key, reason.message);
    }
    free(*text);
    *text = path;
    return TSR_OK;
}

/* "NAME:0.8;NAME" with names of the loras folder becomes a list of paths. */
static tsr_status resolve_adapters(char **text, const tsr_graph *graph, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_error reason = TSR_ERROR_INIT;
    char *list = tsr__strdup(""), *name = NULL, *path = NULL;
    for (const char *at = *text; *at; at += strcspn(at, ";"), at += *at == ';') {
        size_t length = strcspn(at, ";"), end = strcspn(at, ":;");
        if (!length) continue;
        name = tsr__format("%.*s", (int)end, at);
        if (!name || !list) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        status = tsr__find_file(&path, graph, "loras", name, &reason);
        if (status != TSR_OK) TSR_FAIL(err, status, "scene: lora: %s", reason.message);
        char *longer = tsr__format("%s%s%s%.*s", list, *list ? ";" : "", path, (int)(length - end), at + end);
        free(list);
        free(name);
        free(path);
        list = longer;
        name = path = NULL;
    }
    if (!list) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    free(*text);
    *text = list;
    list = NULL;
done:
    free(list);
    free(name);
    free(path);
    return status;
}

/* Whether the bytes kept inside the scene are taken in the place of value `index` of a file's row. */
static int has_data(char *const *texts, tsr_option_scope scope, const char *key, int index) {
    char name[64], *item = NULL;
    tsr_error ignored = TSR_ERROR_INIT;
    snprintf(name, sizeof name, "%.50s_data", key);
    int data = tsr_option_find(scope, name);
    if (data < 0 || !texts[data] || tsr__list_item(&item, texts[data], index, &ignored) != TSR_OK) return 0;
    int kept = *item != 0;
    free(item);
    return kept;
}

/* The files of a row, whose names become paths where no bytes are kept of them. */
static tsr_status resolve_files(char **texts, tsr_option_scope scope, int row, const tsr_graph *graph, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_option_info *option = tsr_option_at(scope, row);
    int several = (option->flags & TSR_OPTION_LIST) != 0, count = several ? tsr__list_count(texts[row]) : 1;
    char *list = NULL, *item = NULL;
    for (int i = 0; i < count; i++) {
        if (several) TSR_TRY(tsr__list_item(&item, texts[row], i, err));
        else if (!(item = tsr__strdup(texts[row]))) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        if (*item && !has_data(texts, scope, option->key, i)) TSR_TRY(resolve(&item, graph, option, err));
        TSR_TRY(tsr__list_add(&list, item, err));
        free(item);
        item = NULL;
    }
    free(texts[row]);
    texts[row] = list;
    list = NULL;
done:
    free(list);
    free(item);
    return status;
}

/* Texts that are only painted or shown. Another text may come to name files one day: it is refused until it is known. */
static int is_harmless(const tsr_option_info *option) {
    static const char *const texts[] = { "prompt", "negative", "name" };
    if (option->kind != TSR_OPTION_TEXT) return 1;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(option->key, texts[i]) == 0) return 1;
    return 0;
}

static tsr_status settle_files(char **texts, tsr_option_scope scope, const tsr_graph *graph, tsr_error *err) {
    for (int i = 0; i < tsr_option_count(scope); i++) {
        const tsr_option_info *option = tsr_option_at(scope, i);
        tsr_status status = TSR_OK;
        if (!texts[i]) continue;
        if (!is_harmless(option))
            return tsr__fail(err, TSR_UNSUPPORTED, "scene: %s cannot be set in a workflow", option->key);
        if (option->kind == TSR_OPTION_ADAPTERS) {
            status = resolve_adapters(&texts[i], graph, err);
            if (status != TSR_OK) return status;
        }
        if (option->kind != TSR_OPTION_PATH) continue;
        if (option->flags & TSR_OPTION_LOCAL)
            return tsr__fail(err, TSR_BAD_ARGUMENT,
                             "scene: %s names a file to write; in a workflow, nodes such as SaveImage write files",
                             option->key);
        status = resolve_files(texts, scope, i, graph, err);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

tsr_status tsr__scene_input(tsr_scene **out, const tsr_graph *graph, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *scene = NULL;
    *out = NULL;
    TSR_TRY(tsr_scene_from_json(&scene, text, strlen(text), err));
    TSR_TRY(tsr_scene_set(scene, "model", NULL, err)); /* ckpt_name says which */
    TSR_TRY(settle_files(scene->text, TSR_OPTIONS_SCENE, graph, err));
    for (int i = 0; i < scene->region_count; i++)
        TSR_TRY(settle_files(scene->regions[i].text, TSR_OPTIONS_REGION, graph, err));
    TSR_TRY(tsr_scene_check(scene, err));
    *out = scene;
    scene = NULL;
done:
    tsr_scene_free(scene);
    return status;
}

/* --- what it depends on ----------------------------------------------------------------------------------------------------- */
static void visit_files(char *const *texts, tsr_option_scope scope, int row, tsr__scene_file_fn visit, void *user) {
    const tsr_option_info *option = tsr_option_at(scope, row);
    if (!(option->flags & TSR_OPTION_LIST)) {
        if (!has_data(texts, scope, option->key, 0)) visit(user, texts[row]);
        return;
    }
    for (int i = 0; i < tsr__list_count(texts[row]); i++) {
        char *item = NULL;
        tsr_error ignored = TSR_ERROR_INIT;
        if (has_data(texts, scope, option->key, i)) continue;
        (void)tsr__list_item(&item, texts[row], i, &ignored);
        visit(user, item); /* NULL, without memory: not known */
        free(item);
    }
}

static void visit_adapters(const char *list, tsr__scene_file_fn visit, void *user) {
    for (; *list; list += strcspn(list, ";"), list += *list == ';') {
        char *name = tsr__format("%.*s", (int)strcspn(list, ":;"), list);
        if (!name || *name) visit(user, name);
        free(name);
    }
}

/* 0 when something of it is left to chance. */
static int visit_texts(char *const *texts, tsr_option_scope scope, tsr__scene_file_fn visit, void *user) {
    for (int i = 0; i < tsr_option_count(scope); i++) {
        const tsr_option_info *option = tsr_option_at(scope, i);
        if (!texts[i] || !*texts[i]) continue;
        if (option->kind == TSR_OPTION_PATH) visit_files(texts, scope, i, visit, user);
        if (option->kind == TSR_OPTION_ADAPTERS) visit_adapters(texts[i], visit, user);
        int own_seed = scope == TSR_OPTIONS_SCENE && strcmp(option->key, "seed") == 0; /* the node's input counts */
        if (option->kind == TSR_OPTION_SEED && !own_seed && strcmp(texts[i], "random") == 0) return 0;
    }
    return 1;
}

int tsr__scene_files(const tsr_scene *scene, tsr__scene_file_fn visit, void *user) {
    int known = visit_texts(scene->text, TSR_OPTIONS_SCENE, visit, user);
    for (int i = 0; i < scene->region_count; i++)
        known = visit_texts(scene->regions[i].text, TSR_OPTIONS_REGION, visit, user) && known;
    return known;
}

/* --- TesseraScene ------------------------------------------------------------------------------------------------------------ */
static const tsr__input scene_inputs[] = {
    TSR__COMBO_FROM("ckpt_name", tsr__choices_checkpoints, NULL,
                    "A file of the models folder's checkpoints; the scene's own model is not read."),
    TSR__STRING("scene", TSR__IN_MULTILINE | TSR__IN_SCENE, "{\"prompt\": \"\"}",
                "The scene as JSON, with the keys of `tessera options`; files are names inside the input folder."),
    TSR__SEED("seed", TSR__IN_CONTROL, "Of the noise; takes the place of the scene's."),
    TSR__END,
};

static int on_progress(void *user, const tsr_progress *progress) {
    const tsr_run_hooks *hooks = ((tsr__call *)user)->hooks;
    return hooks->progress ? hooks->progress(hooks->user, progress) : 0;
}

static int on_cancelled(void *user) {
    const tsr_engine_callbacks *callbacks = ((tsr__call *)user)->graph->callbacks;
    return callbacks && callbacks->cancelled && callbacks->cancelled(callbacks->user);
}

static tsr_status give_pictures(tsr__call *call, const tsr_result *result, tsr_error *err) {
    const tsr_image *first = result->images[0];
    size_t each = (size_t)first->width * (size_t)first->height * 3;
    tsr_status status =
        tsr__value_pictures(&call->results[0], result->image_count, first->height, first->width, 3, err);
    for (int i = 0; i < result->image_count && status == TSR_OK; i++)
        tsr_image_to_floats(result->images[i], call->results[0]->pictures.values + (size_t)i * each);
    return status;
}

static tsr_status run_scene(tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine_callbacks callbacks = TSR_ENGINE_CALLBACKS_INIT;
    tsr__slot *slot = NULL;
    tsr_engine *engine = NULL;
    tsr_scene *scene = NULL;
    tsr_result *result = NULL;
    char *path = NULL, seed[32];
    callbacks.user = call;
    callbacks.progress = on_progress;
    callbacks.cancelled = on_cancelled;
    TSR_TRY(tsr__scene_input(&scene, call->graph, tsr__arg_text(call->in, "scene"), err));
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)tsr__arg_seed(call->in, "seed"));
    TSR_TRY(tsr_scene_set(scene, "seed", seed, err));
    TSR_TRY(tsr__find_file(&path, call->graph, "checkpoints", tsr__arg_text(call->in, "ckpt_name"), err));
    TSR_TRY(tsr__slot_get(&slot, call->graph, path, err));
    TSR_TRY(tsr__slot_engine(&engine, call->graph, slot, err));
    call->graph->painter = slot;
    status = tsr_engine_run(&result, engine, scene, &callbacks, err);
    /* Or a server would gather those of all its jobs. */
    tsr_engine_forget_prompts(engine);
    tsr__engine_close_guests(engine);
    if (status != TSR_OK) goto done;
    for (int i = 0; i < result->warning_count; i++) TSR_TRY(tsr__call_note(call, result->warnings[i], err));
    TSR_TRY(give_pictures(call, result, err));
    status = tsr__value_take_latent(&call->results[1], result->latent, err);
    result->latent = NULL;
done:
    tsr_result_free(result);
    tsr_scene_free(scene);
    free(path);
    return status;
}

static const tsr__node rows[] = {
    { "TesseraScene",
      "Tessera Scene",
      "tessera",
      scene_inputs,
      { { "IMAGE", TSR__V_IMAGE }, { "LATENT", TSR__V_LATENT } },
      0,
      run_scene,
      "Paints a scene with all its regions, in the scene's own history (keep unless it says otherwise)." },
};
const tsr__node_group tsr__nodes_scene = { rows, sizeof rows / sizeof *rows, "tessera" };
