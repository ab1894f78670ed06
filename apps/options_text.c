/* apps/options_text.c - the option table as help, manual page and Markdown. The committed man/tessera.1 and
 * docs/options.md are this program's own output; a test compares them. */
#include <string.h>

#include "options.h"

static void option_name(char *out, size_t size, const tsr_option_info *option) {
    size_t n = (size_t)snprintf(out, size, "--%s", option->key);
    for (size_t i = 2; i < n && i < size; i++)
        if (out[i] == '_') out[i] = '-';
}

static int same_group(const tsr_option_info *a, const tsr_option_info *b) {
    return a && b && strcmp(a->group, b->group) == 0;
}

/* Calls show(to, option) for every visible row, a heading before each group, groups in order of first appearance. */
static void each_option(FILE *to, tsr_option_scope scope, void (*heading)(FILE *, const char *),
                        void (*show)(FILE *, const tsr_option_info *)) {
    int count = tsr_option_count(scope);
    for (int first = 0; first < count; first++) {
        const tsr_option_info *lead = tsr_option_at(scope, first);
        int seen = 0;
        for (int i = 0; i < first && !seen; i++) seen = same_group(tsr_option_at(scope, i), lead);
        if (seen) continue;
        heading(to, lead->group);
        for (int i = first; i < count; i++) {
            const tsr_option_info *option = tsr_option_at(scope, i);
            if (same_group(option, lead) && !(option->flags & TSR_OPTION_HIDDEN)) show(to, option);
        }
    }
}

/* --- help --------------------------------------------------------------------------------------------------------------- */
static void help_heading(FILE *to, const char *group) {
    fprintf(to, "\n%s:\n", group);
}

/* Words of `text` in lines of at most 100 columns, indented. */
static void print_wrapped(FILE *to, const char *text, int column, int indent) {
    for (int first = 1; *text; first = 0) {
        int n = (int)strcspn(text, " ");
        if (!first && column + 1 + n > 100) {
            fprintf(to, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', to);
            column++;
        }
        fprintf(to, "%.*s", n, text);
        text += n;
        column += n;
        text += *text == ' ';
    }
}

/* name: "--steps " or "cfg=". */
static void help_row(FILE *to, const char *name, const tsr_option_info *option) {
    enum { INDENT = 34 };
    char left[128], text[512];
    int region = name[strlen(name) - 1] == '=';
    const char *metavar = *option->metavar || !region ? option->metavar : "true|false";
    int column = snprintf(left, sizeof left, "  %s%s", name, metavar);
    int n = snprintf(text, sizeof text, "%s", option->help);
    if (option->kind == TSR_OPTION_CHOICE)
        n += snprintf(text + n, sizeof text - (size_t)n, " One of: %s.", option->choices);
    if (*option->default_text && option->kind != TSR_OPTION_FLAG)
        snprintf(text + n, sizeof text - (size_t)n, " Default %s.", option->default_text);
    fputs(left, to);
    if (column > INDENT - 2) fprintf(to, "\n%*s", INDENT, "");
    else fprintf(to, "%*s", INDENT - column, "");
    print_wrapped(to, text, INDENT, INDENT);
    fputc('\n', to);
}

static void help_option(FILE *to, const tsr_option_info *option) {
    char name[80];
    int on = option->kind == TSR_OPTION_FLAG && strcmp(option->default_text, "true") == 0;
    snprintf(name, sizeof name, "--%s%s ", on ? "no-" : "", option->key);
    for (char *c = name; *c; c++)
        if (*c == '_') *c = '-';
    help_row(to, name, option);
}

static void help_region_key(FILE *to, const tsr_option_info *option) {
    char name[80];
    snprintf(name, sizeof name, "%s=", option->key);
    help_row(to, name, option);
}

void print_generate_help(FILE *to) {
    fputs("usage: tessera generate [OPTION]...\n\n"
          "Paints a picture; regions have prompts, guidance and samplers of their own.\n\n"
          "  tessera generate --prompt \"grass field\" --region \"box=0:0:50%:100%,prompt=a cat face on grass field\" "
          "\\\n"
          "                   --region \"box=50%:0:50%:100%,prompt=a tree on grass field\" --output two.png\n",
          to);
    each_option(to, TSR_OPTIONS_SCENE, help_heading, help_option);
    fputs(
        "\nKeys of --region, separated by commas. A comma that no KEY= follows belongs to the value; where one does,\n"
        "put \"quotes\" around the value, or \\ before the comma.\n",
        to);
    for (int i = 0; i < tsr_option_count(TSR_OPTIONS_REGION); i++) {
        const tsr_option_info *option = tsr_option_at(TSR_OPTIONS_REGION, i);
        if (!(option->flags & TSR_OPTION_HIDDEN)) help_region_key(to, option);
    }
    fputs("\nExit status: 0 painted, 1 failed, 2 wrong usage, 130 interrupted.\n", to);
}

/* --- manual page -------------------------------------------------------------------------------------------------------- */
static void man_text(FILE *to, const char *text) {
    for (; *text; text++) {
        if (*text == '-') fputs("\\-", to);
        else if (*text == '\\') fputs("\\e", to);
        else if (*text == '`') continue;
        else fputc(*text, to);
    }
}

static void man_heading(FILE *to, const char *group) {
    fprintf(to, ".SS %s\n", group);
}

static void man_rest(FILE *to, const tsr_option_info *option) {
    man_text(to, option->help);
    if (option->kind == TSR_OPTION_CHOICE) {
        fputs("\nOne of: ", to);
        man_text(to, option->choices);
        fputc('.', to);
    }
    if (*option->default_text) {
        fputs("\nDefault: ", to);
        man_text(to, option->default_text);
        fputc('.', to);
    }
    fputc('\n', to);
}

static void man_option(FILE *to, const tsr_option_info *option) {
    char name[80];
    option_name(name, sizeof name, option);
    fputs(".TP\n.B ", to);
    man_text(to, name);
    if (*option->metavar) {
        fputs(" \\fI", to);
        man_text(to, option->metavar);
        fputs("\\fR", to);
    }
    fputc('\n', to);
    man_rest(to, option);
}

void print_man_page(FILE *to) {
    fputs(".\\\" Made by `tessera options --format man`; do not edit.\n"
          ".TH TESSERA 1\n"
          ".SH NAME\ntessera \\- regional diffusion sampling\n"
          ".SH SYNOPSIS\n"
          ".B tessera generate\n[\\fIOPTION\\fR]...\n.br\n"
          ".B tessera inspect\n\\fIFILE\\fR...\n.br\n"
          ".B tessera samplers\n|\n.B schedulers\n|\n.B options\n|\n.B version\n|\n.B help\n"
          ".SH DESCRIPTION\n"
          "Paints pictures with a diffusion model; different regions of one picture take different prompts, guidance "
          "and\n"
          "samplers, during sampling.\n"
          "Every option is also a key of the JSON file given by \\-\\-scene, with underscores for dashes.\n"
          "Switches also take \\-\\-no\\-NAME.\n"
          ".SH OPTIONS OF GENERATE\n",
          to);
    each_option(to, TSR_OPTIONS_SCENE, man_heading, man_option);
    fputs(".SH KEYS OF \\-\\-REGION\n"
          "KEY=VALUE, separated by commas. A comma that no KEY= follows belongs to the value; where one does, put "
          "double quotes\n"
          "around the value, or a backslash before the comma.\n",
          to);
    for (int i = 0; i < tsr_option_count(TSR_OPTIONS_REGION); i++) {
        const tsr_option_info *option = tsr_option_at(TSR_OPTIONS_REGION, i);
        if (option->flags & TSR_OPTION_HIDDEN) continue;
        fprintf(to, ".TP\n.B %s=\\fI", option->key);
        man_text(to, *option->metavar ? option->metavar : "true|false");
        fputs("\\fR\n", to);
        man_rest(to, option);
    }
    fputs(".SH OTHER COMMANDS\n"
          ".TP\n.B run \\fIWORKFLOW\\fR\nRun a ComfyUI workflow; \\-\\-help lists the options.\n"
          ".TP\n.B serve\nServe ComfyUI's HTTP and WebSocket interface and a page to paint regions on, by default on\n"
          "http://127.0.0.1:8188/; \\-\\-help lists the options.\n"
          ".TP\n.B nodes \\fR[\\fINAME\\fR]\nList the nodes that run and serve know, or describe one.\n"
          ".TP\n.B inspect \\fR[\\fB\\-\\-json\\fR] \\fIFILE\\fR...\nSay what a model, a picture or a latent file "
          "contains; as\n"
          "one JSON object a line with \\fB\\-\\-json\\fR.\n"
          ".TP\n.B convert \\fIIN OUT\\fR\nWrite a model of any layout as safetensors, GGUF, a diffusers folder, or a\n"
          "packed cache (OUT.tsrpack) that opens in an instant; \\-\\-help lists the options.\n"
          ".TP\n.B samplers\nList the samplers.\n"
          ".TP\n.B schedulers\nList the schedulers.\n"
          ".TP\n.B options \\fR[\\fB\\-\\-format help|man|md\\fR]\nPrint this table of options.\n"
          ".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage, 130 interrupted.\n"
          ".SH ENVIRONMENT\n.TP\n.B TESSERA_MODEL\nCheckpoint to use where \\-\\-model is not given.\n",
          to);
}

/* --- Markdown ------------------------------------------------------------------------------------------------------------ */
static void md_text(FILE *to, const char *text) {
    for (; *text; text++) {
        if (*text == '|') fputc('\\', to);
        fputc(*text, to);
    }
}

static void md_heading(FILE *to, const char *group) {
    fprintf(to,
            "\n## %s\n\n| option | scene key | value | default | meaning | in ComfyUI |\n|---|---|---|---|---|---|\n",
            group);
}

static void md_rest(FILE *to, const tsr_option_info *option) {
    fputs(" | ", to);
    md_text(to, option->kind == TSR_OPTION_CHOICE ? option->choices
                : *option->metavar                ? option->metavar
                                                  : "true|false");
    fputs(" | ", to);
    if (*option->default_text) fprintf(to, "`%s`", option->default_text);
    fputs(" | ", to);
    md_text(to, option->help);
    fputs(" | ", to);
    md_text(to, option->comfyui ? option->comfyui : "");
    fputs(" |\n", to);
}

static void md_option(FILE *to, const tsr_option_info *option) {
    char name[80];
    option_name(name, sizeof name, option);
    fprintf(to, "| `%s` | ", name);
    if (!(option->flags & TSR_OPTION_COMMAND)) fprintf(to, "`%s`", option->key);
    else if (strcmp(option->key, "region") == 0) fputs("`regions`", to);
    md_rest(to, option);
}

void print_markdown(FILE *to) {
    fputs("<!-- Made by `tessera options --format md`; do not edit. -->\n# Options\n\n"
          "Every option of `tessera generate` and its key in a scene file ([scene.md](scene.md)). Switches also take\n"
          "`--no-NAME`.\n",
          to);
    each_option(to, TSR_OPTIONS_SCENE, md_heading, md_option);
    fputs("\n## Keys of a region\n\n| key | value | default | meaning | in ComfyUI |\n|---|---|---|---|---|\n", to);
    for (int i = 0; i < tsr_option_count(TSR_OPTIONS_REGION); i++) {
        const tsr_option_info *option = tsr_option_at(TSR_OPTIONS_REGION, i);
        if (option->flags & TSR_OPTION_HIDDEN) continue;
        fprintf(to, "| `%s`", option->key);
        md_rest(to, option);
    }
}
