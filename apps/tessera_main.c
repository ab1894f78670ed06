/* apps/tessera_main.c - the tessera command: picks one of a table of commands. Uses include/tessera only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd_convert.h"
#include "cmd_run.h"
#include "cmd_serve.h"
#include "generate.h"
#include "options.h"

int command_inspect(int argc, char **argv) {
    int json = 0, files = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) json = 1;
        else if (strncmp(argv[i], "--", 2) == 0) return usage_error("inspect has no option '%.80s'", argv[i]);
        else files++;
    }
    if (!files) return usage_error("inspect needs a file: tessera inspect [--json] FILE...");
    for (int i = 0; i < argc; i++) {
        tsr_error err = TSR_ERROR_INIT;
        char *text = NULL;
        if (strcmp(argv[i], "--json") == 0) continue;
        tsr_status status = json ? tsr_inspect_file_json(&text, argv[i], &err) : tsr_inspect_file(&text, argv[i], &err);
        if (status != TSR_OK) return report(&err);
        fputs(text, stdout);
        if (json) fputc('\n', stdout);
        tsr_free(text);
    }
    return 0;
}

int command_samplers(int argc, char **argv) {
    if (argc) return usage_error("samplers takes no '%.80s'", argv[0]);
    for (int i = 0; i < tsr_sampler_count(); i++) printf("%-22s %s\n", tsr_sampler_name(i), tsr_sampler_summary(i));
    return 0;
}

int command_schedulers(int argc, char **argv) {
    if (argc) return usage_error("schedulers takes no '%.80s'", argv[0]);
    for (int i = 0; i < tsr_scheduler_count(); i++)
        printf("%-18s %s\n", tsr_scheduler_name(i), tsr_scheduler_summary(i));
    return 0;
}

int command_options(int argc, char **argv) {
    const char *format = argc == 0 ? "help" : argc == 2 && strcmp(argv[0], "--format") == 0 ? argv[1] : "";
    if (strcmp(format, "help") == 0) print_generate_help(stdout);
    else if (strcmp(format, "man") == 0) print_man_page(stdout);
    else if (strcmp(format, "md") == 0) print_markdown(stdout);
    else return usage_error("options takes --format help, man or md");
    return 0;
}

static int command_version(int argc, char **argv) {
    if (argc) return usage_error("version takes no '%.80s'", argv[0]);
    printf("tessera %s\n", tsr_version());
    return 0;
}

static int command_help(int argc, char **argv);

static const struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "generate", "paint a picture; `tessera generate --help` lists the options", command_generate },
    { "run", "run a ComfyUI workflow; `tessera run --help` lists the options", command_run },
    { "serve", "serve ComfyUI's interface and a page; `tessera serve --help` lists the options", command_serve },
    { "nodes", "list the nodes that run knows, or describe one [NAME]", command_nodes },
    { "inspect", "say what a model, a picture or a latent file contains [--json] FILE...", command_inspect },
    { "convert", "write a model in another layout; `tessera convert --help` lists the options", command_convert },
    { "samplers", "list the samplers", command_samplers },
    { "schedulers", "list the schedulers", command_schedulers },
    { "options", "print all options [--format help|man|md]", command_options },
    { "version", "print the version", command_version },
    { "help", "print this", command_help },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int command_help(int argc, char **argv) {
    if (argc && strcmp(argv[0], "generate") == 0) {
        print_generate_help(stdout);
        return 0;
    }
    puts("usage: tessera COMMAND [OPTION]...\n\nRegional diffusion sampling.\n");
    for (int i = 0; i < COMMANDS; i++) printf("  %-12s %s\n", commands[i].name, commands[i].summary);
    return 0;
}

/* OpenMP's threads spin at every barrier before they sleep, unless told otherwise; where another program wants the cores
 * too, that makes painting ten times slower. Sleeping at once costs little on an idle machine. libgomp reads the variable
 * when it is loaded, so the program starts itself again once. */
static void sleep_at_barriers(char **argv) {
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "0", 1) == 0) execv("/proc/self/exe", argv);
    /* Where that is not possible it merely runs as it is. */
}

int main(int argc, char **argv) {
    static const struct {
        const char *flag, *name;
    } flags[] = { { "--help", "help" }, { "-h", "help" }, { "--version", "version" } };
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        command_help(0, NULL);
        return EXIT_USAGE;
    }
    if (strcmp(name, "generate") == 0 || strcmp(name, "run") == 0 || strcmp(name, "serve") == 0)
        sleep_at_barriers(argv);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strcmp(name, flags[i].flag) == 0) name = flags[i].name;
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) != 0) continue;
        int result = commands[i].run(argc - 2, argv + 2);
        if ((fflush(stdout) || ferror(stdout)) && !result) {
            fputs("tessera: standard output: write failed\n", stderr);
            result = EXIT_RUN;
        }
        return result;
    }
    return usage_error("no command is called '%.80s'; `tessera help` lists them", name);
}
