/* Telling files apart by their keys, and the line an SDXL file gets where SD1 is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/checkpoint_kind.h"

#define UNET_KEY "model.diffusion_model.input_blocks.0.0.weight"
#define CLIP_KEY "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
#define VAE_KEY  "first_stage_model.decoder.conv_in.weight"

/* Weights whose only content is these names, each a [2, 3] float tensor. Close, then free *bytes. */
static tsr__weights *make_weights(unsigned char **bytes, const char *const *names) {
    char header[4096] = "{";
    size_t used = 1;
    for (int i = 0; names[i]; i++) {
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[%d,%d]}", i ? "," : "",
                                 names[i], 24 * i, 24 * (i + 1));
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    assert_true(used < sizeof header);
    *bytes = calloc(1, 8 + used + 24 * 16);
    assert_non_null(*bytes);
    for (int i = 0; i < 8; i++) (*bytes)[i] = (unsigned char)((uint64_t)used >> 8 * i & 0xff);
    memcpy(*bytes + 8, header, used);
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__weights_open_memory(&weights, *bytes, 8 + used + 24 * 16, &err) != TSR_OK) fail_msg("%s", err.message);
    return weights;
}

static void describe__tells_kinds_apart(void **state) {
    (void)state;
    static const struct {
        tsr__checkpoint_kind kind;
        const char *names[5];
    } cases[] = {
        { TSR_CHECKPOINT_SD1, { UNET_KEY, CLIP_KEY, VAE_KEY } },
        { TSR_CHECKPOINT_SD1, { UNET_KEY } },
        { TSR_CHECKPOINT_SD2, { UNET_KEY, "cond_stage_model.model.ln_final.weight", VAE_KEY } },
        { TSR_CHECKPOINT_SDXL,
          { UNET_KEY, "model.diffusion_model.label_emb.0.0.weight", "conditioner.embedders.1.model.ln_final.weight" } },
        { TSR_CHECKPOINT_SDXL, { UNET_KEY, "model.diffusion_model.label_emb.0.0.weight" } },
        { TSR_CHECKPOINT_SD3, { "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", VAE_KEY } },
        { TSR_CHECKPOINT_FLUX, { "double_blocks.0.img_attn.qkv.weight" } },
        { TSR_CHECKPOINT_LDM_UNET, { "input_blocks.0.0.weight" } },
        { TSR_CHECKPOINT_DIFFUSERS_UNET, { "conv_in.weight", "down_blocks.0.resnets.0.conv1.weight" } },
        { TSR_CHECKPOINT_CONTROLNET, { "control_model.input_blocks.0.0.weight" } },
        { TSR_CHECKPOINT_LORA, { "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight" } },
        { TSR_CHECKPOINT_LORA, { "transformer.double_blocks.0.img_attn.lora_A.weight" } },
        { TSR_CHECKPOINT_LORA, { "lora_unet_input_blocks_4_1_proj_in.hada_w1_a" } },
        { TSR_CHECKPOINT_VAE, { "decoder.mid.attn_1.k.weight", "encoder.conv_in.weight" } },
        { TSR_CHECKPOINT_VAE, { VAE_KEY } },
        { TSR_CHECKPOINT_TEXT_ENCODER, { "text_model.encoder.layers.0.mlp.fc1.weight" } },
        { TSR_CHECKPOINT_TEXT_ENCODER, { "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight" } },
        { TSR_CHECKPOINT_UPSCALER, { "body.0.rdb1.conv1.weight" } },
        { TSR_CHECKPOINT_LATENT, { "latent_tensor", "latent_format_version_0" } },
        { TSR_CHECKPOINT_EMBEDDING, { "emb_params" } },
        { TSR_CHECKPOINT_UNKNOWN, { "something.weight" } },
        { TSR_CHECKPOINT_UNKNOWN, { NULL } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char *bytes;
        tsr__weights *weights = make_weights(&bytes, cases[i].names);
        tsr__checkpoint_info info;
        tsr__checkpoint_describe(&info, weights);
        if (info.kind != cases[i].kind)
            fail_msg("%s ...: %s, expected %s", cases[i].names[0] ? cases[i].names[0] : "(nothing)",
                     tsr__checkpoint_kind_name(info.kind), tsr__checkpoint_kind_name(cases[i].kind));
        tsr__weights_close(weights);
        free(bytes);
    }
}

static void describe__counts_the_golden_checkpoint(void **state) {
    (void)state;
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr__checkpoint_info info;
    assert_int_equal(tsr__weights_open(&weights, TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors", &err), TSR_OK);
    tsr__checkpoint_describe(&info, weights);
    assert_int_equal(info.kind, TSR_CHECKPOINT_SD1);
    assert_string_equal(info.missing, "");
    assert_int_equal(info.tensors, tsr__weights_count(weights));
    assert_int_equal(info.unet_in_channels, 4);
    assert_int_equal(info.vae_channels, 4);
    assert_int_equal(info.text_width, 128);
    assert_int_equal(info.context_width, 128);
    size_t tensors = 0;
    int64_t parameters = 0;
    for (int i = 0; i < TSR_PART_COUNT_; i++) {
        tensors += info.parts[i].tensors;
        parameters += info.parts[i].parameters;
        if (i != TSR_PART_OTHER) assert_true(info.parts[i].tensors > 50);
    }
    assert_int_equal(tensors, info.tensors);
    assert_int_equal(parameters, info.parameters);
    assert_true(info.dtypes[TSR_DTYPE_F16] > 700);
    tsr__weights_close(weights);
}

static void expect_missing(const char *const *names, tsr__checkpoint_kind kind, const char *missing) {
    unsigned char *bytes;
    tsr__weights *weights = make_weights(&bytes, names);
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, weights);
    assert_int_equal(info.kind, kind);
    assert_string_equal(info.missing, missing);
    tsr__weights_close(weights);
    free(bytes);
}

static void describe__says_what_is_missing(void **state) {
    (void)state;
    const char *const sdxl[] = { UNET_KEY, "conditioner.embedders.1.model.ln_final.weight", VAE_KEY, NULL };
    const char *const no_vae[] = { UNET_KEY, CLIP_KEY, NULL };
    const char *const no_text[] = { UNET_KEY, VAE_KEY, NULL };
    expect_missing(sdxl, TSR_CHECKPOINT_SDXL, "");
    expect_missing(no_vae, TSR_CHECKPOINT_SD1, "no first_stage_model.*: VAE");
    expect_missing(no_text, TSR_CHECKPOINT_SD1, "no cond_stage_model.* or conditioner.*: text encoder");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describe__tells_kinds_apart),
        cmocka_unit_test(describe__counts_the_golden_checkpoint),
        cmocka_unit_test(describe__says_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
