/* engine/engine_pack.c - writing packed caches, and checking that one fits this machine.
 *
 * Sizes are needed before the first byte is written, so networks are built twice: all of them without numbers, then one after
 * the other for their bytes. No more than one network is in memory. */
#include "engine/engine_pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/engine_priv.h"
#include "weights/model_open.h"
#include "weights/packed_file.h"

/* --- opening ---------------------------------------------------------------------------------------------------------- */
static tsr_status check_key(const tsr__weights *weights, const tsr__packed_info *info, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn_packing here;
    char *remedy = NULL;
    tsr__nn_packing_here(&here);
    if (info->version == here.version && strcmp(info->library, here.library) == 0 && strcmp(info->isa, here.isa) == 0)
        return TSR_OK;
    remedy = tsr__packed_remedy(weights);
    TSR_FAIL(err, TSR_UNSUPPORTED, "%s: packed for %s on %s (packing %d), here is %s on %s (packing %d); %s",
             tsr__weights_path(weights), info->library, info->isa, info->version, here.library, here.isa, here.version,
             remedy ? remedy : "");
done:
    free(remedy);
    return status;
}

tsr_status tsr__pack_precision(tsr__precision *out, const tsr__weights *weights, tsr_precision asked, tsr_error *err) {
    const tsr__packed_info *info = tsr__packed_info_of(weights);
    const int bf16 = asked == TSR_PRECISION_BF16 || (asked == TSR_PRECISION_AUTO && tsr__nn_has_bf16());
    *out = bf16 ? TSR__BF16 : TSR__F32;
    if (!info) return TSR_OK;
    tsr_status status = check_key(weights, info, err);
    if (status != TSR_OK) return status;
    *out = strcmp(info->precision, "bf16") == 0 ? TSR__BF16 : TSR__F32;
    if (asked == TSR_PRECISION_AUTO || *out == (bf16 ? TSR__BF16 : TSR__F32)) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "%s: packed in %s, and %s was asked for; leave the precision open, or make another cache with "
                     "tessera convert ORIGINAL OUT.tsrpack --precision %s",
                     tsr__weights_path(weights), info->precision, bf16 ? "bf16" : "f32", bf16 ? "bf16" : "f32");
}

/* --- one network ------------------------------------------------------------------------------------------------------ */
enum { LOGS = TSR__TEXT_ENCODERS + 2 };

typedef struct network {
    tsr__nn *nn;
    tsr__text_stack *text;
    tsr__unet *unet;
    tsr__vae *vae;
} network;

static void clear_network(network *net) {
    tsr__text_stack_free(net->text);
    tsr__unet_free(net->unet);
    tsr__vae_free(net->vae);
    tsr__nn_free(net->nn);
    memset(net, 0, sizeof *net);
}

/* What log i belongs to, and the log; NULL where the network at hand has none. */
static tsr__network network_of(int i) {
    return i < TSR__TEXT_ENCODERS ? TSR__NETWORK_TEXT : i == TSR__TEXT_ENCODERS ? TSR__NETWORK_UNET : TSR__NETWORK_VAE;
}

static const tsr__weight_log *log_of(const network *net, int i) {
    if (net->text) return network_of(i) == TSR__NETWORK_TEXT ? tsr__text_weights(net->text, i) : NULL;
    if (net->unet) return network_of(i) == TSR__NETWORK_UNET ? tsr__unet_weights(net->unet) : NULL;
    return net->vae && network_of(i) == TSR__NETWORK_VAE ? tsr__vae_weights(net->vae) : NULL;
}

/* --- the work --------------------------------------------------------------------------------------------------------- */
/* Where an item's bytes come from. */
typedef struct origin {
    int log;
    size_t entry;
} origin;

typedef struct packing {
    tsr__weights *weights;
    const tsr__family *family;
    const tsr_pack_options *options;
    tsr__precision precision;
    int threads;
    tsr__packed_item *items;
    origin *origins;
    size_t count, room;
    unsigned char *inside;
    network net; /* at hand */
    int at;      /* which, or -1 */
    size_t bytes, done;
    tsr__nn_packed packed; /* of the weight at hand */
} packing;

static tsr_status build(packing *p, tsr__network which, int plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *config = tsr__weights_metadata(p->weights, "tessera.config");
    tsr__nn_options options = { .precision = which == TSR__NETWORK_TEXT ? TSR__F32 : p->precision,
                                .threads = p->threads };
    clear_network(&p->net);
    p->at = -1;
    TSR_TRY(tsr__nn_new(&p->net.nn, &options, err));
    if (plan) tsr__nn_plan_only(p->net.nn);
    if (which == TSR__NETWORK_TEXT)
        TSR_TRY(tsr__text_stack_new(&p->net.text, p->net.nn, p->weights, p->family->text, config, err));
    if (which == TSR__NETWORK_UNET)
        TSR_TRY(tsr__unet_new(&p->net.unet, p->net.nn, p->weights, "model.diffusion_model.", config, err));
    if (which == TSR__NETWORK_VAE)
        TSR_TRY(tsr__vae_new(&p->net.vae, p->net.nn, p->weights, "first_stage_model.", config, err));
    p->at = (int)which;
done:
    return status;
}

static tsr_status more_room(packing *p, tsr_error *err) {
    if (p->count < p->room) return TSR_OK;
    const size_t room = p->room ? 2 * p->room : 512;
    tsr__packed_item *items = realloc(p->items, room * sizeof *items);
    if (items) p->items = items;
    origin *origins = items ? realloc(p->origins, room * sizeof *origins) : NULL;
    if (!origins) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    p->origins = origins;
    p->room = room;
    return TSR_OK;
}

static tsr_status list_entry(packing *p, origin from, const tsr__weight_entry *entry, tsr_error *err) {
    tsr_status status = TSR_OK;
    int tensors = 1;
    TSR_TRY(more_room(p, err));
    TSR_TRY(tsr__nn_weight_packed(p->net.nn, entry->weight, &p->packed, err));
    for (int i = 0; i < tensors; i++) {
        const char *name = tsr__weight_entry_tensor(entry, i, &tensors);
        const tsr__tensor_view *view = tsr__weights_find(p->weights, name);
        if (!view)
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: tensor %s has another name in the file: it cannot be packed",
                     tsr__weights_path(p->weights), name);
        p->inside[view - tsr__weights_at(p->weights, 0)] = 1;
        if (i) continue;
        char *layout = tsr__strdup(p->packed.layout);
        if (!layout) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        tsr__packed_item item = { view->name, layout, p->packed.size };
        p->origins[p->count] = from;
        p->items[p->count++] = item;
        p->bytes += p->packed.size;
    }
done:
    return status;
}

static tsr_status list_items(packing *p, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_ALLOC_ZERO(err, p->inside, tsr__weights_count(p->weights) + 1);
    for (int i = 0; i < LOGS; i++) {
        if (p->at != (int)network_of(i)) TSR_TRY(build(p, network_of(i), 1, err));
        const tsr__weight_log *log = log_of(&p->net, i);
        for (size_t k = 0; log && k < log->count; k++)
            if (log->entries[k].weight) TSR_TRY(list_entry(p, (origin){ i, k }, &log->entries[k], err));
    }
    p->threads = tsr__nn_threads(p->net.nn);
    clear_network(&p->net);
    p->at = -1;
done:
    return status;
}

/* tsr__tensor_make_fn */
static tsr_status make_item(void *user, size_t index, const void **data, tsr_error *err) {
    tsr_status status = TSR_OK;
    packing *p = user;
    const origin from = p->origins[index];
    const tsr_pack_options *options = p->options;
    if (options && options->progress && options->progress(options->user, p->done, p->bytes))
        TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
    if (p->at != (int)network_of(from.log)) TSR_TRY(build(p, network_of(from.log), 0, err));
    const tsr__weight_log *log = log_of(&p->net, from.log);
    TSR_TRY(tsr__nn_weight_packed(p->net.nn, log->entries[from.entry].weight, &p->packed, err));
    if (strcmp(p->packed.layout, p->items[index].layout) != 0 || p->packed.size != p->items[index].size)
        TSR_FAIL(err, TSR_BACKEND, "weight %s was laid out twice, and not alike", p->items[index].name);
    *data = p->packed.data;
    p->done += p->packed.size;
done:
    return status;
}

/* --- the file --------------------------------------------------------------------------------------------------------- */
/* The files as they are now. Texts are released with free_sources. */
static tsr_status note_sources(tsr__packed_info *info, const tsr__model_files *files, tsr_error *err) {
    const char *const paths[] = { files->model, files->unet, files->text[0], files->text[1], files->vae };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct stat there;
        if (!paths[i] || !*paths[i]) continue;
        tsr__packed_source *source = &info->sources[info->source_count];
        char *whole = realpath(paths[i], NULL);
        if (!whole || stat(whole, &there) != 0) {
            free(whole);
            return tsr__fail(err, TSR_IO, "%s: the file is gone", paths[i]);
        }
        source->path = whole;
        if (S_ISREG(there.st_mode)) {
            source->bytes = (int64_t)there.st_size;
            source->modified = (int64_t)there.st_mtime;
        }
        info->source_count++;
    }
    return TSR_OK;
}

static void free_sources(tsr__packed_info *info) {
    for (int i = 0; i < info->source_count; i++) free((void *)(uintptr_t)info->sources[i].path);
}

static tsr_status save(packing *p, const char *path, const tsr__model_files *files, char **report, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__nn_packing here;
    tsr__packed_plan plan = { .from = p->weights, .items = p->items, .count = p->count, .inside = p->inside };
    tsr__nn_packing_here(&here);
    plan.info.version = here.version;
    plan.info.library = here.library;
    plan.info.isa = here.isa;
    plan.info.precision = p->precision == TSR__BF16 ? "bf16" : "f32";
    plan.info.threads = p->threads;
    TSR_TRY(note_sources(&plan.info, files, err));
    TSR_TRY(tsr__packed_save(path, &plan, make_item, p, err));
    if (!report) goto done;
    *report = tsr__format("%s: packed cache (%s) of %s, in %s for %s on %s: %zu packed weights, %.1f MiB\n", path,
                          p->family->name, files->model ? files->model : "parts", plan.info.precision, here.library,
                          here.isa, p->count, (double)p->bytes / (1 << 20));
    if (!*report) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    free_sources(&plan.info);
    return status;
}

static int same_file(const char *a, const char *b) {
    struct stat one, two;
    return stat(a, &one) == 0 && stat(b, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

static void clear_packing(packing *p) {
    clear_network(&p->net);
    for (size_t i = 0; i < p->count; i++) free((void *)(uintptr_t)p->items[i].layout);
    free(p->items);
    free(p->origins);
    free(p->inside);
    tsr__weights_close(p->weights);
}

tsr_status tsr_pack_model(char **report, const char *path, const char *model, const tsr_model_parts *parts,
                          const tsr_pack_options *options, tsr_error *err) {
    tsr_status status = TSR_OK;
    packing p = { .options = options, .at = -1 };
    tsr__model_files files = { .model = model };
    tsr__checkpoint_info info;
    if (report) *report = NULL;
    if (parts) {
        files.unet = parts->unet;
        files.text[0] = parts->text_encoder;
        files.text[1] = parts->text_encoder_2;
        files.vae = parts->vae;
    }
    if (!(model && *model) && !tsr__model_files_given(&files))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "nothing to pack: give a model or its parts");
    if (model && same_file(model, path))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: the cache would take the place of its model; give another name", path);
    TSR_TRY(tsr__model_open(&p.weights, &files, err));
    TSR_TRY(tsr__packed_refuse(p.weights, "be packed again", err));
    tsr__checkpoint_describe(&info, p.weights);
    TSR_TRY(tsr__family_find(&p.family, p.weights, &info, 0, err));
    TSR_TRY(tsr__pack_precision(&p.precision, p.weights, options ? options->precision : TSR_PRECISION_AUTO, err));
    p.threads = options ? options->threads : 0;
    TSR_TRY(list_items(&p, err));
    TSR_TRY(save(&p, path, &files, report, err));
done:
    clear_packing(&p);
    return status;
}
