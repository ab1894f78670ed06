/* graph/wildcard.c - prompts as the Impact Pack's wildcard encoder takes them: <lora:name:strength:strength>, BREAK and
 * {one|of|these}.
 *
 * What the reference leaves to chance is chosen by the text itself here, so that a workflow gives one picture. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "graph/graph_priv.h"

/* --- {one|of|these} ---------------------------------------------------------------------------------------------------------- */
static uint32_t hash_of(const char *text) {
    uint32_t hash = UINT32_C(2166136261);
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * UINT32_C(16777619);
    return hash ^ hash >> 15;
}

/* "0.5::red" is red with a weight. */
static const char *without_weight(const char *option, const char *end) {
    const char *mark = strstr(option, "::");
    if (!mark || mark >= end) return option;
    for (const char *at = option; at < mark; at++)
        if (!isdigit((unsigned char)*at) && *at != '.' && *at != ' ') return option;
    return mark + 2;
}

/* Replaces the options between open and close (the place of '{' and '}') by one of them. */
static int replace_options(char **text, size_t open, size_t close) {
    char *at = *text + open + 1, *end = *text + close;
    int count = 1;
    for (char *c = at; c < end; c++) count += *c == '|';
    for (int pick = (int)(hash_of(*text) % (uint32_t)count); pick > 0; at++) pick -= *at == '|';
    char *stop = memchr(at, '|', (size_t)(end - at));
    if (!stop) stop = end;
    const char *from = without_weight(at, stop);
    char *made = tsr__format("%.*s%.*s%s", (int)open, *text, (int)(stop - from), from, end + 1);
    free(*text);
    *text = made;
    return made != NULL;
}

/* Innermost braces first. */
static int choose_options(char **text) {
    for (;;) {
        char *close = strchr(*text, '}'), *open = close;
        while (open && open > *text && *open != '{') open--;
        if (!close || *open != '{') return 1;
        if (!replace_options(text, (size_t)(open - *text), (size_t)(close - *text))) return 0;
    }
}

/* --- nodes called by name ---------------------------------------------------------------------------------------------------- */
static tsr_status call_node(tsr__value **results, int n_results, tsr_graph *graph, const char *class_type,
                            const tsr__named_value *given, int n, tsr_error *err) {
    const tsr__node *row = tsr__node_find(class_type);
    tsr__value *values[TSR__MAX_INPUTS] = { NULL };
    tsr__call call = { .graph = graph, .id = "", .in = { row, values } };
    for (int i = 0; i < n; i++) values[tsr__node_input_find(row, given[i].name)] = given[i].value;
    tsr_status status = row->run(&call, err);
    for (int i = 0; i < TSR__MAX_OUTPUTS; i++) {
        if (i < n_results && status == TSR_OK) results[i] = call.results[i];
        else tsr__value_unref(call.results[i]);
    }
    return status;
}

/* --- <lora:...> -------------------------------------------------------------------------------------------------------------- */
typedef struct lora {
    char *name;
    double model, clip;
} lora;

/* The parts of a tag stand in any order: numbers are strengths, the rest is the name. */
static int parse_lora(lora *out, const char *tag, size_t length) {
    int numbers = 0;
    char *copy = tsr__format("%.*s", (int)length, tag), *rest = NULL;
    out->name = NULL;
    out->model = out->clip = 1.0;
    for (char *part = copy ? strtok_r(copy, ":", &rest) : NULL; part; part = strtok_r(NULL, ":", &rest)) {
        char *end = NULL;
        double value = strtod(part, &end);
        if (end != part && !*end) {
            if (numbers++ == 0) out->model = out->clip = value;
            else if (numbers == 2) out->clip = value;
        } else if (strncmp(part, "LBW=", 4) != 0) {
            free(out->name);
            out->name = tsr__strdup(part);
        }
    }
    free(copy);
    return out->name != NULL;
}

/* The file that is meant: its extension and folder may be left out. */
static tsr_status find_lora(char **out, const tsr_graph *graph, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__names names = { 0 };
    char *file = tsr__ends_with(name, strlen(name), ".safetensors") || tsr__ends_with(name, strlen(name), ".pt") ||
                         tsr__ends_with(name, strlen(name), ".ckpt")
                     ? tsr__strdup(name)
                     : tsr__format("%s.safetensors", name);
    *out = NULL;
    if (!file) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr__choices_loras(&names, graph, err));
    int at = tsr__names_find(&names, file);
    for (int i = 0; i < names.count && at < 0; i++)
        if (tsr__ends_with(names.items[i], strlen(names.items[i]), file)) at = i;
    if (at < 0) TSR_FAIL(err, TSR_NOT_FOUND, "<lora:%.80s>: there is no such file among the loras", name);
    *out = tsr__strdup(names.items[at]);
    if (!*out) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    tsr__names_clear(&names);
    free(file);
    return status;
}

static tsr_status number(tsr__value **out, double value, tsr_error *err) {
    tsr_status status = tsr__value_new(out, TSR__V_FLOAT, err);
    if (status == TSR_OK) (*out)->number = value;
    return status;
}

/* *model and *clip are replaced. */
static tsr_status apply_lora(tsr__value **model, tsr__value **clip, tsr_graph *graph, const lora *asked,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *name = NULL, *strengths[2] = { NULL, NULL }, *made[2] = { NULL, NULL };
    TSR_TRY(tsr__value_new(&name, TSR__V_COMBO, err));
    TSR_TRY(find_lora(&name->text, graph, asked->name, err));
    TSR_TRY(number(&strengths[0], asked->model, err));
    TSR_TRY(number(&strengths[1], asked->clip, err));
    const tsr__named_value given[] = { { "model", *model },
                                       { "clip", *clip },
                                       { "lora_name", name },
                                       { "strength_model", strengths[0] },
                                       { "strength_clip", strengths[1] } };
    TSR_TRY(call_node(made, 2, graph, "LoraLoader", given, 5, err));
    tsr__value_unref(*model);
    tsr__value_unref(*clip);
    *model = made[0];
    *clip = made[1];
done:
    tsr__value_unref(name);
    for (int i = 0; i < 2; i++) tsr__value_unref(strengths[i]);
    return status;
}

/* Takes the tags out of the text. */
static tsr_status apply_loras(char *text, tsr__value **model, tsr__value **clip, tsr_graph *graph, tsr_error *err) {
    tsr_status status = TSR_OK;
    lora asked = { 0 };
    char *tag;
    while ((tag = strstr(text, "<lora:"))) {
        char *end = strchr(tag, '>');
        if (!end) break;
        if (parse_lora(&asked, tag + 6, (size_t)(end - tag - 6))) TSR_TRY(apply_lora(model, clip, graph, &asked, err));
        memmove(tag, end + 1, strlen(end + 1) + 1);
        free(asked.name);
        asked.name = NULL;
    }
done:
    free(asked.name);
    return status;
}

/* --- BREAK ------------------------------------------------------------------------------------------------------------------- */
static int is_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* Where the word BREAK begins, or the end of the text. */
static char *find_break(char *text) {
    for (char *at = text; (at = strstr(at, "BREAK")); at += 5)
        if ((at == text || !is_word(at[-1])) && !is_word(at[5])) return at;
    return text + strlen(text);
}

static char *trim(char *text) {
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1])) text[--n] = 0;
    while (isspace((unsigned char)*text)) text++;
    return text;
}

/* Parts stand one behind the other, each in chunks of its own. */
static tsr_status encode_parts(tsr__value **out, tsr_graph *graph, const tsr__value *clip, char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *all = NULL, *one = NULL, *joined = NULL;
    for (int more = 1; more;) {
        char *end = find_break(text);
        more = *end != 0;
        char *next = more ? end + 5 : end;
        *end = 0;
        const char *part = trim(text);
        text = next;
        if (!*part && (more || all)) continue;
        TSR_TRY(tsr__encode_text(&one, graph, clip, part, err));
        if (all) {
            const tsr__named_value given[] = { { "conditioning_to", all }, { "conditioning_from", one } };
            TSR_TRY(call_node(&joined, 1, graph, "ConditioningConcat", given, 2, err));
            tsr__value_unref(all);
            tsr__value_unref(one);
            all = joined;
        } else {
            all = one;
        }
        one = NULL;
    }
    *out = all;
    all = NULL;
done:
    tsr__value_unref(all);
    tsr__value_unref(one);
    return status;
}

tsr_status tsr__wildcard_encode(tsr__value **cond, tsr__value **model, tsr__value **clip, tsr_graph *graph,
                                const char *prompt, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *text = tsr__strdup(prompt);
    *cond = NULL;
    if (!text || !choose_options(&text)) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(apply_loras(text, model, clip, graph, err));
    TSR_TRY(encode_parts(cond, graph, *clip, text, err));
done:
    free(text);
    return status;
}
