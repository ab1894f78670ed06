/* fuzz_resume_state.c - states of stopped runs: files of whole pictures, and what runs with and without regions go on from.
 *
 * The first byte says which. Checksums and marks are put right before the bytes are read, so that what lies behind them is
 * reached; whatever is accepted must come to a latent. */
#include <stddef.h>

#include "resume_scenes.h"
#include "tessera/engine.h"

enum { FILE_AS_IT_IS = SCENES, FILE_SEALED, CHOICES, CHECKSUM = 8, HEAD = 40, MARK = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As states end: FNV-1a of all before, little-endian. */
static void seal(uint8_t *bytes, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    if (size < CHECKSUM) return;
    for (size_t i = 0; i < size - CHECKSUM; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    for (size_t i = 0; i < CHECKSUM; i++) bytes[size - CHECKSUM + i] = (uint8_t)(hash >> (8 * i));
}

static void try_file(uint8_t *bytes, size_t size, int sealed) {
    tsr_scene *scene = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (sealed) seal(bytes, size);
    tsr_status status = tsr_state_scene(&scene, bytes, size, &err);
    if ((status == TSR_OK) != (scene != NULL) || (status != TSR_OK && !err.message[0])) abort();
    tsr_scene_free(scene);
}

static void try_run(int scene, uint8_t *bytes, size_t size) {
    stopped_scene real = stop_scene(scene, 1);
    size_t head = HEAD + (scene == SCENE_LONE ? 2 : 4) * MARK; /* up to the body */
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (!real.state || real.size < head) abort();
    if (size >= head + CHECKSUM) memcpy(bytes, real.state, head);
    seal(bytes, size);
    hooks.state = bytes;
    hooks.state_size = size;
    tsr_status status = run_scene(&out, scene, &hooks, &err);
    if ((status == TSR_OK) != (out != NULL) || (status != TSR_OK && !err.message[0])) abort();
    tsr_latent_free(out);
    free(real.state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    int which = data[0] % CHOICES;
    uint8_t *bytes = malloc(size - 1);
    if (!bytes) return 0;
    memcpy(bytes, data + 1, size - 1);
    if (which < SCENES) try_run(which, bytes, size - 1);
    else try_file(bytes, size - 1, which == FILE_SEALED);
    free(bytes);
    return 0;
}
