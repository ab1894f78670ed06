/* Paints a picture with two regions, using the model that ships with Tessera: two_regions.png */
#include <stdio.h>
#include <tessera/tessera.h>

int main(void) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_engine *engine = NULL;
    tsr_scene *scene = NULL;
    tsr_result *result = NULL;

    /* The first failure stays in err: later calls with a NULL object are simply not reached. */
    if (tsr_engine_open(&engine, NULL, &err) == TSR_OK && tsr_scene_new(&scene, &err) == TSR_OK &&
        tsr_scene_set(scene, "prompt", "grass field", &err) == TSR_OK &&
        tsr_scene_set(scene, "width", "192", &err) == TSR_OK &&
        tsr_scene_parse_region(scene, "box=0:0:50%:100%,prompt=a house on grass field", NULL, &err) == TSR_OK &&
        tsr_scene_parse_region(scene, "box=50%:0:50%:100%,prompt=a tree on grass field", NULL, &err) == TSR_OK &&
        tsr_engine_run(&result, engine, scene, NULL, &err) == TSR_OK &&
        tsr_image_save(result->images[0], "two_regions.png", 0, &err) == TSR_OK)
        printf("two_regions.png, sampled in %.2f s\n", result->sample_seconds);
    else fprintf(stderr, "%s: %s\n", tsr_status_name(err.status), err.message);

    tsr_result_free(result);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
    return err.status != TSR_OK;
}
