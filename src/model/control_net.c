/* model/control_net.c - ControlNet: a UNet's encoder, convolutions for the picture, and one for each skip. Also the front of
 * both kinds of control network; t2i_adapter.c is the other. Unions are ControlNets with control_union.c beside them.
 *
 * After Zhang, Rao, Agrawala: Adding Conditional Control to Text-to-Image Diffusion Models (2023). */
#include "model/control_net.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/control_union.h"
#include "model/t2i_adapter.h"
#include "model/unet_priv.h"
#include "weights/checkpoint_kind.h"

#define HINT_LAYERS 8 /* input_hint_block.0, 2, .. 14 */

struct tsr__control_net {
    tsr__nn *nn;
    tsr__t2i_adapter *adapter; /* the other kind; then the rest is 0 */
    tsr__unet *unet;           /* encoder only */
    tsr__nn_weight *hint[HINT_LAYERS];
    tsr__nn_weight *zero[TSR__UNET_MAX_BLOCKS + 1]; /* one a skip, then the middle's */
    int zeros;
    int averages;
    tsr__control_union *parts; /* of a union; else NULL */
};

/* --- loading -------------------------------------------------------------------------------------------------------- */
static const char LAYOUT[] = "a ControlNet";

/* Halves where the published network does: the picture has eight times the latent's sides. */
static tsr_status load_hint(tsr__control_net *net, tsr__loader *loader, tsr_error *err) {
    tsr_status status = TSR_OK;
    int channels = 3;
    for (int i = 0; i < HINT_LAYERS; i++) {
        tsr__name name = tsr__name_of("input_hint_block.%d", 2 * i);
        int out = 0, in = 0, stride = i == 2 || i == 4 || i == 6 ? 2 : 1;
        TSR_TRY(tsr__load_sides(loader, &out, &in, name.text, 4, err));
        TSR_TRY(tsr__load_conv(loader, &net->hint[i], out, channels, 3, stride, 1, 1, name.text, err));
        channels = out;
    }
    if (channels != net->unet->model_channels)
        TSR_FAIL(err, TSR_UNSUPPORTED, "input_hint_block ends with %d channels, the encoder starts with %d: not %s",
                 channels, net->unet->model_channels, LAYOUT);
done:
    return status;
}

static tsr_status load_zero(tsr__control_net *net, tsr__loader *loader, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    int out = 0, in = 0;
    TSR_TRY(tsr__load_sides(loader, &out, &in, name, 4, err));
    TSR_TRY(tsr__load_linear(loader, &net->zero[net->zeros], out, in, TSR__WITH_BIAS, name, err));
    net->zeros++;
done:
    return status;
}

static tsr_status load_control(tsr__control_net *net, const tsr__weights *weights, const char *prefix, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__loader loader;
    TSR_TRY(tsr__loader_init(&loader, net->nn, weights, prefix, LAYOUT, err));
    TSR_ALLOC_ZERO(err, net->unet, 1);
    net->unet->nn = net->nn;
    TSR_TRY(tsr__unet_load_encoder(net->unet, weights, prefix, tsr__weights_metadata(weights, "tessera.config"), LAYOUT,
                                   err));
    TSR_TRY(load_hint(net, &loader, err));
    for (int i = 0; i <= net->unet->inputs; i++)
        TSR_TRY(load_zero(net, &loader, tsr__name_of("zero_convs.%d.0", i).text, err));
    TSR_TRY(load_zero(net, &loader, "middle_block_out.0", err));
    if (tsr__control_union_is(&loader))
        TSR_TRY(tsr__control_union_new(&net->parts, &loader, net->unet->model_channels, net->unet->embed_width, err));
done:
    return status;
}

static tsr_status fail_kind(const tsr__weights *weights, tsr_error *err) {
    const char *path = tsr__weights_path(weights);
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, weights);
    if (info.kind == TSR_CHECKPOINT_CONTROL_LORA)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: a control-LoRA is nothing without the model that it changes",
                         path ? path : "weights");
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "%s: this is %s; neither a ControlNet of SD1, SD2 or SDXL (input_hint_block.*) nor a T2I-Adapter "
                     "(body.*)",
                     path ? path : "weights", tsr__checkpoint_kind_name(info.kind));
}

tsr_status tsr__control_net_new(tsr__control_net **out, tsr__nn *nn, const tsr__weights *weights, int averages,
                                tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__control_net *net = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, net, 1);
    net->nn = nn;
    net->averages = averages;
    if (tsr__weights_find(weights, "control_model.input_hint_block.0.weight"))
        TSR_TRY(load_control(net, weights, "control_model", err));
    else if (tsr__weights_find(weights, "input_hint_block.0.weight") && !tsr__weights_find(weights, "lora_controlnet"))
        TSR_TRY(load_control(net, weights, "", err));
    else if (tsr__t2i_adapter_is(weights)) TSR_TRY(tsr__t2i_adapter_new(&net->adapter, nn, weights, err));
    else TSR_TRY(fail_kind(weights, err));
    *out = net;
    net = NULL;
done:
    tsr__control_net_free(net);
    return status;
}

void tsr__control_net_free(tsr__control_net *net) {
    if (!net) return;
    tsr__t2i_adapter_free(net->adapter);
    tsr__unet_free(net->unet);
    tsr__control_union_free(net->parts);
    for (int i = 0; i < HINT_LAYERS; i++) tsr__nn_weight_free(net->nn, net->hint[i]);
    for (int i = 0; i < net->zeros; i++) tsr__nn_weight_free(net->nn, net->zero[i]);
    free(net);
}

tsr__unet *tsr__control_net_unet(const tsr__control_net *net) {
    return net->unet;
}

int tsr__control_net_cells(const tsr__control_net *net) {
    return net->adapter ? tsr__t2i_adapter_cells(net->adapter) : 1;
}

/* A network without attention to the text fits models of any width of context. */
tsr_status tsr__control_net_fits(const tsr__control_net *net, const tsr__unet *unet, const char *name, tsr_error *err) {
    const tsr__unet *own = net->unet;
    if (net->adapter) return tsr__t2i_adapter_fits(net->adapter, unet, name, err);
    if (own->in_channels != unet->out_channels)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: a control network for latents of %d channels; the model's have %d",
                         name, own->in_channels, unet->out_channels);
    if ((own->context_width == unet->context_width || !own->context_width) && own->label_width == unet->label_width &&
        own->inputs == unet->inputs && own->model_channels == unet->model_channels)
        return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "%s: a control network for models with %d values a token and %d input blocks; the model takes %d "
                     "and has %d: it is of another family",
                     name, own->context_width, own->inputs + 1, unet->context_width, unet->inputs + 1);
}

/* --- the picture ------------------------------------------------------------------------------------------------------ */
static tsr_status run_hint(tsr__control_net *net, tsr__tensor *out, const float *picture, int h, int w,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor x = { 0 }, y = { 0 };
    TSR_TRY(tsr__nn_from_nchw(net->nn, &x, picture, 1, 3, 8 * h, 8 * w, err));
    for (int i = 0; i < HINT_LAYERS; i++) {
        TSR_TRY(tsr__nn_conv2d(net->nn, &y, &x, net->hint[i], NULL, NULL, err));
        tsr__nn_release(net->nn, &x);
        x = y;
        memset(&y, 0, sizeof y);
        if (i + 1 < HINT_LAYERS) TSR_TRY(tsr__nn_activate(net->nn, &x, TSR__ACT_SILU, err));
    }
    *out = x;
    memset(&x, 0, sizeof x);
done:
    tsr__nn_release(net->nn, &x);
    tsr__nn_release(net->nn, &y);
    return status;
}

tsr_status tsr__control_net_hint(tsr__control_hint *out, tsr__control_net *net, const float *picture, int h, int w,
                                 int type, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int types = net->parts ? tsr__control_union_types(net->parts) : 0;
    memset(out, 0, sizeof *out);
    if (net->adapter) return tsr__t2i_adapter_run(net->adapter, &out->tensors, &out->count, picture, h, w, err);
    if (net->parts && type >= types)
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "the union ControlNet knows %d types of picture, this is number %d: tile and repaint need the "
                         "ProMax file",
                         types, type + 1);
    TSR_ALLOC_ZERO(err, out->tensors, 2);
    out->count = net->parts ? 2 : 1;
    TSR_TRY(run_hint(net, &out->tensors[0], picture, h, w, err));
    if (!net->parts) goto done;
    TSR_TRY(tsr__control_union_features(net->parts, net->nn, &out->tensors[0], type, err));
    TSR_TRY(tsr__control_union_time(net->parts, net->nn, &out->tensors[1], type, err));
done:
    if (status != TSR_OK) tsr__control_hint_clear(net, out);
    return status;
}

void tsr__control_net_release(tsr__control_net *net, tsr__tensor *tensors, int count) {
    for (int i = 0; tensors && i < count; i++) tsr__nn_release(net->nn, &tensors[i]);
    free(tensors);
}

void tsr__control_hint_clear(tsr__control_net *net, tsr__control_hint *hint) {
    tsr__control_net_release(net, hint->tensors, hint->count);
    memset(hint, 0, sizeof *hint);
}

/* --- one run ------------------------------------------------------------------------------------------------------------ */
/* Tensor `index` of every hint, side by side. */
static tsr_status join_hints(tsr__control_net *net, tsr__tensor *out, const tsr__control_hint *const *hints, int n,
                             int index, tsr_error *err) {
    const tsr__tensor *one = &hints[0]->tensors[index];
    size_t bytes = (size_t)one->h * (size_t)one->w * (size_t)one->c * (one->dtype == TSR__BF16 ? 2 : 4);
    if (!one->data) return TSR_OK;
    tsr_status status = tsr__nn_tensor(net->nn, out, n, one->h, one->w, one->c, err);
    for (int i = 0; status == TSR_OK && i < n; i++)
        memcpy((char *)out->data + (size_t)i * bytes, hints[i]->tensors[index].data, bytes);
    return status;
}

/* Every channel of every sample becomes its mean. */
static tsr_status average(tsr__control_net *net, tsr__tensor *x, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int n = x->n, c = x->c, h = x->h, w = x->w;
    const size_t plane = (size_t)h * (size_t)w, planes = (size_t)n * (size_t)c;
    float *values = NULL;
    TSR_ALLOC(err, values, planes * plane);
    TSR_TRY(tsr__nn_to_nchw(net->nn, values, x, err));
    for (size_t i = 0; i < planes; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < plane; k++) sum += (double)values[i * plane + k];
        for (size_t k = 0; k < plane; k++) values[i * plane + k] = (float)(sum / (double)plane);
    }
    tsr__nn_release(net->nn, x);
    TSR_TRY(tsr__nn_from_nchw(net->nn, x, values, n, c, h, w, err));
done:
    free(values);
    return status;
}

static tsr_status run_encoder(tsr__control_net *net, tsr__tensor *out, const float *x, int n, int h, int w,
                              const float *timesteps, tsr__unet_context *const *contexts, const float *const *labels,
                              const tsr__control_hint *const *hints, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet_pass pass = { .unet = net->unet, .nn = net->nn, .n = n };
    tsr__tensor in = { 0 }, hint = { 0 }, time = { 0 };
    if (net->parts) {
        TSR_TRY(join_hints(net, &time, hints, n, 1, err));
        pass.time_more = &time;
    }
    TSR_TRY(tsr__unet_pass_begin(&pass, h, w, timesteps, contexts, labels, err));
    TSR_TRY(join_hints(net, &hint, hints, n, 0, err));
    if (hint.h != h || hint.w != w)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "a control picture for %d x %d cells, the latent has %d x %d", hint.w, hint.h,
                 w, h);
    TSR_TRY(tsr__nn_from_nchw(net->nn, &in, x, n, net->unet->in_channels, h, w, err));
    TSR_TRY(tsr__unet_pass_encode(&pass, &in, &hint, err));
    for (int i = 0; i < net->zeros; i++) {
        tsr__tensor *from = i < pass.depth ? &pass.skips[i] : &pass.middle;
        TSR_TRY(tsr__nn_linear(net->nn, &out[i], from, net->zero[i], TSR__ACT_NONE, NULL, err));
        tsr__nn_release(net->nn, from);
        if (net->averages) TSR_TRY(average(net, &out[i], err));
    }
done:
    tsr__nn_release(net->nn, &in);
    tsr__nn_release(net->nn, &hint);
    tsr__nn_release(net->nn, &time);
    tsr__unet_pass_end(&pass);
    return status;
}

tsr_status tsr__control_net_run(tsr__control_net *net, tsr__tensor **out, int *count, tsr__control_place *place,
                                const float *x, int n, int h, int w, const float *timesteps,
                                tsr__unet_context *const *contexts, const float *const *labels,
                                const tsr__control_hint *const *hints, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor *tensors = NULL;
    int made = net->adapter ? hints[0]->count : net->zeros;
    *out = NULL;
    *count = 0;
    *place = net->adapter ? TSR__CONTROL_INPUTS : TSR__CONTROL_SKIPS;
    TSR_ALLOC_ZERO(err, tensors, made);
    if (net->adapter)
        for (int i = 0; i < made; i++) TSR_TRY(join_hints(net, &tensors[i], hints, n, i, err));
    else TSR_TRY(run_encoder(net, tensors, x, n, h, w, timesteps, contexts, labels, hints, err));
    *out = tensors;
    *count = made;
    tensors = NULL;
done:
    tsr__control_net_release(net, tensors, made);
    return status;
}
