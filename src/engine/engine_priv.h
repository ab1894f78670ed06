/* engine/engine_priv.h - an opened model: networks built when first needed, prompts encoded once.
 *
 * The engine knows files and networks, and binds them to what sample/ and region/ need (a tsr_denoiser). */
#ifndef TSR_ENGINE_PRIV_H
#define TSR_ENGINE_PRIV_H

#include "engine/engine_adapters.h"
#include "engine/engine_budget.h"
#include "engine/engine_concat.h"
#include "engine/engine_control.h"
#include "engine/engine_family.h"
#include "engine/engine_sampling.h"
#include "engine/scene_priv.h"
#include "model/model.h"
#include "model/text_encode.h"
#include "tessera/engine.h"
#include "tessera/region.h"
#include "weights/checkpoint_kind.h"
#include "weights/weights.h"

/* What a prompt became. Its address is the `cond` handle that sampling compares. */
typedef struct tsr__conditioning {
    char *prompt;
    int clip_skip;                     /* 0: the family's own */
    tsr__adapter_set *adapters;        /* of its text and of its evaluations; NULL: none */
    tsr__control_set *controls;        /* of its evaluations; NULL: none */
    const tsr_latent *concat;          /* of its evaluations, see engine_concat.h; borrowed; NULL: the engine's */
    float *values;                     /* [tokens, context width]; NULL: not encoded yet */
    float *pooled;                     /* SDXL: [pooled width]; else NULL */
    int tokens, width, pooled_width;   /* of the two */
    tsr__unet_context *context;        /* NULL: not seen by the UNet yet */
    tsr__unet_context **control_texts; /* one of each control, which may be NULL; NULL: not made yet */
    int coupled; /* made of several, by tsr__conditioning_couple; has a context only, is in no list */
    struct tsr__conditioning *next;
} tsr__conditioning;

typedef struct tsr__job tsr__job;

struct tsr_engine {
    char *model;    /* path */
    char *vae_path; /* of a TAESD that was asked for by its name; else NULL */
    tsr__weights *weights;
    tsr__weights *file; /* what `weights` borrows from when adapters are merged in; else NULL */
    tsr__checkpoint_info checkpoint;
    const tsr__family *family;
    const char *config; /* metadata, borrowed from weights */
    int threads;
    size_t memory_limit; /* 0: half of what is free */
    tsr__nn *nn;         /* UNet and VAE */
    tsr__nn *text_nn;    /* the text encoder computes in f32; equal to nn when that is f32 */
    tsr__tokenizer *tokenizer;
    tsr__text_stack *text;
    tsr__unet *unet;
    tsr__vae *vae;
    tsr__vae *preview_vae; /* a TAESD for previews, of the file preview_path; NULL: none was built */
    char *preview_path;
    tsr_sigma_table *table;
    tsr_prediction prediction;
    tsr__sampling sampling; /* of the two */
    tsr_denoiser denoiser;
    tsr__conditioning *prompts;
    tsr__adapter_set *adapters;            /* all that prompts have */
    tsr__control_set *control_sets;        /* all that conditionings have */
    tsr__control_file *control_files;      /* networks that were opened */
    const tsr_engine_callbacks *callbacks; /* of the run in hand, or NULL */
    const tsr_latent *concat; /* likewise: its picture as inpainting networks see it; of a guest: its host's */
    const tsr_latent *edited; /* likewise: as networks that edit pictures see it */
    tsr_engine *guests;       /* models that regions brought, each once; owned */
    tsr_engine *next_guest;
    tsr_engine *host;             /* of a guest; else NULL */
    int text_width, pooled_width; /* of `text`, known since it was first built */
    size_t merged_bytes;          /* of weights with adapters merged in, which lie in memory of their own */
    tsr__budget own_budget;
    tsr__budget *budget; /* its own, its host's, or its graph's */
    tsr_engine *next_member;
    tsr__network_use part_use;
};

/* --- engine.c: parts, built when first needed --- */
tsr_status tsr__engine_need_text(tsr_engine *engine, tsr_error *err);
tsr_status tsr__engine_need_unet(tsr_engine *engine, tsr_error *err);
tsr_status tsr__engine_need_vae(tsr_engine *engine, tsr_error *err);
/* The same with room for `call` bytes of activations besides, where a memory budget bounds both. */
tsr_status tsr__engine_need_unet_for(tsr_engine *engine, size_t call, tsr_error *err);
tsr_status tsr__engine_need_vae_for(tsr_engine *engine, size_t call, tsr_error *err);
/* The training schedule of all families, or what a latent consistency model keeps of it; the caller's. */
tsr_status tsr__engine_new_table(tsr_sigma_table **out, int lcm, int zero_snr, tsr_error *err);
/* CANCELLED when the run's callbacks say so. */
tsr_status tsr__engine_check_cancel(const tsr_engine *engine, tsr_error *err);
/* Bytes that activations may take now. */
size_t tsr__engine_memory(const tsr_engine *engine);

/* --- engine_guests.c: models of regions --- */
/* The engine of a checkpoint: this one, or a guest, opened when it is first named, with this engine's precision. It must be
 * able to share a canvas: the same latents. who: for messages. */
tsr_status tsr__engine_for_model(tsr_engine **out, tsr_engine *engine, const char *path, const char *who,
                                 tsr_error *err);
void tsr__engine_close_guests(tsr_engine *engine);
/* Bytes that the weights take once they are packed. */
size_t tsr__engine_weight_bytes(const tsr_engine *engine);
/* Lists the models of a job with regions of several, a line each; "" where there is one. *out is released with free(). */
tsr_status tsr__engine_list_models(char **out, const tsr__job *job, tsr_error *err);

/* --- embedding_words.c --- */
/* The prompt with "embedding:" before each word that is the bare name of an embedding's file. *out is the caller's. */
tsr_status tsr__embedding_words(char **out, const tsr_engine *engine, const char *prompt, tsr_error *err);

/* --- engine_embeddings.c: a tsr__embedding_path_fn; user is the engine --- */
/* Where embeddings lie: beside the model, beside its folder. The path is the caller's; NULL without memory. */
enum { TSR__EMBEDDING_FOLDERS = 2, TSR__EMBEDDING_ENDINGS = 4 };
char *tsr__embedding_folder(const tsr_engine *engine, int index);
extern const char *const tsr__embedding_endings[TSR__EMBEDDING_ENDINGS]; /* of files; the first is none */
tsr_status tsr__embedding_find_file(void *user, const char *name, char **path, tsr_error *err);

/* Calls take with each embedding file that a prompt names, as often as it names it. */
typedef tsr_status (*tsr__embedding_file_fn)(void *user, const char *path, tsr_error *err);
tsr_status tsr__embedding_list_files(tsr_engine *engine, const char *prompt, tsr__embedding_file_fn take, void *user,
                                     tsr_error *err);

/* --- engine_find.c --- */
/* A file that belongs to a model: `name` itself where that can be read, else in FOLDER/ beside the model, FOLDER/ beside the
 * model's folder, or beside the model, with or without ".safetensors"; `name` again when it is nowhere. NULL: no memory.
 * Released with free(). */
char *tsr__find_beside(const tsr_engine *engine, const char *folder, const char *name);
/* The file of a TAESD: NAME_decoder or NAME, with an ending, in vae_approx/ beside the model or its folder, or beside the
 * model; NULL: there is none. Released with free(). */
char *tsr__find_taesd(const tsr_engine *engine, const char *name);

/* --- engine_text.c --- */
/* The handle of a prompt under some adapters and controls (NULL: none), not yet encoded. */
tsr_status tsr__conditioning_get(tsr__conditioning **out, tsr_engine *engine, const char *prompt, int clip_skip,
                                 tsr__adapter_set *adapters, tsr__control_set *controls, tsr_error *err);
tsr_status tsr__conditioning_need(tsr_engine *engine, tsr__conditioning *cond, tsr_error *err);
/* Its values only: needs no UNet. */
tsr_status tsr__conditioning_encode(tsr_engine *engine, tsr__conditioning *cond, tsr_error *err);
/* cond->context and what its controls read, out of its values, under its adapters; the networks exist. */
tsr_status tsr__engine_make_context(tsr_engine *engine, tsr__conditioning *cond, tsr_error *err);
/* tsr_denoiser's couple and uncouple. */
tsr_status tsr__conditioning_couple(void *user, const void **out, const void *const *conds, const float *const *weights,
                                    int n, int height, int width, tsr_error *err);
void tsr__conditioning_uncouple(void *user, const void *cond);
void tsr__conditioning_free_all(tsr_engine *engine);

/* --- engine_denoise.c --- */
tsr_status tsr__engine_denoise(void *user, const int shape[4], const tsr_denoise_call *calls, int count,
                               tsr_error *err);
/* The same for a network whose output means something else than the model's own. */
tsr_status tsr__engine_denoise_as(tsr_engine *engine, const tsr__sampling *sampling, const int shape[4],
                                  const tsr_denoise_call *calls, int count, tsr_error *err);
/* About what activations of its UNet hold at their peak, a latent pixel. */
size_t tsr__engine_cell_bytes(const tsr_engine *engine);

/* --- engine_vae.c --- */
/* About what decoding holds at its peak: in tiles of that size (0: whole), and in the smallest tiles that are chosen. */
size_t tsr__engine_vae_bytes(const tsr_engine *engine, int width, int height, int tile_px);
size_t tsr__engine_vae_bytes_least(const tsr_engine *engine, int width, int height, int tile_px);
/* rgb [H, W, 3] in 0..1, H and W multiples of 8. */
tsr_status tsr__engine_encode_rgb(tsr_latent **out, tsr_engine *engine, const float *rgb, int width, int height,
                                  int tile_px, tsr_error *err);

/* --- engine_job.c: a scene made ready to run --- */
struct tsr__job {
    tsr_scene *scene; /* a copy: nothing random or automatic left, masks kept inside */
    int width, height, batch;
    int encodes_init;    /* an init image is part of the run */
    tsr_latent *latent;  /* the start */
    float *rgb;          /* the init image as it was encoded, [height, width, 3]; NULL: none, or no longer needed */
    tsr_latent *concat;  /* the picture as inpainting networks of this job see it; NULL: the start */
    tsr_margins margins; /* what outpainting adds to the init image */
    int init_width, init_height; /* of the init image as it was read; of an init latent, the picture's */
    tsr_mask *noise_mask;        /* at picture size; the latent's once that is made */
    tsr_image *original;         /* the init image on its canvas, and as alpha the share of what is painted on it, for
                                    tsr__job_paste_back; NULL: nothing is put back */
    tsr_mask **masks;            /* [regions], at picture size */
    tsr_region *regions;
    int region_count;
    tsr_region_base base;
    tsr_regional_options options;
    char **warnings;
    int warning_count;
};

/* start: NULL, or the latent and noise mask to take instead of what the scene names (a stopped run's own).
 * evaluate 0: a dry run; the init image is looked at but not encoded. */
tsr_status tsr__job_new(tsr__job **out, tsr_engine *engine, const tsr_scene *scene, const tsr_latent *start,
                        int evaluate, tsr_error *err);
void tsr__job_free(tsr__job *job);
tsr_status tsr__job_warn(tsr__job *job, const char *text, tsr_error *err);

/* --- engine_masks.c: files and colours to masks --- */
/* Fills job->masks and keeps the files' bytes in job->scene. */
tsr_status tsr__job_load_masks(tsr__job *job, tsr_error *err);
/* The same for job->noise_mask, which stays NULL where the scene has none; the sizes of picture and init image are known. */
tsr_status tsr__job_load_noise_mask(tsr__job *job, tsr_error *err);
/* A picture from the bytes kept in the scene, or from its file, whose bytes are then kept. */
tsr_status tsr__job_load_picture(tsr_image **out, tsr__job *job, const char *path, char **kept, tsr_error *err);

/* --- engine_job_concat.c --- */
/* Fills job->concat where a model of base or regions is for inpainting, a picture was encoded and a mask lies on it. */
tsr_status tsr__job_make_concat(tsr__job *job, tsr_engine *engine, tsr_error *err);

/* --- engine_outpaint.c: init images under a mask --- */
/* size: width and height of the canvas. Fills job->margins, rounded so that sides are multiples of 8. */
tsr_status tsr__outpaint_settle(int size[2], tsr__job *job, const tsr_image *image, tsr_error *err);
/* The image on its canvas, margins grey: [height, width, 3], released with free(). */
tsr_status tsr__outpaint_place(float **out, const tsr__job *job, const tsr_image *image, tsr_error *err);
/* What the scene wants under job->noise_mask: in the canvas's rgb, and as noise in job->latent. */
tsr_status tsr__job_fill_mask(float *rgb, const tsr__job *job, tsr_error *err);
tsr_status tsr__job_fill_noise(tsr__job *job, float latent_scale, tsr_error *err);
/* Makes job->original of the canvas's rgb, where it will be wanted; and puts it into a finished picture. */
tsr_status tsr__job_keep_original(tsr__job *job, const float *rgb, tsr_error *err);
void tsr__job_paste_back(tsr_image *image, const tsr__job *job);

/* --- engine_job_control.c --- */
/* The control networks of the scene and of a region (-1: the scene's alone), as that engine takes them; NULL when there are
 * none. *out is the caller's count. */
tsr_status tsr__job_controls(tsr__control_set **out, tsr_engine *engine, tsr__job *job, int region, tsr_error *err);

#endif /* TSR_ENGINE_PRIV_H */
