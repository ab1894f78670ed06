/* server/routes_page.c - the page at / and its files, which are in the program (cmake/embed_page.py), and the table of
 * options that it builds its forms from. It reads no file and takes nothing from a request but a name and an entity tag. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "request.h"
#include <civetweb.h>

typedef struct page_file {
    const char *name, *type, *tag; /* tag with its quotes, as ETag has it */
    const unsigned char *bytes;
    size_t size;
} page_file;

#include <page_files.inc> /* made by cmake/embed_page.py in the build folder */

enum { FILE_COUNT = sizeof FILES / sizeof *FILES };

/* Scripts, styles and requests from here only; no markup may become script (Trusted Types); nobody may frame the page. */
static const char POLICY[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "
    "'script'; trusted-types 'none'\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n";

static const page_file *find_file(const char *name) {
    for (int i = 0; i < FILE_COUNT; i++)
        if (strcmp(FILES[i].name, name) == 0) return &FILES[i];
    return NULL;
}

/* "no-cache" lets a browser keep a file, and ask each time whether it is still the same. */
static int send_file(srv_request *request, const char *name) {
    char headers[1024];
    const page_file *file = find_file(name);
    if (!file) return srv_answer_json_text(request, 404, "{\"error\":\"not found\"}");
    const char *known = mg_get_header(srv_request_connection(request), "If-None-Match");
    snprintf(headers, sizeof headers, "ETag: %s\r\nCache-Control: no-cache\r\n%s", file->tag, POLICY);
    if (known && strstr(known, file->tag)) return srv_answer_bytes(request, 304, NULL, "", 0, headers);
    return srv_answer_bytes(request, 200, file->type, file->bytes, file->size, headers);
}

static int get_page(srv_request *request) {
    return send_file(request, "index.html");
}

static int get_file(srv_request *request) {
    return send_file(request, srv_request_rest(request));
}

/* --- the table of options ------------------------------------------------------------------------------------------------ */
static const char *kind_name(tsr_option_kind kind) {
    switch (kind) {
    case TSR_OPTION_INT: return "int";
    case TSR_OPTION_FLOAT: return "float";
    case TSR_OPTION_PATH: return "path";
    case TSR_OPTION_CHOICE: return "choice";
    case TSR_OPTION_FLAG: return "flag";
    case TSR_OPTION_SEED: return "seed";
    case TSR_OPTION_SAMPLER: return "sampler";
    case TSR_OPTION_SCHEDULER: return "scheduler";
    case TSR_OPTION_BOX: return "box";
    case TSR_OPTION_COLOR: return "color";
    case TSR_OPTION_ADAPTERS: return "adapters";
    case TSR_OPTION_DATA: return "data";
    case TSR_OPTION_SIZE: return "size";
    case TSR_OPTION_TEXT: break;
    }
    return "text";
}

static json_t *split(const char *choices) {
    json_t *list = json_array();
    for (const char *at = choices; at && *at; at += strcspn(at, "|"), at += *at == '|')
        json_array_append_new(list, json_stringn(at, strcspn(at, "|")));
    return list;
}

static json_t *flag_names(unsigned flags) {
    json_t *list = json_array();
    if (flags & TSR_OPTION_COMMAND) json_array_append_new(list, json_string("command"));
    if (flags & TSR_OPTION_LOCAL) json_array_append_new(list, json_string("local"));
    if (flags & TSR_OPTION_HIDDEN) json_array_append_new(list, json_string("hidden"));
    if (flags & TSR_OPTION_LIST) json_array_append_new(list, json_string("list"));
    return list;
}

static json_t *option_rows(tsr_option_scope scope) {
    json_t *rows = json_array();
    for (int i = 0; i < tsr_option_count(scope); i++) {
        const tsr_option_info *option = tsr_option_at(scope, i);
        json_array_append_new(rows,
                              json_pack("{s:s, s:s, s:o, s:f, s:f, s:s, s:o, s:s?, s:s, s:s?}", "key", option->key,
                                        "kind", kind_name(option->kind), "flags", flag_names(option->flags), "minimum",
                                        option->minimum, "maximum", option->maximum, "default", option->default_text,
                                        "choices", split(option->choices), "group", option->group, "help", option->help,
                                        "comfyui", option->comfyui));
    }
    return rows;
}

/* {"scene": [row...], "region": [row...]}: what docs/options.md prints, for programs. */
static int get_options(srv_request *request) {
    return srv_answer_json(
        request, 200,
        json_pack("{s:o, s:o}", "scene", option_rows(TSR_OPTIONS_SCENE), "region", option_rows(TSR_OPTIONS_REGION)));
}

const srv_route SRV_PAGE_ROUTES[] = {
    { "GET", "/", 0, get_page },
    { "GET", "/page/*", 0, get_file },
    { "GET", "/tessera/options", 0, get_options },
    { NULL, NULL, 0, NULL },
};
