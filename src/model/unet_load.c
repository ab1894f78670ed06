/* model/unet_load.c - builds a UNet from the names and shapes of LDM's checkpoint layout.
 *
 * input_blocks.N / middle_block.N / output_blocks.N: what a block holds is told by which names exist. */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "model/unet_priv.h"
#include "model/upsample.h"

/* What the walk through the blocks keeps. */
typedef struct walk {
    tsr__unet *unet;
    tsr__loader loader;
    int heads;                                     /* 0: the layout's rule */
    int channels;                                  /* of the running activation */
    int skips[TSR__UNET_MAX_BLOCKS], depth;        /* channels of the kept activations */
    tsr__name times[2 * TSR__UNET_MAX_BLOCKS + 2]; /* emb_layers.1 of every residual block */
    int time_channels[2 * TSR__UNET_MAX_BLOCKS + 2], time_count;
} walk;

static int count_blocks(const tsr__loader *loader, const char *kind, int from) {
    int n = from;
    while (n <= TSR__UNET_MAX_BLOCKS && (tsr__load_has(loader, "%s.%d.0.in_layers.0.weight", kind, n) ||
                                         tsr__load_has(loader, "%s.%d.0.op.weight", kind, n)))
        n++;
    return n - from;
}

static tsr_status load_res(walk *at, tsr__unet_block *block, const char *name, int in_channels, tsr_error *err) {
    tsr_status status = TSR_OK;
    block->has_res = 1;
    TSR_TRY(tsr__res_load(&block->res, &at->loader, &tsr__res_names_unet, name, in_channels, 1e-5f, err));
    at->channels = block->res.out_channels;
    block->add_offset = at->unet->add_width;
    at->unet->add_width += at->channels;
    at->times[at->time_count] = tsr__name_of("%s.emb_layers.1", name);
    at->time_channels[at->time_count++] = at->channels;
done:
    return status;
}

static tsr_status load_transformer(walk *at, tsr__unet_block *block, const char *name, tsr_error *err) {
    block->has_transformer = 1;
    return tsr__transformer_load(&block->transformer, &at->loader, name, at->channels, at->heads,
                                 &at->unet->context_width, &at->unet->slots, err);
}

static tsr_status load_input(walk *at, tsr__unet_block *block, int number, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__name name = tsr__name_of("input_blocks.%d", number);
    if (tsr__load_has(&at->loader, "%s.0.op.weight", name.text)) {
        TSR_TRY(tsr__load_conv(&at->loader, &block->down, at->channels, at->channels, 3, 2, 1, 1,
                               tsr__name_of("%s.0.op", name.text).text, err));
        at->unet->halvings++;
    } else {
        TSR_TRY(load_res(at, block, tsr__name_of("%s.0", name.text).text, at->channels, err));
        if (tsr__load_has(&at->loader, "%s.1.norm.weight", name.text))
            TSR_TRY(load_transformer(at, block, tsr__name_of("%s.1", name.text).text, err));
    }
    at->skips[at->depth++] = at->channels;
done:
    return status;
}

static tsr_status load_output(walk *at, tsr__unet_block *block, int number, int *doublings, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__name name = tsr__name_of("output_blocks.%d", number);
    int next = 1;
    TSR_TRY(load_res(at, block, tsr__name_of("%s.0", name.text).text, at->channels + at->skips[--at->depth], err));
    if (tsr__load_has(&at->loader, "%s.1.norm.weight", name.text)) {
        TSR_TRY(load_transformer(at, block, tsr__name_of("%s.1", name.text).text, err));
        next = 2;
    }
    if (tsr__load_has(&at->loader, "%s.%d.conv.weight", name.text, next)) {
        TSR_TRY(tsr__upsample_load(&at->loader, &block->up, at->channels, TSR__WITH_BIAS,
                                   tsr__name_of("%s.%d.conv", name.text, next).text, err));
        ++*doublings;
    }
done:
    return status;
}

static tsr_status load_start(walk *at, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = at->unet;
    tsr__loader *loader = &at->loader;
    int in = 0;
    TSR_TRY(tsr__load_sides(loader, &unet->model_channels, &unet->in_channels, "input_blocks.0.0", 4, err));
    TSR_TRY(tsr__load_conv(loader, &unet->conv_in, unet->model_channels, unet->in_channels, 3, 1, 1, 1,
                           "input_blocks.0.0", err));
    TSR_TRY(tsr__load_sides(loader, &unet->embed_width, &in, "time_embed.0", 2, err));
    TSR_TRY(tsr__load_linear(loader, &unet->time_in, unet->embed_width, unet->model_channels, TSR__WITH_BIAS,
                             "time_embed.0", err));
    TSR_TRY(tsr__load_linear(loader, &unet->time_out, unet->embed_width, unet->embed_width, TSR__WITH_BIAS,
                             "time_embed.2", err));
    if (tsr__load_has(loader, "label_emb.0.0.weight")) {
        TSR_TRY(tsr__load_sides(loader, &in, &unet->label_width, "label_emb.0.0", 2, err));
        TSR_TRY(tsr__load_linear(loader, &unet->label_in, unet->embed_width, unet->label_width, TSR__WITH_BIAS,
                                 "label_emb.0.0", err));
        TSR_TRY(tsr__load_linear(loader, &unet->label_out, unet->embed_width, unet->embed_width, TSR__WITH_BIAS,
                                 "label_emb.0.2", err));
    }
done:
    return status;
}

static tsr_status load_end(walk *at, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = at->unet;
    tsr__loader *loader = &at->loader;
    int in = 0;
    TSR_TRY(tsr__load_sides(loader, &unet->out_channels, &in, "out.2", 4, err));
    TSR_TRY(tsr__norm_load_group(&unet->norm_out, loader, unet->model_channels, "out.0", err));
    TSR_TRY(
        tsr__load_conv(loader, &unet->conv_out, unet->out_channels, unet->model_channels, 3, 1, 1, 1, "out.2", err));
done:
    return status;
}

static tsr_status load_encoder_blocks(walk *at, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__unet *unet = at->unet;
    at->channels = unet->model_channels;
    at->skips[at->depth++] = at->channels;
    for (int i = 0; i < unet->inputs; i++) TSR_TRY(load_input(at, &unet->blocks[i], i + 1, err));
    TSR_TRY(load_res(at, &unet->blocks[unet->inputs], "middle_block.0", at->channels, err));
    TSR_TRY(load_transformer(at, &unet->blocks[unet->inputs], "middle_block.1", err));
    TSR_TRY(load_res(at, &unet->blocks[unet->inputs + 1], "middle_block.2", at->channels, err));
done:
    return status;
}

static tsr_status load_decoder_blocks(walk *at, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__unet *unet = at->unet;
    int doublings = 0;
    for (int i = 0; i < unet->outputs; i++)
        TSR_TRY(load_output(at, &unet->blocks[unet->inputs + 2 + i], i, &doublings, err));
    if (doublings != unet->halvings || at->channels != unet->model_channels)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: %d downsamples, %d upsamples, %d channels at the end: not %s",
                 at->loader.prefix, unet->halvings, doublings, at->channels, at->loader.layout);
done:
    return status;
}

static tsr_status load_time_projections(walk *at, tsr_error *err) {
    return tsr__load_stacked(&at->loader, &at->unet->time_projections, at->time_count, at->times, at->time_channels,
                             at->unet->embed_width, TSR__WITH_BIAS, err);
}

static tsr_status start_walk(walk **out, tsr__unet *unet, const tsr__weights *weights, const char *prefix,
                             const char *config, const char *layout, tsr_error *err) {
    tsr_status status = TSR_OK;
    walk *at = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, at, 1);
    at->unet = unet;
    TSR_TRY(tsr__loader_init(&at->loader, unet->nn, weights, prefix, layout, err));
    at->loader.log = &unet->log;
    TSR_TRY(tsr__config_int(&at->heads, config, "unet_heads", 0, err));
    TSR_TRY(load_start(at, err));
    unet->inputs = count_blocks(&at->loader, "input_blocks", 1);
    *out = at;
    at = NULL;
done:
    free(at);
    return status;
}

tsr_status tsr__unet_load(tsr__unet *unet, const tsr__weights *weights, const char *prefix, const char *config,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    walk *at = NULL;
    TSR_TRY(start_walk(&at, unet, weights, prefix, config, "an SD-layout checkpoint", err));
    TSR_TRY(load_end(at, err));
    unet->outputs = count_blocks(&at->loader, "output_blocks", 0);
    if (unet->outputs != unet->inputs + 1 || unet->inputs >= TSR__UNET_MAX_BLOCKS)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s has %d input and %d output blocks: not %s", at->loader.prefix,
                 unet->inputs + 1, unet->outputs, at->loader.layout);
    TSR_ALLOC_ZERO(err, unet->blocks, unet->inputs + 2 + unet->outputs);
    unet->count = unet->inputs + 2 + unet->outputs;
    TSR_TRY(load_encoder_blocks(at, err));
    TSR_TRY(load_decoder_blocks(at, err));
    TSR_TRY(load_time_projections(at, err));
    unet->parameters = at->loader.parameters;
done:
    free(at);
    return status;
}

tsr_status tsr__unet_load_encoder(tsr__unet *unet, const tsr__weights *weights, const char *prefix, const char *config,
                                  const char *layout, tsr_error *err) {
    tsr_status status = TSR_OK;
    walk *at = NULL;
    TSR_TRY(start_walk(&at, unet, weights, prefix, config, layout, err));
    if (unet->inputs < 1 || unet->inputs >= TSR__UNET_MAX_BLOCKS)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%d input blocks: not %s", unet->inputs + 1, layout);
    TSR_ALLOC_ZERO(err, unet->blocks, unet->inputs + 2);
    unet->count = unet->inputs + 2;
    TSR_TRY(load_encoder_blocks(at, err));
    TSR_TRY(load_time_projections(at, err));
    unet->parameters = at->loader.parameters;
done:
    free(at);
    return status;
}
