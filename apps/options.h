/* apps/options.h - the command line as a scene: parsing, help, manual and docs, all from the library's option table. */
#ifndef TESSERA_APP_OPTIONS_H
#define TESSERA_APP_OPTIONS_H

#include <stdio.h>

#include "tessera/tessera.h"

enum { EXIT_RUN = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Prints "tessera: MESSAGE" on stderr and returns the exit status for it. */
int report(const tsr_error *err);
/* The same for a mistake on the command line; always EXIT_USAGE. */
int usage_error(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* A stopped run to go on with. */
typedef struct resume_from {
    const char *path; /* of argv; NULL: none */
    void *state;      /* released with tsr_free */
    size_t size;
} resume_from;

/* Reads the options of `tessera generate` into a new scene; *resume is what --resume names. 0, or an exit status after a
 * message. */
int parse_options(tsr_scene **out, resume_from *resume, int argc, char **argv);

void print_generate_help(FILE *to);
void print_man_page(FILE *to);
void print_markdown(FILE *to);

#endif /* TESSERA_APP_OPTIONS_H */
