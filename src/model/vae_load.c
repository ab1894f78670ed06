/* model/vae_load.c - builds a VAE from LDM's names: encoder.down.L.block.B, decoder.up.L.block.B, mid, attention. */
#include <string.h>

#include "core/check.h"
#include "model/upsample.h"
#include "model/vae_priv.h"

static const char *const layout = "an SD-layout VAE";

static tsr_status load_attention(tsr__vae_attention *attention, tsr__loader *loader, const char *name, int channels,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__name qkv[3] = { tsr__name_of("%s.q", name), tsr__name_of("%s.k", name), tsr__name_of("%s.v", name) };
    const int sides[3] = { channels, channels, channels };
    attention->channels = channels;
    TSR_TRY(tsr__norm_load_group(&attention->norm, loader, channels, tsr__name_of("%s.norm", name).text, err));
    TSR_TRY(tsr__load_stacked(loader, &attention->qkv, 3, qkv, sides, channels, TSR__WITH_BIAS, err));
    TSR_TRY(tsr__load_linear(loader, &attention->out, channels, channels, TSR__WITH_BIAS,
                             tsr__name_of("%s.proj_out", name).text, err));
done:
    return status;
}

static tsr_status load_res(tsr__res_block *block, tsr__loader *loader, const char *name, int *channels,
                           tsr_error *err) {
    tsr_status status = tsr__res_load(block, loader, &tsr__res_names_vae, name, *channels, 1e-6f, err);
    *channels = block->out_channels;
    return status;
}

static tsr_status load_mid(tsr__vae_half *half, tsr__loader *loader, const char *name, int *channels, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(load_res(&half->mid1, loader, tsr__name_of("%s.mid.block_1", name).text, channels, err));
    TSR_TRY(load_attention(&half->mid_attention, loader, tsr__name_of("%s.mid.attn_1", name).text, *channels, err));
    TSR_TRY(load_res(&half->mid2, loader, tsr__name_of("%s.mid.block_2", name).text, channels, err));
done:
    return status;
}

/* name: "encoder.down.2" or "decoder.up.2" */
static tsr_status load_level(tsr__vae_level *level, tsr__loader *loader, const char *name, int decoder, int *channels,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__name resize = tsr__name_of("%s.%s.conv", name, decoder ? "upsample" : "downsample");
    while (tsr__load_has(loader, "%s.block.%d.norm1.weight", name, level->blocks)) {
        int b = level->blocks;
        if (b == TSR__VAE_MAX_BLOCKS)
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s.%s: more than %d blocks", loader->prefix, name, TSR__VAE_MAX_BLOCKS);
        TSR_TRY(load_res(&level->block[b], loader, tsr__name_of("%s.block.%d", name, b).text, channels, err));
        if (tsr__load_has(loader, "%s.attn.%d.norm.weight", name, b))
            TSR_TRY(
                load_attention(&level->attention[b], loader, tsr__name_of("%s.attn.%d", name, b).text, *channels, err));
        level->blocks++;
    }
    if (!tsr__load_has(loader, "%s.weight", resize.text)) goto done;
    if (decoder) TSR_TRY(tsr__upsample_load(loader, &level->resize, *channels, TSR__WITH_BIAS, resize.text, err));
    else TSR_TRY(tsr__load_conv(loader, &level->resize, *channels, *channels, 3, 2, 0, 1, resize.text, err));
done:
    return status;
}

static tsr_status load_half(tsr__vae_half *half, tsr__loader *loader, int decoder, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *name = decoder ? "decoder" : "encoder", *step = decoder ? "up" : "down";
    tsr__name conv_in = tsr__name_of("%s.conv_in", name), conv_out = tsr__name_of("%s.conv_out", name);
    int channels = 0, last = 0;
    TSR_TRY(tsr__load_sides(loader, &channels, &half->in_channels, conv_in.text, 4, err));
    TSR_TRY(tsr__load_conv(loader, &half->conv_in, channels, half->in_channels, 3, 1, 1, 1, conv_in.text, err));
    if (decoder) TSR_TRY(load_mid(half, loader, name, &channels, err));
    while (half->levels < TSR__VAE_MAX_LEVELS &&
           tsr__load_has(loader, "%s.%s.%d.block.0.norm1.weight", name, step, half->levels))
        half->levels++;
    for (int i = 0; i < half->levels; i++) {
        int number = decoder ? half->levels - 1 - i : i; /* the decoder counts from the picture */
        TSR_TRY(load_level(&half->level[i], loader, tsr__name_of("%s.%s.%d", name, step, number).text, decoder,
                           &channels, err));
        if ((half->level[i].resize != NULL) != (i + 1 < half->levels))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s.%s.%s.%d: a resize too many or too few: not %s", loader->prefix, name,
                     step, number, loader->layout);
    }
    if (!decoder) TSR_TRY(load_mid(half, loader, name, &channels, err));
    TSR_TRY(tsr__norm_load_group(&half->norm_out, loader, channels, tsr__name_of("%s.norm_out", name).text, err));
    TSR_TRY(tsr__load_sides(loader, &half->out_channels, &last, conv_out.text, 4, err));
    TSR_TRY(tsr__load_conv(loader, &half->conv_out, half->out_channels, channels, 3, 1, 1, 1, conv_out.text, err));
done:
    return status;
}

tsr_status tsr__vae_load(tsr__vae *vae, const tsr__weights *weights, const char *prefix, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__loader loader;
    TSR_TRY(tsr__loader_init(&loader, vae->nn, weights, prefix, layout, err));
    loader.log = &vae->log;
    TSR_TRY(load_half(&vae->encoder, &loader, 0, err));
    TSR_TRY(load_half(&vae->decoder, &loader, 1, err));
    int z = vae->decoder.in_channels;
    if (vae->encoder.in_channels != 3 || vae->decoder.out_channels != 3 || vae->encoder.out_channels != 2 * z ||
        vae->encoder.levels != vae->decoder.levels || vae->decoder.levels < 1)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: %d -> %d channels encoding, %d -> %d decoding: not %s", loader.prefix,
                 vae->encoder.in_channels, vae->encoder.out_channels, z, vae->decoder.out_channels, layout);
    vae->latent_channels = z;
    vae->factor = 1 << (vae->decoder.levels - 1);
    if (tsr__load_has(&loader, "quant_conv.weight"))
        TSR_TRY(tsr__load_linear(&loader, &vae->quant, 2 * z, 2 * z, TSR__WITH_BIAS, "quant_conv", err));
    if (tsr__load_has(&loader, "post_quant_conv.weight"))
        TSR_TRY(tsr__load_linear(&loader, &vae->post_quant, z, z, TSR__WITH_BIAS, "post_quant_conv", err));
done:
    return status;
}
