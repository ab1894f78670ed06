/* engine/engine_state.c - see engine_state.h. Whoever reads one of these files may have got it from a stranger: every length
 * is checked against what is there before it is believed. */
#include "engine/engine_state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/sha256.h"
#include "engine/engine_adapters.h"

enum { VERSION = 1, MAGIC_SIZE = 8, CHECKSUM_SIZE = 8, MAX_FILES = 4096, HASH_PART = 1 << 20, MAX_SIDE = 65536 };
#define MAX_STATE ((size_t)4 << 30)
static const char magic[MAGIC_SIZE + 1] = "TSRSTATE", picture_mark[MAGIC_SIZE + 1] = "TSRPICTR";

/* --- models and adapters --------------------------------------------------------------------------------------------------------------- */
/* Reading gigabytes to name a file would take longer than a step: its size and three parts tell checkpoints apart. */
static tsr_status mark_file(tsr__file_mark *out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    struct stat info;
    tsr__sha256 sha;
    unsigned char *part = NULL;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &info)) TSR_FAIL(err, TSR_IO, "%s: cannot be read", path);
    out->size = (uint64_t)info.st_size;
    TSR_ALLOC(err, part, HASH_PART);
    tsr__sha256_init(&sha);
    for (int i = 0; i < 3; i++) {
        off_t last = info.st_size > HASH_PART ? info.st_size - HASH_PART : 0;
        if (fseeko(file, i == 0 ? 0 : i == 1 ? last / 2 : last, SEEK_SET))
            TSR_FAIL(err, TSR_IO, "%s: cannot be read", path);
        tsr__sha256_add(&sha, part, fread(part, 1, HASH_PART, file));
        if (ferror(file)) TSR_FAIL(err, TSR_IO, "%s: cannot be read", path);
    }
    tsr__sha256_end(&sha, out->hash);
    free(out->path);
    out->path = realpath(path, NULL);
    if (!out->path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    free(part);
    if (file) fclose(file);
    return status;
}

typedef struct file_list {
    char *paths[MAX_FILES]; /* owned */
    int n;
} file_list;

static void free_list(file_list *list) {
    for (int i = 0; list && i < list->n; i++) free(list->paths[i]);
    free(list);
}

/* A tsr__embedding_file_fn. */
static tsr_status add_file(void *user, const char *path, tsr_error *err) {
    file_list *list = user;
    for (int i = 0; i < list->n; i++)
        if (strcmp(list->paths[i], path) == 0) return TSR_OK;
    if (list->n == MAX_FILES) return tsr__fail(err, TSR_TOO_LARGE, "state: more than %d files of a run", MAX_FILES);
    list->paths[list->n] = tsr__strdup(path);
    return list->paths[list->n] && ++list->n ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

/* What one prompt is evaluated with. */
static tsr_status add_files(file_list *list, const tsr_guide *guide, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = guide->denoiser->user;
    const tsr__conditioning *cond = guide->positive, *no = guide->negative;
    const char *path;
    TSR_TRY(add_file(list, engine->model, err));
    for (int i = 0; (path = tsr__adapters_file(cond->adapters, i)); i++) TSR_TRY(add_file(list, path, err));
    for (int i = 0; (path = tsr__controls_file(cond->controls, i)); i++) TSR_TRY(add_file(list, path, err));
    TSR_TRY(tsr__embedding_list_files(engine, cond->prompt, add_file, list, err));
    if (no) TSR_TRY(tsr__embedding_list_files(engine, no->prompt, add_file, list, err));
done:
    return status;
}

/* The checkpoints, adapters, control networks and embeddings of base and regions, each once; the picture's own checkpoint first. */
static tsr_status mark_files(tsr__engine_state *state, const tsr_engine *engine, const tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    file_list *list = NULL;
    TSR_ALLOC_ZERO(err, list, 1);
    TSR_TRY(add_file(list, engine->model, err));
    TSR_TRY(add_files(list, &job->base.guide, err));
    for (int i = 0; i < job->region_count; i++) TSR_TRY(add_files(list, &job->regions[i].guide, err));
    TSR_ALLOC_ZERO(err, state->files, list->n);
    state->n_files = list->n;
    for (int i = 0; i < list->n; i++) TSR_TRY(mark_file(&state->files[i], list->paths[i], err));
done:
    free_list(list);
    return status;
}

tsr_status tsr__engine_state_check(const tsr__engine_state *state, const tsr_engine *engine, const tsr__job *job,
                                   tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__engine_state now = { 0 };
    const char *precision = tsr_engine_get_info(engine).precision;
    if (strcmp(state->precision, precision) != 0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT,
                 "state: was saved in precision %s, the model is open in %s; the picture would be another one",
                 state->precision, precision);
    if (state->adapters != (engine->file != NULL))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "state: was saved from a model %s adapters merged into it",
                 state->adapters ? "with" : "without");
    if (state->original && (state->original->width != job->width || state->original->height != job->height))
        TSR_TRY(tsr__state_damaged(err, "a picture of another size than its latent"));
    TSR_TRY(mark_files(&now, engine, job, err));
    if (now.n_files != state->n_files)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "state: was saved from %d model, adapter and embedding files, the run has %d",
                 state->n_files, now.n_files);
    for (int i = 0; i < now.n_files; i++)
        if (now.files[i].size != state->files[i].size ||
            memcmp(now.files[i].hash, state->files[i].hash, sizeof now.files[i].hash) != 0)
            TSR_FAIL(err, TSR_BAD_ARGUMENT,
                     "state: was saved from another %s: %s of %llu bytes; %s is not that one (give --model FILE "
                     "when a model has moved)",
                     i ? "file" : "model", state->files[i].path, (unsigned long long)state->files[i].size,
                     now.files[i].path);
done:
    tsr__engine_state_clear(&now);
    return status;
}

/* --- scene ------------------------------------------------------------------------------------------------------------------ */
static void text_out(tsr__stream *io, const char *text) {
    const void *data = text;
    size_t size = strlen(text);
    tsr__stream_block(io, &data, &size);
}

/* A text of at most the limit, in fresh memory. */
static tsr_status text_in(char **out, tsr__stream *io, tsr_error *err) {
    const void *data = NULL;
    size_t size = 0;
    *out = NULL;
    tsr__stream_block(io, &data, &size);
    if (io->short_of_data || memchr(data, 0, size)) return tsr__state_damaged(err, "a text that is none");
    *out = tsr__alloc(size + 1, 1);
    if (!*out) return tsr__fail(err, TSR_NO_MEMORY, "out of memory for the state");
    memcpy(*out, data, size);
    (*out)[size] = 0;
    return TSR_OK;
}

/* Values as they were typed, not as JSON numbers: the metadata shall be the same bytes. Data after the files' names, whose
 * setting drops it. */
static void settings_out(tsr__stream *io, char *const *text, tsr_option_scope scope) {
    int n = 0;
    for (int i = 0; i < tsr_option_count(scope); i++) n += text[i] != NULL;
    tsr__stream_whole(io, &n);
    for (int data = 0; data < 2; data++)
        for (int i = 0; i < tsr_option_count(scope); i++) {
            const tsr_option_info *option = tsr_option_at(scope, i);
            if (!text[i] || (option->kind == TSR_OPTION_DATA) != data) continue;
            text_out(io, option->key);
            text_out(io, text[i]);
        }
}

static void scene_out(tsr__stream *io, const tsr_scene *scene) {
    int regions = scene->region_count;
    settings_out(io, scene->text, TSR_OPTIONS_SCENE);
    tsr__stream_whole(io, &regions);
    for (int i = 0; i < regions; i++) settings_out(io, scene->regions[i].text, TSR_OPTIONS_REGION);
}

static tsr_status settings_in(tsr_scene *scene, int region, tsr__stream *io, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = 0;
    char *key = NULL, *text = NULL;
    tsr__stream_whole(io, &n);
    if (n < 0 || n > tsr_option_count(region < 0 ? TSR_OPTIONS_SCENE : TSR_OPTIONS_REGION))
        TSR_TRY(tsr__state_damaged(err, "too many settings"));
    for (int i = 0; i < n; i++) {
        free(key);
        free(text);
        text = NULL;
        TSR_TRY(text_in(&key, io, err));
        TSR_TRY(text_in(&text, io, err));
        TSR_TRY(region < 0 ? tsr_scene_set(scene, key, text, err)
                           : tsr_scene_set_region(scene, region, key, text, err));
    }
done:
    free(key);
    free(text);
    return status;
}

static tsr_status scene_in(tsr_scene **out, tsr__stream *io, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_scene *scene = NULL;
    int regions = 0;
    *out = NULL;
    TSR_TRY(tsr_scene_new(&scene, err));
    TSR_TRY(settings_in(scene, -1, io, err));
    tsr__stream_whole(io, &regions);
    if (regions < 0 || regions > TSR_SCENE_MAX_REGIONS) TSR_TRY(tsr__state_damaged(err, "too many regions"));
    for (int i = 0; i < regions; i++) {
        TSR_TRY(tsr_scene_add_region(scene, NULL, err));
        TSR_TRY(settings_in(scene, i, io, err));
    }
    *out = scene;
    scene = NULL;
done:
    tsr_scene_free(scene);
    return status;
}

/* --- latent ------------------------------------------------------------------------------------------------------------------- */
static void latent_out(tsr__stream *io, const tsr_latent *latent) {
    int shape[4], width = latent->noise_mask ? latent->noise_mask->width : 0,
                  height = latent->noise_mask ? latent->noise_mask->height : 0, indices = latent->batch_index != NULL;
    memcpy(shape, latent->shape, sizeof shape);
    for (int i = 0; i < 4; i++) tsr__stream_whole(io, &shape[i]);
    tsr__stream_reals(io, latent->values, tsr_latent_count(latent));
    tsr__stream_whole(io, &width);
    tsr__stream_whole(io, &height);
    if (width) tsr__stream_reals(io, latent->noise_mask->values, (size_t)width * (size_t)height);
    tsr__stream_whole(io, &indices);
    for (int i = 0; indices && i < shape[0]; i++) tsr__stream_whole(io, &latent->batch_index[i]);
}

static int has_room(const tsr__stream *io, size_t values) {
    return !io->short_of_data && values <= tsr__stream_left(io) / sizeof(float);
}

static tsr_status mask_in(tsr_mask **out, tsr__stream *io, tsr_error *err) {
    tsr_status status = TSR_OK;
    int width = 0, height = 0;
    tsr__stream_whole(io, &width);
    tsr__stream_whole(io, &height);
    if (width == 0 && height == 0) goto done;
    if (width < 1 || width > MAX_SIDE || height < 1 || height > MAX_SIDE ||
        !has_room(io, (size_t)width * (size_t)height))
        TSR_TRY(tsr__state_damaged(err, "a mask of an impossible size"));
    TSR_TRY(tsr_mask_new(out, width, height, 0.0f, err));
    tsr__stream_reals(io, (*out)->values, (size_t)width * (size_t)height);
done:
    return status;
}

static tsr_status latent_in(tsr_latent **out, tsr__stream *io, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_latent *latent = NULL;
    int shape[4] = { 0 }, indices = 0;
    size_t count = 1;
    *out = NULL;
    for (int i = 0; i < 4; i++) {
        tsr__stream_whole(io, &shape[i]);
        if (shape[i] < 1 || shape[i] > 4096) TSR_TRY(tsr__state_damaged(err, "a latent of an impossible size"));
        count *= (size_t)shape[i];
    }
    if (!has_room(io, count)) TSR_TRY(tsr__state_damaged(err, "truncated in its latent"));
    TSR_TRY(tsr_latent_new(&latent, shape[0], shape[1], shape[2], shape[3], err));
    tsr__stream_reals(io, latent->values, count);
    TSR_TRY(mask_in(&latent->noise_mask, io, err));
    tsr__stream_whole(io, &indices);
    if (indices < 0 || indices > 1 || !has_room(io, indices ? (size_t)shape[0] : 0))
        TSR_TRY(tsr__state_damaged(err, "truncated in its latent"));
    if (indices) TSR_ALLOC(err, latent->batch_index, shape[0]);
    for (int i = 0; indices && i < shape[0]; i++) tsr__stream_whole(io, &latent->batch_index[i]);
    *out = latent;
    latent = NULL;
done:
    tsr_latent_free(latent);
    return status;
}

/* --- the init image's own pixels ---------------------------------------------------------------------------------------------- */
static void picture_out(tsr__stream *io, const tsr_image *image) {
    int width = image->width, height = image->height;
    char mark[MAGIC_SIZE];
    memcpy(mark, picture_mark, sizeof mark);
    tsr__stream_bytes(io, mark, sizeof mark);
    tsr__stream_whole(io, &width);
    tsr__stream_whole(io, &height);
    tsr__stream_bytes(io, image->pixels, (size_t)width * (size_t)height * 4);
}

/* States that have none, among them older ones, lack the mark too. */
static tsr_status picture_in(tsr_image **out, tsr__stream *io, tsr_error *err) {
    tsr_status status = TSR_OK;
    char mark[MAGIC_SIZE];
    int width = 0, height = 0;
    if (tsr__stream_left(io) < MAGIC_SIZE || memcmp(io->in + io->at, picture_mark, MAGIC_SIZE) != 0) return TSR_OK;
    tsr__stream_bytes(io, mark, sizeof mark);
    tsr__stream_whole(io, &width);
    tsr__stream_whole(io, &height);
    if (width < 1 || width > TSR_IMAGE_MAX_SIDE || height < 1 || height > TSR_IMAGE_MAX_SIDE ||
        (size_t)width * (size_t)height > tsr__stream_left(io) / 4)
        TSR_TRY(tsr__state_damaged(err, "a picture of an impossible size"));
    TSR_TRY(tsr_image_new(out, width, height, 4, err));
    tsr__stream_bytes(io, (*out)->pixels, (size_t)width * (size_t)height * 4);
done:
    return status;
}

/* --- the whole ---------------------------------------------------------------------------------------------------------------- */
static void write_all(tsr__stream *io, const tsr__engine_state *state) {
    char head[MAGIC_SIZE];
    uint32_t version = VERSION;
    int files = state->n_files, finished = state->finished, adapters = state->adapters;
    tsr__block run = state->run;
    memcpy(head, magic, sizeof head);
    tsr__stream_bytes(io, head, sizeof head);
    tsr__stream_word32(io, &version);
    text_out(io, state->precision);
    tsr__stream_whole(io, &adapters);
    tsr__stream_whole(io, &files);
    for (int i = 0; i < files; i++) {
        text_out(io, state->files[i].path);
        tsr__stream_word64(io, &state->files[i].size);
        tsr__stream_bytes(io, state->files[i].hash, sizeof state->files[i].hash);
    }
    scene_out(io, state->scene);
    tsr__stream_whole(io, &finished);
    latent_out(io, state->latent);
    tsr__stream_block(io, &run.data, &run.size);
    if (state->original) picture_out(io, state->original);
    if (state->concat) latent_out(io, state->concat);
}

tsr_status tsr__engine_save(tsr__engine_saver *saver, const tsr_latent *result, const void *run, size_t run_size,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr_engine_callbacks *callbacks = saver->engine->callbacks;
    tsr__stream io = { 0 };
    unsigned char *data = NULL;
    if (!saver->known.n_files) TSR_TRY(mark_files(&saver->known, saver->engine, saver->job, err));
    tsr__engine_state state = saver->known; /* its pointers are borrowed */
    state.precision = (char *)(uintptr_t)tsr_engine_get_info(saver->engine).precision;
    state.adapters = saver->engine->file != NULL;
    state.scene = saver->job->scene;
    state.finished = result != NULL;
    state.latent = (tsr_latent *)(uintptr_t)(result ? result : saver->job->latent);
    state.concat = result ? NULL : saver->job->concat;
    state.run = (tsr__block){ run, run_size };
    state.original = saver->job->original;
    write_all(&io, &state);
    TSR_ALLOC(err, data, io.at + CHECKSUM_SIZE);
    io = (tsr__stream){ .out = data };
    write_all(&io, &state);
    uint64_t sum = tsr__stream_checksum(data, io.at);
    tsr__stream_word64(&io, &sum);
    TSR_TRY(callbacks->save(callbacks->user, data, io.at, err));
done:
    free(data);
    return status;
}

void tsr__engine_saver_clear(tsr__engine_saver *saver) {
    tsr__engine_state_clear(&saver->known);
}

static tsr_status open_frame(tsr__stream *io, const void *data, size_t size, tsr_error *err) {
    char head[MAGIC_SIZE];
    uint32_t version = 0;
    uint64_t sum = 0;
    *io = (tsr__stream){ .in = data, .size = size };
    tsr__stream_bytes(io, head, sizeof head);
    if (io->short_of_data || memcmp(head, magic, sizeof head) != 0)
        return tsr__fail(err, TSR_BAD_FORMAT, "state: not a state that Tessera saved");
    tsr__stream_word32(io, &version);
    if (!io->short_of_data && version != VERSION)
        return tsr__fail(err, TSR_UNSUPPORTED, "state: of version %u, this Tessera (%s) reads %d", version,
                         tsr_version(), VERSION);
    if (tsr__stream_left(io) < CHECKSUM_SIZE) return tsr__state_damaged(err, "truncated");
    tsr__stream tail = { .in = data, .at = size - CHECKSUM_SIZE, .size = size };
    tsr__stream_word64(&tail, &sum);
    io->size -= CHECKSUM_SIZE;
    return sum == tsr__stream_checksum(data, io->size) ? TSR_OK
                                                       : tsr__state_damaged(err, "truncated, or bytes changed");
}

static tsr_status files_in(tsr__engine_state *out, tsr__stream *io, tsr_error *err) {
    tsr_status status = TSR_OK;
    int n = 0;
    tsr__stream_whole(io, &n);
    if (n < 1 || n > MAX_FILES) TSR_TRY(tsr__state_damaged(err, "no model"));
    TSR_ALLOC_ZERO(err, out->files, n);
    out->n_files = n;
    for (int i = 0; i < n; i++) {
        TSR_TRY(text_in(&out->files[i].path, io, err));
        tsr__stream_word64(io, &out->files[i].size);
        tsr__stream_bytes(io, out->files[i].hash, sizeof out->files[i].hash);
    }
done:
    return status;
}

tsr_status tsr__engine_state_read(tsr__engine_state *out, const void *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__stream io;
    memset(out, 0, sizeof *out);
    TSR_TRY(open_frame(&io, data, size, err));
    TSR_TRY(text_in(&out->precision, &io, err));
    tsr__stream_whole(&io, &out->adapters);
    TSR_TRY(files_in(out, &io, err));
    TSR_TRY(scene_in(&out->scene, &io, err));
    tsr__stream_whole(&io, &out->finished);
    TSR_TRY(latent_in(&out->latent, &io, err));
    tsr__stream_block(&io, &out->run.data, &out->run.size);
    TSR_TRY(picture_in(&out->original, &io, err));
    if (tsr__stream_left(&io)) TSR_TRY(latent_in(&out->concat, &io, err));
    TSR_TRY(tsr__state_close(&io, err));
    if (out->finished < 0 || out->finished > 1 || out->adapters < 0 || out->adapters > 1 ||
        (out->finished == 1) != (out->run.size == 0))
        TSR_TRY(tsr__state_damaged(err, "a flag out of range"));
done:
    return status;
}

void tsr__engine_state_clear(tsr__engine_state *state) {
    for (int i = 0; state->files && i < state->n_files; i++) free(state->files[i].path);
    free(state->files);
    free(state->precision);
    tsr_scene_free(state->scene);
    tsr_latent_free(state->latent);
    tsr_image_free(state->original);
    tsr_latent_free(state->concat);
    memset(state, 0, sizeof *state);
}

/* --- for programs ---------------------------------------------------------------------------------------------------------- */
tsr_status tsr_state_scene(tsr_scene **out, const void *state, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__engine_state read;
    *out = NULL;
    TSR_TRY(tsr__engine_state_read(&read, state, size, err));
    TSR_TRY(tsr_scene_set(read.scene, "precision", read.precision, err));
    /* Wherever the program runs now. The shipped model is found as always: it may have moved with Tessera. */
    if (tsr_scene_is_set(read.scene, "model")) TSR_TRY(tsr_scene_set(read.scene, "model", read.files[0].path, err));
    *out = read.scene;
    read.scene = NULL;
done:
    tsr__engine_state_clear(&read);
    return status;
}

tsr_status tsr_state_load(void **out, size_t *size_out, const char *path, tsr_error *err) {
    return tsr__read_file(out, size_out, path, MAX_STATE, err);
}

tsr_status tsr_state_write(const char *path, const void *state, size_t size, tsr_error *err) {
    tsr__outfile *file = NULL;
    tsr_status status = tsr__outfile_open(&file, path, err);
    if (status != TSR_OK) return status;
    status = tsr__outfile_write(file, state, size, err);
    if (status == TSR_OK) return tsr__outfile_commit(file, err);
    tsr__outfile_abort(file);
    return status;
}
