/* server/upload.c - see upload.h. */
#include "upload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "body.h"
#include "fault.h"
#include "json_text.h"
#include "multipart.h"
#include "paths.h"
#include "request_priv.h"

enum { MAX_COPIES = 1000, NAME_SIZE = 256, SUBFOLDER_SIZE = 1024, FORM_ROOM = 1 << 20 };
#define MAX_PIXELS   ((long long)64 << 20)
#define MAX_ORIGINAL ((long long)256 << 20)

/* --- shared with /view ------------------------------------------------------------------------------------------------------ */
const char *srv_folder_of(const srv_context *context, const char *type) {
    if (strcmp(type, "input") == 0) return context->options.input;
    if (strcmp(type, "output") == 0) return context->options.output;
    if (strcmp(type, "temp") == 0) return context->options.temp;
    return NULL;
}

const char *srv_cut_annotation(char *name) {
    static const char *const types[] = { "input", "output", "temp" };
    size_t length = strlen(name);
    for (int i = 0; i < 3; i++) {
        char mark[16];
        size_t size = (size_t)snprintf(mark, sizeof mark, " [%s]", types[i]);
        if (length <= size || strcmp(name + length - size, mark) != 0) continue;
        name[length - size] = 0;
        return types[i];
    }
    return NULL;
}

int srv_answer_no_file(srv_request *request, const tsr_error *err) {
    int status = err->status == TSR_BAD_ARGUMENT || err->status == TSR_BAD_FORMAT ? 400
                 : err->status == TSR_UNSUPPORTED                                 ? 403
                 : err->status == TSR_NOT_FOUND                                   ? 404
                 : err->status == TSR_TOO_LARGE                                   ? 413
                                                                                  : 500;
    return srv_answer_error(request, status, "no_file", "The file cannot be had", err->message);
}

tsr_status srv_picture_decode(tsr_image **out, srv_context *context, const void *data, size_t size, tsr_error *err) {
    *out = NULL;
    pthread_mutex_lock(&context->picture_lock);
    tsr_status status = tsr_image_load_memory(out, data, size, err);
    pthread_mutex_unlock(&context->picture_lock);
    if (status == TSR_OK && (long long)(*out)->width * (*out)->height > MAX_PIXELS) {
        tsr_image_free(*out);
        *out = NULL;
        status = srv_fail(err, TSR_TOO_LARGE, "the picture has more than 64 megapixels");
    }
    return status;
}

/* --- names ------------------------------------------------------------------------------------------------------------------ */
static const char *extension_by_content(const unsigned char *data, size_t size) {
    if (size > 2 && data[0] == 0xff && data[1] == 0xd8) return ".jpg";
    if (size > 12 && memcmp(data + 8, "WEBP", 4) == 0) return ".webp";
    return ".png";
}

static const char *dot_of(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? dot : name + strlen(name);
}

/* A name that does not say it is a picture gets the ending that does. */
static int with_ending(char out[NAME_SIZE], const char *name, const char *ending) {
    static const char *const known[] = { ".png", ".jpg", ".jpeg", ".webp" };
    for (int i = 0; i < 4; i++)
        if (strcasecmp(dot_of(name), known[i]) == 0) ending = "";
    return snprintf(out, NAME_SIZE, "%s%s", name, ending) < NAME_SIZE ? 0 : -1;
}

static int holds(int folder, const char *name, const void *data, size_t size) {
    int file = -1, same = 0;
    long long there = 0;
    void *content = NULL;
    if (srv_file_open(&file, &there, folder, name, NULL) != TSR_OK) return 0;
    if ((unsigned long long)there == size && srv_file_read(&content, file, there, there, NULL) == TSR_OK)
        same = memcmp(content, data, size) == 0;
    free(content);
    close(file);
    return same;
}

/* Stores under `name`, or "name (1).png" and so on where others have it; a copy of the same content is not stored again.
 * name becomes the one that was taken. */
static tsr_status keep(int folder, char name[NAME_SIZE], const void *data, size_t size, int overwrite, tsr_error *err) {
    char wanted[NAME_SIZE];
    snprintf(wanted, sizeof wanted, "%s", name);
    if (overwrite) return srv_file_write(folder, name, data, size, 1, err);
    for (int copy = 0; copy < MAX_COPIES; copy++) {
        tsr_error taken = TSR_ERROR_INIT;
        const char *dot = dot_of(wanted);
        if (copy && snprintf(name, NAME_SIZE, "%.*s (%d)%s", (int)(dot - wanted), wanted, copy, dot) >= NAME_SIZE)
            return srv_fail(err, TSR_BAD_ARGUMENT, "the name is too long");
        if (holds(folder, name, data, size)) return TSR_OK;
        tsr_status status = srv_file_write(folder, name, data, size, 0, &taken);
        if (status == TSR_WRONG_STATE) continue;
        return status == TSR_OK ? TSR_OK : srv_fail(err, status, "%s", taken.message);
    }
    return srv_fail(err, TSR_WRONG_STATE, "%s: too many files have this name", wanted);
}

/* --- the form --------------------------------------------------------------------------------------------------------------- */
typedef struct upload {
    srv_spool body;
    srv_form form;
    const srv_part *image;
    char type[16], subfolder[SUBFOLDER_SIZE];
    int overwrite;
} upload;

static int bad_form(srv_request *request, const char *why) {
    return srv_answer_error(request, 400, "bad_upload", "The upload cannot be used", why);
}

/* Answers itself when the form is no upload. */
static int take_upload(upload *u, srv_request *request) {
    char overwrite[8] = "";
    memset(u, 0, sizeof *u);
    int status = srv_request_spool(&u->body, request, request->context->options.max_upload + FORM_ROOM);
    if (status) return status;
    const char *fault =
        srv_form_parse(&u->form, srv_request_header(request, "Content-Type"), u->body.data, u->body.size);
    if (fault) return bad_form(request, fault);
    u->image = srv_form_part(&u->form, "image");
    if (!u->image || !u->image->filename[0]) return bad_form(request, "there is no file called image");
    if (srv_form_text(u->type, sizeof u->type, &u->form, "type") < 0) return bad_form(request, "the type is unknown");
    if (!u->type[0]) strcpy(u->type, "input");
    if (!srv_folder_of(request->context, u->type)) return bad_form(request, "the type is unknown");
    if (srv_form_text(u->subfolder, sizeof u->subfolder, &u->form, "subfolder") < 0 ||
        srv_form_text(overwrite, sizeof overwrite, &u->form, "overwrite") < 0)
        return bad_form(request, "a field is too long");
    u->overwrite = strcmp(overwrite, "true") == 0 || strcmp(overwrite, "1") == 0;
    if (u->image->size > request->context->options.max_upload)
        return srv_answer_error(request, 413, "request_too_large", "The file is too large", "");
    return 0;
}

static int store(srv_request *request, const upload *u, const char *filename, const void *data, size_t size,
                 const char *ending) {
    tsr_error err = TSR_ERROR_INIT;
    char name[NAME_SIZE];
    int folder = -1;
    if (with_ending(name, filename, ending) || !srv_name_is_good(name)) return bad_form(request, "the file's name");
    tsr_status status = srv_folder_open(&folder, srv_folder_of(request->context, u->type), u->subfolder, 1, &err);
    if (status == TSR_OK) status = keep(folder, name, data, size, u->overwrite, &err);
    if (folder >= 0) close(folder);
    if (status == TSR_IO) return srv_answer_error(request, 507, "no_space", "The file was not stored", err.message);
    if (status == TSR_WRONG_STATE)
        return srv_answer_error(request, 409, "name_taken", "The name is taken", err.message);
    if (status != TSR_OK) return srv_answer_no_file(request, &err);
    return srv_answer_json(request, 200,
                           json_pack("{s:s, s:s, s:s}", "name", name, "subfolder", u->subfolder, "type", u->type));
}

static int no_picture(srv_request *request, const tsr_error *err) {
    int status = err->status == TSR_TOO_LARGE ? 413 : err->status == TSR_NO_MEMORY ? 500 : 400;
    return srv_answer_error(request, status, "no_picture", "The file is no picture that can be used", err->message);
}

int srv_upload_image(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_image *picture = NULL;
    upload u;
    int status = take_upload(&u, request);
    if (!status) {
        const char *data = u.image->data;
        if (srv_picture_decode(&picture, request->context, data, u.image->size, &err) != TSR_OK)
            status = no_picture(request, &err);
        else
            status = store(request, &u, u.image->filename, data, u.image->size,
                           extension_by_content((const unsigned char *)data, u.image->size));
        tsr_image_free(picture);
    }
    srv_spool_clear(&u.body);
    return status;
}

/* --- masks ------------------------------------------------------------------------------------------------------------------ */
/* The picture that a mask belongs to. */
static tsr_status open_original(tsr_image **out, srv_request *request, const upload *u, tsr_error *err) {
    tsr_status status = TSR_OK;
    char text[4096], name[NAME_SIZE];
    json_t *reference = NULL;
    void *data = NULL;
    int folder = -1, file = -1;
    long long size = 0;
    *out = NULL;
    /* comfy-ui-client writes the field's name otherwise than ComfyUI reads it. */
    if (srv_form_text(text, sizeof text, &u->form, "original_ref") != 1 &&
        srv_form_text(text, sizeof text, &u->form, "originalRef") != 1)
        SRV_FAIL(err, TSR_BAD_ARGUMENT, "original_ref is missing");
    SRV_TRY(srv_json_parse(&reference, text, strlen(text), err));
    const char *filename = json_string_value(json_object_get(reference, "filename"));
    const char *subfolder = json_string_value(json_object_get(reference, "subfolder"));
    const char *type = json_string_value(json_object_get(reference, "type"));
    if (!filename || strlen(filename) >= sizeof name) SRV_FAIL(err, TSR_BAD_ARGUMENT, "original_ref names no file");
    snprintf(name, sizeof name, "%s", filename);
    const char *annotated = srv_cut_annotation(name);
    const char *root = srv_folder_of(request->context, annotated ? annotated : type ? type : "output");
    if (!root) SRV_FAIL(err, TSR_BAD_ARGUMENT, "original_ref's type is unknown");
    SRV_TRY(srv_folder_open(&folder, root, subfolder, 0, err));
    SRV_TRY(srv_file_open(&file, &size, folder, name, err));
    SRV_TRY(srv_file_read(&data, file, size, MAX_ORIGINAL, err));
    SRV_TRY(srv_picture_decode(out, request->context, data, (size_t)size, err));
done:
    if (file >= 0) close(file);
    if (folder >= 0) close(folder);
    json_decref(reference);
    free(data);
    return status;
}

/* The original's colours and texts with the mask's alpha, as PNG. */
static tsr_status combine(void **out, size_t *size_out, const tsr_image *original, const tsr_image *mask,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_image *both = NULL;
    if (original->width != mask->width || original->height != mask->height)
        SRV_FAIL(err, TSR_BAD_ARGUMENT, "the mask has %d x %d pixels, its picture %d x %d", mask->width, mask->height,
                 original->width, original->height);
    SRV_TRY(tsr_image_new(&both, original->width, original->height, 4, err));
    size_t pixels = (size_t)original->width * (size_t)original->height;
    for (size_t i = 0; i < pixels; i++) {
        memcpy(both->pixels + 4 * i, original->pixels + (size_t)original->channels * i, 3);
        both->pixels[4 * i + 3] = mask->channels == 4 ? mask->pixels[4 * i + 3] : 255;
    }
    for (int i = 0; i < original->text_count; i++)
        SRV_TRY(tsr_image_set_text(both, original->texts[i].key, original->texts[i].text, err));
    SRV_TRY(tsr_image_save_memory(out, size_out, both, ".png", 0, err));
done:
    tsr_image_free(both);
    return status;
}

/* The file becomes a PNG whatever its name said. */
static void png_name(char out[NAME_SIZE], const char *name) {
    const char *dot = dot_of(name);
    int stem = (int)(strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 ||
                             strcasecmp(dot, ".webp") == 0
                         ? dot - name
                         : (long)strlen(name));
    snprintf(out, NAME_SIZE, "%.*s.png", stem > NAME_SIZE - 5 ? NAME_SIZE - 5 : stem, name);
}

int srv_upload_mask(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_image *mask = NULL, *original = NULL;
    char name[NAME_SIZE];
    void *png = NULL;
    size_t size = 0;
    upload u;
    int status = take_upload(&u, request);
    if (!status && open_original(&original, request, &u, &err) != TSR_OK) status = srv_answer_no_file(request, &err);
    if (!status && (srv_picture_decode(&mask, request->context, u.image->data, u.image->size, &err) != TSR_OK ||
                    combine(&png, &size, original, mask, &err) != TSR_OK))
        status = no_picture(request, &err);
    if (!status) {
        png_name(name, u.image->filename);
        status = store(request, &u, name, png, size, ".png");
    }
    free(png);
    tsr_image_free(mask);
    tsr_image_free(original);
    srv_spool_clear(&u.body);
    return status;
}
