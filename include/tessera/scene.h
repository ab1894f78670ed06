/* tessera/scene.h - what to paint: settings by name, and any number of regions, each with its own.
 *
 * A scene is text: every setting has a key and a value as one would type it ("steps" = "20", "box" = "0:0:50%:100%").
 * The keys come from one table (tsr_option_at), which also makes the command's options, its manual and docs/options.md.
 * In keys '-' and '_' are the same. Values are checked when they are set, never changed silently.
 *
 *   tsr_scene_new(&scene, &err);
 *   tsr_scene_set(scene, "prompt", "grass field", &err);
 *   tsr_scene_parse_region(scene, "box=0:0:50%:100%,prompt=a cat face on grass field", NULL, &err);
 *
 * Threads: one thread at a time per scene. */
#ifndef TSR_SCENE_H
#define TSR_SCENE_H

#include "tessera/image.h"
#include "tessera/status.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- the table of options -------------------------------------------------------------------------------------------- */
typedef enum tsr_option_kind {
    TSR_OPTION_INT,       /* a whole number, minimum..maximum */
    TSR_OPTION_FLOAT,     /* a number with a decimal point, minimum..maximum */
    TSR_OPTION_TEXT,      /* any UTF-8 */
    TSR_OPTION_PATH,      /* a file's name */
    TSR_OPTION_CHOICE,    /* one of `choices` */
    TSR_OPTION_FLAG,      /* "true" or "false" */
    TSR_OPTION_SEED,      /* 0..18446744073709551615, or "random" */
    TSR_OPTION_SAMPLER,   /* a name of tsr_sampler_name */
    TSR_OPTION_SCHEDULER, /* a name of tsr_scheduler_name */
    TSR_OPTION_BOX,       /* X:Y:WIDTH:HEIGHT, each in pixels or with % of the picture */
    TSR_OPTION_COLOR,     /* #RRGGBB */
    TSR_OPTION_ADAPTERS,  /* FILE:STRENGTH;FILE:MODEL:CLIP;... */
    TSR_OPTION_DATA,      /* base64; written by Tessera into a picture's metadata, not typed */
    TSR_OPTION_SIZE       /* bytes with a unit, such as 6GB or 512MiB; 0 */
} tsr_option_kind;

#define TSR_OPTION_COMMAND 0x1 /* an option of the command only (--from, --scene): no scene key */
#define TSR_OPTION_LOCAL   0x2 /* belongs to one machine or one run (output, threads): left out of picture metadata */
#define TSR_OPTION_HIDDEN  0x4 /* a scene key without a command option */
#define TSR_OPTION_LIST    0x8 /* takes up to 16 values with ; between them; in JSON also as an array */

typedef struct tsr_option_info {
    const char *key; /* "init_image"; the command writes it --init-image */
    tsr_option_kind kind;
    unsigned flags; /* TSR_OPTION_... */
    double minimum, maximum;
    const char *default_text; /* "" when there is none */
    const char *choices;      /* "keep|restart", or NULL */
    const char *metavar;      /* "FILE", "N", ...; "" for flags */
    const char *group;        /* heading in help */
    const char *help;         /* one sentence or two */
    const char *comfyui;      /* the same thing in ComfyUI's words, or NULL */
} tsr_option_info;

typedef enum tsr_option_scope { TSR_OPTIONS_SCENE, TSR_OPTIONS_REGION } tsr_option_scope;
TSR_API int tsr_option_count(tsr_option_scope scope);
TSR_API const tsr_option_info *tsr_option_at(tsr_option_scope scope,
                                             int index);              /* NULL out of range; static lifetime */
TSR_API int tsr_option_find(tsr_option_scope scope, const char *key); /* index or -1 */
/* The key nearest to a mistyped one, or NULL when none is near. */
TSR_API const char *tsr_option_nearest(tsr_option_scope scope, const char *key);

/* --- scenes ----------------------------------------------------------------------------------------------------------- */
typedef struct tsr_scene tsr_scene;

#define TSR_SCENE_MAX_REGIONS 256

/* A number of bytes as option `memory` takes it: "6GB", "512 MiB", "0". Errors: BAD_ARGUMENT. */
TSR_API tsr_status tsr_size_parse(size_t *out, const char *text, tsr_error *err);
TSR_API tsr_status tsr_scene_new(tsr_scene **out, tsr_error *err);
TSR_API void tsr_scene_free(tsr_scene *scene); /* NULL is allowed */
TSR_API tsr_status tsr_scene_copy(tsr_scene **out, const tsr_scene *scene, tsr_error *err);

/* text is checked and copied; NULL goes back to the default. Errors: NOT_FOUND (unknown key or name, with the nearest
 * one), BAD_ARGUMENT, TOO_LARGE. */
TSR_API tsr_status tsr_scene_set(tsr_scene *scene, const char *key, const char *text, tsr_error *err);
/* The value, or the default; NULL for an unknown key. Owned by the scene, valid until that key is set again. */
TSR_API const char *tsr_scene_get(const tsr_scene *scene, const char *key);
/* Whether the key was set, rather than left at its default. */
TSR_API int tsr_scene_is_set(const tsr_scene *scene, const char *key);

TSR_API int tsr_scene_region_count(const tsr_scene *scene);
TSR_API tsr_status tsr_scene_add_region(tsr_scene *scene, int *index_out, tsr_error *err); /* index_out may be NULL */
TSR_API void tsr_scene_clear_regions(tsr_scene *scene);
/* As tsr_scene_set and _get. What a region does not set (negative, cfg, sampler, scheduler) is the scene's own. */
TSR_API tsr_status tsr_scene_set_region(tsr_scene *scene, int index, const char *key, const char *text, tsr_error *err);
TSR_API const char *tsr_scene_get_region(const tsr_scene *scene, int index, const char *key);
TSR_API int tsr_scene_region_is_set(const tsr_scene *scene, int index, const char *key);
/* Adds a region from "key=value,key=value". A comma that no key= follows belongs to the value; where one does, put the
 * value in double quotes, or a backslash before the comma; inside quotes \" and \\ stand for themselves. On error the scene is unchanged. index_out may be NULL. */
TSR_API tsr_status tsr_scene_parse_region(tsr_scene *scene, const char *text, int *index_out, tsr_error *err);

/* Whether the settings fit together: every region has a place and a prompt, sizes are multiples of 8, ... Files are not
 * opened. */
TSR_API tsr_status tsr_scene_check(const tsr_scene *scene, tsr_error *err);

/* --- scenes as JSON and in pictures ------------------------------------------------------------------------------------ */
/* {"prompt": "...", "steps": 20, "regions": [{"box": "...", "prompt": "..."}]}. Unknown keys are refused with the nearest
 * known one; at most 32 MiB. */
TSR_API tsr_status tsr_scene_from_json(tsr_scene **out, const char *text, size_t size, tsr_error *err);
TSR_API tsr_status tsr_scene_from_file(tsr_scene **out, const char *path, tsr_error *err);
/* Everything that was set, indented; *out is released with tsr_free. */
TSR_API tsr_status tsr_scene_to_json(char **out, const tsr_scene *scene, tsr_error *err);
/* From a picture's metadata: Tessera's own ("tessera"), else the first TesseraScene node of ComfyUI's "prompt" with its seed
 * and checkpoint (unless that is the shipped one), else what A1111's "parameters" text says of prompt, negative, steps,
 * sampler, scheduler, cfg, seed, size and clip skip. NOT_FOUND when there is none of them. */
TSR_API tsr_status tsr_scene_from_image(tsr_scene **out, const tsr_image *image, tsr_error *err);
/* A1111's `parameters` text for one picture of the scene; *out is released with tsr_free. */
TSR_API tsr_status tsr_scene_parameters_text(char **out, const tsr_scene *scene, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_SCENE_H */
