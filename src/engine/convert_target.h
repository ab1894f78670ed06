/* engine/convert_target.h - one conversion, and the kinds of files that it may write.
 *
 * engine_convert.c opens the model, looks which kind the name asks for, and calls its writer. */
#ifndef TSR_CONVERT_TARGET_H
#define TSR_CONVERT_TARGET_H

#include "engine/convert_list.h"
#include "weights/checkpoint_kind.h"

typedef struct tsr__conversion {
    const char *path;            /* of what is written */
    const tsr__weights *weights; /* of what is read, in single-file names */
    tsr__checkpoint_info info;   /* of the same */
    tsr_weight_type type;
    tsr_convert_part part;
    tsr__convert_watch watch;
    size_t averages, others; /* tensors left out: model_ema.*, and what the target has no place for */
} tsr__conversion;

/* --- convert_parts.c --- */
/* Lists the tensors of conversion->part under the names that its file has. UNSUPPORTED when the model lacks it. */
tsr_status tsr__convert_parts_list(tsr__convert_list *list, tsr__conversion *conversion, tsr_error *err);
/* The same of a text encoder whose tensors start with prefix, in Hugging Face's names. is_open: OpenCLIP's names. */
tsr_status tsr__convert_parts_text(tsr__convert_list *list, tsr__conversion *conversion, const char *prefix,
                                   int is_open, tsr_error *err);
/* Whether it is the factor of another tensor of a scaled F8 file; such factors are applied while converting. */
int tsr__convert_is_factor(const tsr__weights *weights, const tsr__tensor_view *view);
/* Types for a safetensors file. */
void tsr__convert_parts_types(tsr__convert_list *list, tsr_weight_type type);
/* The plain type that it stands for; COUNT_: KEEP. */
tsr__dtype tsr__convert_dtype(tsr_weight_type type);
const char *tsr__convert_type_name(tsr_weight_type type);

/* --- writers --- */
tsr_status tsr__convert_safetensors(tsr__conversion *conversion, tsr_error *err);
tsr_status tsr__convert_gguf(tsr__conversion *conversion, tsr_error *err);   /* convert_gguf.c */
tsr_status tsr__convert_folder(tsr__conversion *conversion, tsr_error *err); /* convert_folder.c */

/* --- what a diffusers folder holds beside weights --- */
/* A file of the folder that is being written. text: borrowed. */
tsr_status tsr__convert_text_file(const char *folder, const char *name, const char *text, tsr_error *err);
/* model_index.json and the config.json of every part (convert_config.c). */
tsr_status tsr__convert_configs(const tsr__conversion *conversion, const char *folder, tsr_error *err);
/* FOLDER/NAME with vocab.json, merges.txt and the two files of special tokens (convert_tokenizer.c). pads_with_end: what
 * fills a prompt up: the end token, or "!" as OpenCLIP has it. */
tsr_status tsr__convert_tokenizer(const char *folder, const char *name, int pads_with_end, tsr_error *err);

#endif /* TSR_CONVERT_TARGET_H */
