/* apps/cmd_convert.c - `tessera convert`: a model of any layout written as another. */
#include "cmd_convert.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd_pack.h"
#include "options.h"
#include "signals.h"

static const char HELP[] =
    "usage: tessera convert IN OUT [OPTION]...\n"
    "       tessera convert --unet FILE --text-encoder FILE --vae FILE OUT [OPTION]...\n"
    "\n"
    "Writes a model in another layout. IN is a checkpoint (safetensors, .ckpt, GGUF) or a diffusers folder; parts\n"
    "replace those of IN. OUT's name says what is written:\n"
    "\n"
    "  X.safetensors (or any other suffix)  one file in the single-file layout\n"
    "  X.gguf                               GGUF, as stable-diffusion.cpp has it; with --part unet as ComfyUI-GGUF has "
    "it\n"
    "  X.tsrpack                            a packed cache: the model laid out for this processor, to open in an "
    "instant\n"
    "  X/ (or a name without suffix)        a diffusers folder; one with anything in it is not replaced\n"
    "\n"
    "  --type TYPE              numbers: keep (default), f32, f16, bf16; f8 except in GGUF; in GGUF q8_0, q5_1, q5_0,\n"
    "                           q4_1, q4_0, q6_k, q5_k, q4_k, q3_k, q2_k\n"
    "  --part PART              write one part to a file: unet, text-encoder, text-encoder-2 or vae (default all)\n"
    "  --unet FILE              UNet\n"
    "  --text-encoder FILE      text encoder\n"
    "  --text-encoder-2 FILE    second text encoder of SDXL; the two may come in either order\n"
    "  --vae FILE               VAE\n"
    "  --precision PRECISION    of a packed cache: auto (bf16 where the processor has it), f32 or bf16\n"
    "  --threads N              of a packed cache: what its layouts are chosen for (default: all)\n";

typedef struct request {
    const char *in, *out;
    tsr_model_parts parts;
    int type, part;
    const char *precision, *threads; /* NULL: not given */
} request;

/* 0 when the option is not one of these. */
static int take_option(request *r, const char *name, const char *value) {
    const struct {
        const char *name;
        const char **to;
    } paths[] = { { "--unet", &r->parts.unet },
                  { "--text-encoder", &r->parts.text_encoder },
                  { "--text-encoder-2", &r->parts.text_encoder_2 },
                  { "--vae", &r->parts.vae },
                  { "--precision", &r->precision },
                  { "--threads", &r->threads } };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (strcmp(name, paths[i].name) != 0) continue;
        *paths[i].to = value;
        return 1;
    }
    if (strcmp(name, "--type") == 0) r->type = tsr_weight_type_find(value);
    else if (strcmp(name, "--part") == 0) r->part = tsr_convert_part_find(value);
    else return 0;
    return 1;
}

static int parse(request *r, int argc, char **argv) {
    const char *names[2] = { NULL, NULL };
    int count = 0;
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] != '-') {
            if (count == 2) return usage_error("convert takes two names, not also '%.80s'", argv[i]);
            names[count++] = argv[i];
            continue;
        }
        if (i + 1 == argc) return usage_error("%.80s needs a value, or is no option of convert", argv[i]);
        if (!take_option(r, argv[i], argv[i + 1])) return usage_error("convert has no option '%.80s'", argv[i]);
        if (r->type < 0)
            return usage_error("--type takes keep, f32, f16, bf16, f8 or a type of GGUF (q8_0 ... q2_k), not '%.80s'",
                               argv[i + 1]);
        if (r->part < 0)
            return usage_error("--part takes all, unet, text-encoder, text-encoder-2 or vae, not '%.80s'", argv[i + 1]);
        i++;
    }
    if (count == 0 || (count == 1 && !r->parts.unet && !r->parts.text_encoder && !r->parts.vae))
        return usage_error("convert needs a model and a file to write: tessera convert IN OUT");
    r->out = names[count - 1];
    r->in = count == 2 ? names[0] : NULL;
    if (is_pack_name(r->out) && (r->type != TSR_WEIGHT_KEEP || r->part != TSR_CONVERT_ALL))
        return usage_error("a packed cache is the whole model and takes --precision, not --type or --part");
    if (!is_pack_name(r->out) && (r->precision || r->threads))
        return usage_error(
            "--precision and --threads are for packed caches, OUT.tsrpack; --type chooses a file's numbers");
    return 0;
}

/* A line on a terminal; nothing elsewhere. */
static int show(void *user, unsigned long long done, unsigned long long total) {
    if (*(const int *)user) {
        fprintf(stderr, "\rwriting %3.0f %%", total ? 100.0 * (double)done / (double)total : 0.0);
        fflush(stderr);
    }
    return stop_signal();
}

int command_convert(int argc, char **argv) {
    request r = { .type = TSR_WEIGHT_KEEP };
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    if (argc && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        fputs(HELP, stdout);
        return 0;
    }
    int failed = parse(&r, argc, argv);
    if (failed) return failed;
    if (is_pack_name(r.out)) {
        const pack_request pack = { r.in, r.out, &r.parts, r.precision, r.threads };
        return command_pack(&pack);
    }
    int terminal = isatty(STDERR_FILENO);
    const tsr_convert_options options = { (tsr_weight_type)r.type, (tsr_convert_part)r.part, show, &terminal };
    watch_signals();
    tsr_status status = tsr_convert_model(&text, r.out, r.in, &r.parts, &options, &err);
    if (terminal) fputs("\r\033[K", stderr);
    if (status == TSR_CANCELLED && stop_signal()) {
        (void)report(&err);
        return 128 + stop_signal();
    }
    if (status != TSR_OK) return report(&err);
    fputs(text, stdout);
    tsr_free(text);
    return 0;
}
