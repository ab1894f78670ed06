/* server/routes_files.c - pictures out and in, and what model files say of themselves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "http_text.h"
#include "json_text.h"
#include "paths.h"
#include "request_priv.h"
#include "upload.h"

enum { HEADERS_SIZE = 1024, MAX_HEADER_JSON = 32 << 20 };
#define MAX_DECODED ((long long)256 << 20) /* bytes of a file that is decoded */

/* --- what is sent ------------------------------------------------------------------------------------------------------------ */
/* Only pictures are shown; everything else is for saving, so that no file can run as a page of this server. */
static const char *content_type(const char *name) {
    static const struct {
        const char *ending, *type;
    } rows[] = {
        { ".png", "image/png" }, { ".jpg", "image/jpeg" }, { ".jpeg", "image/jpeg" }, { ".webp", "image/webp" }
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof rows / sizeof *rows; i++)
        if (strcasecmp(dot, rows[i].ending) == 0) return rows[i].type;
    return "application/octet-stream";
}

/* Content-Disposition and, with a tag, what lets browsers ask whether a file has changed. */
static void describe(char out[HEADERS_SIZE], const char *name, const char *type, const char *tag) {
    char quoted[600];
    size_t n = 0;
    for (; *name && n + 2 < sizeof quoted; name++) {
        if (*name == '"') quoted[n++] = '\\';
        quoted[n++] = *name;
    }
    quoted[n] = 0;
    snprintf(out, HEADERS_SIZE, "Content-Disposition: %sfilename=\"%s\"\r\n%s%s%s",
             strncmp(type, "image/", 6) == 0 ? "" : "attachment; ", quoted,
             *tag ? "Cache-Control: no-cache\r\nETag: " : "", tag, *tag ? "\r\n" : "");
}

static int send_whole(srv_request *request, int file, long long size, const char *name) {
    struct stat about;
    char tag[64] = "", headers[HEADERS_SIZE];
    const char *type = content_type(name), *known = srv_request_header(request, "If-None-Match");
    if (fstat(file, &about) == 0)
        snprintf(tag, sizeof tag, "\"%llx-%llx-%llx\"", (unsigned long long)about.st_mtim.tv_sec,
                 (unsigned long long)about.st_mtim.tv_nsec, (unsigned long long)size);
    describe(headers, name, type, tag);
    if (known && *tag && srv_list_has(known, tag)) return srv_answer_bytes(request, 304, NULL, NULL, 0, headers);
    return srv_answer_file(request, file, size, type, headers);
}

/* --- what is made of it ------------------------------------------------------------------------------------------------------- */
/* preview=webp;90 */
typedef struct rendering {
    const char *ending, *type;
    int quality;
    char channel; /* 0: as it is; 'r': colours only; 'a': alpha only */
} rendering;

/* 1 when the file is not sent as it is, 0 when it is, -1 when what is asked is unknown. */
static int read_rendering(rendering *out, srv_request *request) {
    const char *preview = srv_request_query(request, "preview"), *channel = srv_request_query(request, "channel");
    *out = (rendering){ ".png", "image/png", 0, 0 };
    if (channel && strcmp(channel, "rgba") != 0) {
        if (strcmp(channel, "rgb") != 0 && strcmp(channel, "a") != 0) return -1;
        out->channel = channel[0];
    }
    if (preview && *preview) {
        int webp = strncmp(preview, "webp", 4) == 0;
        const char *semicolon = strchr(preview, ';');
        out->ending = webp ? ".webp" : ".jpg";
        out->type = webp ? "image/webp" : "image/jpeg";
        if (!webp && strncmp(preview, "jpeg", 4) != 0) return -1;
        out->quality = semicolon ? (int)strtol(semicolon + 1, NULL, 10) : 90;
        if (out->quality < 1 || out->quality > 100) out->quality = 90;
    }
    return out->channel || (preview && *preview);
}

static int drops_alpha(const rendering *r) {
    return r->channel == 'r' || strcmp(r->ending, ".jpg") == 0;
}

/* Only the pixels: a preview carries no workflow. */
static tsr_status pick_channels(tsr_image **out, const tsr_image *from, const rendering *r, tsr_error *err) {
    int channels = r->channel == 'a' ? 4 : drops_alpha(r) ? 3 : from->channels;
    tsr_status status = tsr_image_new(out, from->width, from->height, channels, err);
    if (status != TSR_OK) return status;
    size_t pixels = (size_t)from->width * (size_t)from->height;
    for (size_t i = 0; i < pixels; i++) {
        const unsigned char *source = from->pixels + (size_t)from->channels * i;
        unsigned char *to = (*out)->pixels + (size_t)channels * i;
        if (r->channel == 'a') to[3] = from->channels == 4 ? source[3] : 255; /* black below, as ComfyUI does */
        else memcpy(to, source, (size_t)channels);
    }
    return TSR_OK;
}

static int send_rendered(srv_request *request, int file, long long size, const char *name, const rendering *r) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = TSR_OK;
    tsr_image *picture = NULL, *picked = NULL;
    char headers[HEADERS_SIZE];
    void *data = NULL, *encoded = NULL;
    size_t encoded_size = 0;
    SRV_TRY(srv_file_read(&data, file, size, MAX_DECODED, &err));
    SRV_TRY(srv_picture_decode(&picture, request->context, data, (size_t)size, &err));
    SRV_TRY(pick_channels(&picked, picture, r, &err));
    SRV_TRY(tsr_image_save_memory(&encoded, &encoded_size, picked, r->ending, r->quality, &err));
done:;
    int answer = 0;
    describe(headers, name, r->type, "");
    if (status == TSR_OK) answer = srv_answer_bytes(request, 200, r->type, encoded, encoded_size, headers);
    else if (status == TSR_BAD_FORMAT || status == TSR_UNSUPPORTED)
        answer = srv_answer_error(request, 400, "no_picture", "The file is no picture", err.message);
    else answer = srv_answer_no_file(request, &err);
    tsr_image_free(picture);
    tsr_image_free(picked);
    free(data);
    free(encoded);
    return answer;
}

static int view(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    const char *filename = srv_request_query(request, "filename"), *type = srv_request_query(request, "type");
    int folder = -1, file = -1;
    long long size = 0;
    rendering r;
    char name[300];
    int rendered = read_rendering(&r, request);
    if (!filename || strlen(filename) >= sizeof name || rendered < 0)
        return srv_answer_error(request, 400, "bad_request", "A filename, and known options, are needed", "");
    snprintf(name, sizeof name, "%s", filename);
    const char *annotated = srv_cut_annotation(name);
    const char *root = srv_folder_of(request->context, annotated ? annotated : type ? type : "output");
    if (!root) return srv_answer_error(request, 400, "bad_request", "The type is unknown", "");
    tsr_status status = srv_folder_open(&folder, root, srv_request_query(request, "subfolder"), 0, &err);
    if (status == TSR_OK) status = srv_file_open(&file, &size, folder, name, &err);
    int answer = status != TSR_OK ? srv_answer_no_file(request, &err)
                 : rendered       ? send_rendered(request, file, size, name, &r)
                                  : send_whole(request, file, size, name);
    if (file >= 0) close(file);
    if (folder >= 0) close(folder);
    return answer;
}

/* --- model files -------------------------------------------------------------------------------------------------------------- */
/* The __metadata__ of a safetensors file: a new reference, NULL when it has none. */
static json_t *read_metadata(int file, long long size) {
    unsigned char head[8];
    unsigned long long length = 0;
    json_t *whole = NULL, *metadata = NULL;
    void *text = NULL;
    if (size < 8 || read(file, head, 8) != 8) return NULL;
    for (int i = 7; i >= 0; i--) length = length << 8 | head[i];
    if (length > MAX_HEADER_JSON || length > (unsigned long long)size - 8) return NULL;
    if (srv_file_read(&text, file, (long long)length, MAX_HEADER_JSON, NULL) == TSR_OK &&
        srv_json_parse(&whole, text, (size_t)length, NULL) == TSR_OK)
        metadata = json_incref(json_object_get(whole, "__metadata__"));
    json_decref(whole);
    free(text);
    return metadata;
}

/* A models folder without subfolders holds its files itself. */
static tsr_status open_model(int *out, long long *size, const srv_context *context, const char *kind, const char *name,
                             tsr_error *err) {
    char path[1024];
    struct stat about;
    *out = -1;
    *size = 0;
    if (!srv_name_is_good(kind)) return srv_fail(err, TSR_BAD_ARGUMENT, "not a folder of models");
    if (snprintf(path, sizeof path, "%s/%s", context->options.models, kind) >= (int)sizeof path)
        return srv_fail(err, TSR_BAD_ARGUMENT, "the path is too long");
    /* The folders of models are their owner's, and often links. */
    int there = stat(path, &about) == 0 && S_ISDIR(about.st_mode);
    return srv_path_open(out, size, there ? path : context->options.models, name, err);
}

static int view_metadata(srv_request *request) {
    tsr_error err = TSR_ERROR_INIT;
    const char *name = srv_request_query(request, "filename");
    long long size = 0;
    int file = -1;
    if (!name || open_model(&file, &size, request->context, srv_request_rest(request), name, &err) != TSR_OK)
        return srv_answer_json_text(request, 404, "{\"error\":\"not found\"}");
    json_t *metadata = read_metadata(file, size);
    close(file);
    if (!metadata) return srv_answer_json_text(request, 404, "{\"error\":\"no metadata\"}");
    return srv_answer_json(request, 200, metadata);
}

const srv_route SRV_FILE_ROUTES[] = {
    { "GET", "/view", 0, view },
    { "POST", "/upload/image", 0, srv_upload_image },
    { "POST", "/upload/mask", 0, srv_upload_mask },
    { "GET", "/view_metadata/*", 0, view_metadata },
    { NULL, NULL, 0, NULL },
};
