/* engine/scene_priv.h - how a scene is held: one text a key, in the order of the option table.
 *
 * Knows nothing of files, networks or JSON (scene_json.c reads and writes that). */
#ifndef TSR_SCENE_PRIV_H
#define TSR_SCENE_PRIV_H

#include "core/check.h"
#include "core/memory.h"
#include "tessera/scene.h"

enum {
#define GLOBAL(name, ...) TSR__OPT_##name,
#define REGION(name, ...)
#include "engine/scene_options.inc"
#undef GLOBAL
#undef REGION
    TSR__OPT_COUNT
};

enum {
#define GLOBAL(name, ...)
#define REGION(name, ...) TSR__REG_##name,
#include "engine/scene_options.inc"
#undef GLOBAL
#undef REGION
    TSR__REG_COUNT
};

#define TSR__SCENE_MAX_BYTES ((size_t)32 << 20)
#define TSR__DATA_MAX_BYTES  ((size_t)4 << 20) /* a mask kept inside metadata, before base64 */

typedef struct tsr__scene_region {
    char *text[TSR__REG_COUNT]; /* NULL: default */
} tsr__scene_region;

struct tsr_scene {
    char *text[TSR__OPT_COUNT]; /* NULL: default */
    tsr__scene_region *regions;
    int region_count;
};

/* --- scene_options.c --- */
/* Checks text against the option and gives its one spelling ("1e1" -> "10"). */
tsr_status tsr__option_normalise(char **out, const tsr_option_info *option, const char *text, tsr_error *err);

/* --- scene_numbers.c --- */
/* Locale-independent numbers. parse: the whole text must be a finite number; returns 0 when it is not. */
int tsr__parse_number(const char *text, double *out);
void tsr__print_number(char *out, size_t size, double value); /* %.9g with a point */
/* A box "X:Y:W:H" in a picture of that size, rounded to whole pixels. 0 when malformed. */
int tsr__parse_box(const char *text, int width, int height, int box[4]);

/* --- scene_list.c: "a;b;c", the values of a row with TSR_OPTION_LIST --- */
enum { TSR__LIST_MAX = 16 };
int tsr__list_count(const char *list); /* "" has one item, an empty one */
/* Item `index`; of a list with one item, that one. *out is the caller's. */
tsr_status tsr__list_item(char **out, const char *list, int index, tsr_error *err);
double tsr__list_number(const char *list, int index); /* of a list of checked numbers */
/* Appends to *list (NULL: an empty list). */
tsr_status tsr__list_add(char **list, const char *item, tsr_error *err);

/* --- scene.c: typed reading, defaults included --- */
const char *tsr__scene_text(const tsr_scene *scene, int option);
double tsr__scene_number(const tsr_scene *scene, int option);
int tsr__scene_int(const tsr_scene *scene, int option);
int tsr__scene_flag(const tsr_scene *scene, int option);
uint64_t tsr__scene_seed(const tsr_scene *scene, int option); /* "random" must have been resolved */
/* 1 when a margin is asked for. */
int tsr__scene_outpaints(const tsr_scene *scene);
/* 1 when something is repainted under a mask: one that was given, or outpainting's. */
int tsr__scene_has_mask(const tsr_scene *scene);
/* A region's own value, or the scene's where the region has none (negative, cfg, sampler, scheduler), or the default. */
const char *tsr__region_text(const tsr_scene *scene, int region, int option);
double tsr__region_number(const tsr_scene *scene, int region, int option);
uint64_t tsr__region_seed(const tsr_scene *scene, int region, int option);
/* "region 2 (cat)": for messages, 1-based. */
void tsr__region_label(char *out, size_t size, const tsr_scene *scene, int region);

/* --- scene_json.c --- */
/* Compact JSON of what belongs into a picture: no LOCAL keys. */
tsr_status tsr__scene_metadata_json(char **out, const tsr_scene *scene, tsr_error *err);

/* --- base64.c; release with free() --- */
tsr_status tsr__base64_encode(char **out, const void *data, size_t size, tsr_error *err);
tsr_status tsr__base64_decode(void **out, size_t *size_out, const char *text, size_t limit, tsr_error *err);

#endif /* TSR_SCENE_PRIV_H */
