/* A scene from JSON; the picture, its latent, and the scene again out of the picture's metadata. */
#include <stdio.h>
#include <string.h>
#include <tessera/tessera.h>

static const char json[] = "{ \"prompt\": \"night sky\", \"steps\": 6, \"seed\": 11,\n"
                           "  \"regions\": [ { \"name\": \"moon\", \"box\": \"50%:0:50%:50%\", \"feather\": 8,\n"
                           "                 \"prompt\": \"a moon in night sky\" } ] }";

int main(void) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_engine *engine = NULL;
    tsr_scene *scene = NULL, *recalled = NULL;
    tsr_result *result = NULL, *again = NULL;
    tsr_image *picture = NULL;
    tsr_latent *latent = NULL;
    char *plan = NULL;
    int same = 0;

    if (tsr_engine_open(&engine, NULL, &err) == TSR_OK &&
        tsr_scene_from_json(&scene, json, strlen(json), &err) == TSR_OK &&
        tsr_engine_plan(&plan, engine, scene, &err) == TSR_OK && printf("%s", plan) > 0 &&
        tsr_engine_run(&result, engine, scene, NULL, &err) == TSR_OK &&
        tsr_image_save(result->images[0], "scene.png", 0, &err) == TSR_OK &&
        tsr_latent_save(result->latent, "scene.latent", &err) == TSR_OK &&
        /* Anyone who has the picture can paint it again. */
        tsr_image_load(&picture, "scene.png", &err) == TSR_OK &&
        tsr_scene_from_image(&recalled, picture, &err) == TSR_OK &&
        tsr_engine_run(&again, engine, recalled, NULL, &err) == TSR_OK &&
        tsr_latent_load(&latent, "scene.latent", &err) == TSR_OK) {
        same = memcmp(latent->values, again->latent->values, tsr_latent_count(latent) * sizeof *latent->values) == 0;
        printf("%s\npainted again from its metadata: %s\n", tsr_image_text(picture, "parameters"),
               same ? "the same latent" : "ANOTHER latent");
    }
    if (err.status != TSR_OK) fprintf(stderr, "%s: %s\n", tsr_status_name(err.status), err.message);

    tsr_free(plan);
    tsr_latent_free(latent);
    tsr_image_free(picture);
    tsr_result_free(again);
    tsr_result_free(result);
    tsr_scene_free(recalled);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
    return !same;
}
