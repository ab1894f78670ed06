/* fuzz/make_resume_corpus.c - writes fuzz/corpus/resume_state: states of real runs, stopped here and there.
 *
 *   make_resume_corpus FOLDER [FILE...]
 *
 * Every FILE, a state that `tessera generate --save-state` wrote, becomes a seed as well. Build it by its name; it is part of
 * no other target. */
#include <stdio.h>

#include "resume_scenes.h"
#include "tessera/engine.h"

static int write_seed(const char *folder, const char *name, int which, const void *state, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    int bad = !file || fputc(which, file) == EOF || fwrite(state, 1, size, file) != size;
    if ((file && fclose(file)) || bad) {
        fprintf(stderr, "%s: cannot be written\n", path);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    static const char *const names[SCENES] = { "lone", "keep", "restart" };
    static const int stops[] = { 2, 5, 9, 14 };
    char name[64];
    int failed = argc < 2;
    if (failed) fputs("usage: make_resume_corpus FOLDER [FILE...]\n", stderr);
    for (int scene = 0; scene < SCENES && !failed; scene++)
        for (size_t i = 0; i < sizeof stops / sizeof *stops && !failed; i++) {
            stopped_scene s = stop_scene(scene, stops[i]);
            snprintf(name, sizeof name, "%s_%d", names[scene], stops[i]);
            if (s.state) failed = write_seed(argv[1], name, scene, s.state, s.size);
            free(s.state);
        }
    for (int i = 2; i < argc && !failed; i++)
        for (int sealed = 0; sealed < 2 && !failed; sealed++) {
            void *state = NULL;
            size_t size = 0;
            tsr_error err = TSR_ERROR_INIT;
            snprintf(name, sizeof name, "file_%d%s", i - 1, sealed ? "_sealed" : "");
            failed = tsr_state_load(&state, &size, argv[i], &err) != TSR_OK;
            if (failed) fprintf(stderr, "%s\n", err.message);
            else failed = write_seed(argv[1], name, SCENES + sealed, state, size);
            tsr_free(state);
        }
    return failed;
}
