/* fuzz_scene_json.c - scene JSON, region text and A1111 parameters: whatever is accepted must survive being written and
 * read again unchanged. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/scene.h"
#include "tessera/solver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const tsr_scene *scene) {
    char *first = NULL, *second = NULL;
    tsr_scene *again = NULL;
    if (tsr_scene_to_json(&first, scene, NULL) != TSR_OK) return; /* a text that is not UTF-8 */
    if (tsr_scene_from_json(&again, first, strlen(first), NULL) != TSR_OK) abort();
    if (tsr_scene_to_json(&second, again, NULL) != TSR_OK || strcmp(first, second) != 0) abort();
    (void)tsr_scene_check(again, NULL);
    tsr_scene_free(again);
    tsr_free(first);
    tsr_free(second);
}

static void try_region(const char *text) {
    tsr_scene *scene = NULL;
    if (tsr_scene_new(&scene, NULL) != TSR_OK) return;
    if (tsr_scene_parse_region(scene, text, NULL, NULL) == TSR_OK) round_trip(scene);
    else if (tsr_scene_region_count(scene) != 0) abort();
    tsr_scene_free(scene);
}

static void try_parameters(const char *text) {
    tsr_image *image = NULL;
    tsr_scene *scene = NULL;
    if (tsr_image_new(&image, 1, 1, 3, NULL) != TSR_OK) return;
    if (tsr_image_set_text(image, "parameters", text, NULL) == TSR_OK &&
        tsr_scene_from_image(&scene, image, NULL) == TSR_OK)
        round_trip(scene);
    tsr_scene_free(scene);
    tsr_image_free(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tsr_scene *scene = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr_scene_from_json(&scene, (const char *)data, size, &err) == TSR_OK) round_trip(scene);
    else if (scene || !err.message[0]) abort(); /* a failure gives no scene and says why */
    tsr_scene_free(scene);
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    try_region(text);
    try_parameters(text);
    free(text);
    return 0;
}
