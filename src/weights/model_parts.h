/* weights/model_parts.h - UNets, VAEs and text encoders of any layout, put into a union under single-file names.
 *
 * Layouts are told by names: single files (with their prefixes or bare), diffusers', Hugging Face's text encoders and
 * OpenCLIP's. Reads no files; a source must be owned by the union before its parts are added. */
#ifndef TSR_MODEL_PARTS_H
#define TSR_MODEL_PARTS_H

#include "weights/checkpoint_kind.h"
#include "weights/weights_union.h"

/* What a UNet asks of the rest; kind UNKNOWN: the file has no UNet of these families. */
typedef struct tsr__unet_needs {
    tsr__checkpoint_kind kind; /* SD1, SD2 or SDXL */
    int64_t context;           /* values a token */
} tsr__unet_needs;
tsr__unet_needs tsr__parts_needs(const tsr__weights *source);

/* Whether a whole model has the names that stable-diffusion.cpp gives while it converts: text encoders of SD2 and SDXL in
 * Hugging Face's names, the projections around transformers as 1x1 convolutions. Its parts must be added anew. */
int tsr__parts_is_renamed(const tsr__weights *source);
int tsr__parts_has_vae(const tsr__weights *source);
/* Add the part of the source. UNSUPPORTED when it has none, or when it holds layers that single files do not know. */
tsr_status tsr__parts_add_unet(tsr__union *all, const tsr__weights *source, tsr_error *err);
/* kind: of the model's UNet, or UNKNOWN; a TAESD must be for it (taesd_files.h). */
tsr_status tsr__parts_add_vae(tsr__union *all, const tsr__weights *source, tsr__checkpoint_kind kind, tsr_error *err);

/* Text encoders found in files, in the order in which they are preferred. */
enum { TSR__PARTS_ENCODERS = 6 };
typedef struct tsr__encoder {
    const tsr__weights *source;
    const char *prefix;
    int is_open; /* OpenCLIP's names */
    int64_t width;
} tsr__encoder;
typedef struct tsr__encoders {
    tsr__encoder at[TSR__PARTS_ENCODERS];
    int count;
} tsr__encoders;
/* Appends what the source holds, two at most; returns how many. */
int tsr__parts_find_text(tsr__encoders *found, const tsr__weights *source);
/* What encoders without a UNet are for: two SDXL, one OpenCLIP's size or names SD2, else SD1. Fills needs->context too. */
void tsr__parts_guess_text(tsr__unet_needs *needs, const tsr__encoders *found);
/* Adds the encoders that fit: the first whose width is the context's, or for SDXL the first two whose widths are together.
 * UNSUPPORTED when there are none. path: of the model, for the message. */
tsr_status tsr__parts_add_text(tsr__union *all, const tsr__encoders *found, tsr__unet_needs needs, const char *path,
                               tsr_error *err);

#endif /* TSR_MODEL_PARTS_H */
