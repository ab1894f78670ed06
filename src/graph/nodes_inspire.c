/* graph/nodes_inspire.c - the Inspire Pack's regional prompts: a pipe, a text and a mask to a region. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "graph/graph_priv.h"

static const char *const variation_methods[] = { "linear", "slerp", NULL };
#define REGION_INPUTS                                                                                                  \
    TSR__FLOAT("cfg", 8.0, 0.0, 100.0, 0.1, "Guidance."),                                                              \
        TSR__COMBO_FROM("sampler_name", tsr__choices_samplers, "euler", "The sampler."),                               \
        TSR__COMBO_FROM("scheduler", tsr__choices_impact_schedulers, "normal", "The scheduler."),                      \
        TSR__STRING("wildcard_prompt", TSR__IN_MULTILINE, "",                                                          \
                    "The region's prompt, in place of the pipe's; empty: the pipe's. Takes <lora:name:0.8>, BREAK "    \
                    "and {a|b}."),                                                                                     \
        TSR__BOOL("controlnet_in_pipe", 0, "Not read: ControlNet is not supported."),                                  \
        TSR__FLOAT("sigma_factor", 1.0, 0.0, 10.0, 0.01, "Multiplies every sigma of the region's calls."),             \
        { "variation_seed",                                                                                            \
          TSR__V_INT,                                                                                                  \
          TSR__IN_SEED | TSR__IN_OPTIONAL,                                                                             \
          0,                                                                                                           \
          0,                                                                                                           \
          18446744073709551615.0,                                                                                      \
          1,                                                                                                           \
          NULL,                                                                                                        \
          NULL,                                                                                                        \
          NULL,                                                                                                        \
          "Seed of the noise mixed in." },                                                                             \
        TSR__FLOAT_OPT("variation_strength", 0.0, 0.0, 1.0, 0.01, "How much of it."),                                  \
        TSR__COMBO_OPT("variation_method", variation_methods, NULL, "How the noises are mixed.")

static const tsr__input simple_inputs[] = {
    TSR__LINK("basic_pipe", BASIC_PIPE, "Model, text encoder and conditionings."),
    TSR__LINK("mask", MASK, "Where the region is."),
    REGION_INPUTS,
    TSR__END,
};

static const tsr__input color_inputs[] = {
    TSR__LINK("basic_pipe", BASIC_PIPE, "Model, text encoder and conditionings."),
    TSR__LINK("color_mask", IMAGE, "A picture whose colours are regions."),
    TSR__STRING("mask_color", 0, "#FFFFFF", "The region's colour: #RRGGBB, a name of CSS or a decimal number."),
    REGION_INPUTS,
    TSR__END,
};

/* The pipe with the region's own prompt, and with what its tags add to the model. */
static tsr_status region_pipe(tsr__value **out, tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *pipe = tsr__arg(call->in, "basic_pipe");
    tsr__args old = tsr__record(pipe);
    const char *prompt = tsr__arg_text(call->in, "wildcard_prompt");
    *out = NULL;
    if (!*prompt) {
        *out = tsr__value_ref(pipe);
        return TSR_OK;
    }
    tsr__value *positive = NULL, *model = tsr__value_ref(tsr__arg(old, "model")),
               *clip = tsr__value_ref(tsr__arg(old, "clip"));
    TSR_TRY(tsr__wildcard_encode(&positive, &model, &clip, call->graph, prompt, err));
    const tsr__named_value parts[] = { { "model", model },
                                       { "clip", clip },
                                       { "vae", tsr__arg(old, "vae") },
                                       { "positive", positive },
                                       { "negative", tsr__arg(old, "negative") } };
    TSR_TRY(tsr__make_record(out, TSR__V_BASIC_PIPE, "ToBasicPipe", parts, 5, err));
done:
    tsr__value_unref(positive);
    tsr__value_unref(model);
    tsr__value_unref(clip);
    return status;
}

static tsr_status give_region(tsr__call *call, tsr__value *mask, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__value *pipe = NULL, *sampler = NULL, *record = NULL;
    TSR_TRY(region_pipe(&pipe, call, err));
    const tsr__named_value sampling[] = { { "cfg", tsr__arg(call->in, "cfg") },
                                          { "sampler_name", tsr__arg(call->in, "sampler_name") },
                                          { "scheduler", tsr__arg(call->in, "scheduler") },
                                          { "sigma_factor", tsr__arg(call->in, "sigma_factor") },
                                          { "basic_pipe", pipe } };
    TSR_TRY(tsr__make_record(&sampler, TSR__V_KSAMPLER_ADVANCED, "KSamplerAdvancedProvider", sampling, 5, err));
    const tsr__named_value region[] = { { "mask", mask },
                                        { "advanced_sampler", sampler },
                                        { "variation_seed", tsr__arg(call->in, "variation_seed") },
                                        { "variation_strength", tsr__arg(call->in, "variation_strength") },
                                        { "variation_method", tsr__arg(call->in, "variation_method") } };
    TSR_TRY(tsr__make_record(&record, TSR__V_REGIONAL_PROMPTS, "RegionalPrompt", region, 5, err));
    TSR_TRY(tsr__value_parts(&call->results[0], TSR__V_REGIONAL_PROMPTS, NULL, &record, 1, err));
done:
    tsr__value_unref(pipe);
    tsr__value_unref(sampler);
    tsr__value_unref(record);
    return status;
}

static tsr_status run_simple(tsr__call *call, tsr_error *err) {
    return give_region(call, tsr__arg(call->in, "mask"), err);
}

/* The node's own rule: # and hex digits (all of them one number: "#f00" is 0x000f00), a name of CSS, or a decimal number. */
static tsr_status parse_color(unsigned *out, const char *text, tsr_error *err) {
    static const struct {
        const char *name;
        unsigned rgb;
    } colors[] = {
#include "graph/css_colors.inc"
    };
    char *end = NULL;
    *out = 0;
    if (isalpha((unsigned char)*text)) {
        for (size_t i = 0; i < sizeof colors / sizeof *colors; i++) {
            if (strcasecmp(colors[i].name, text) != 0) continue;
            *out = colors[i].rgb;
            return TSR_OK;
        }
    } else {
        const char *digits = text + (*text == '#');
        unsigned long value = strtoul(digits, &end, *text == '#' ? 16 : 10);
        if (isxdigit((unsigned char)*digits) && !*end && value <= 0xFFFFFF) {
            *out = (unsigned)value;
            return TSR_OK;
        }
    }
    return tsr__fail(err, TSR_BAD_ARGUMENT, "mask_color: '%.40s' is no colour; write #RRGGBB, a name or a number",
                     text);
}

static tsr_status run_color(tsr__call *call, tsr_error *err) {
    unsigned rgb = 0;
    tsr_status status = parse_color(&rgb, tsr__arg_text(call->in, "mask_color"), err);
    if (status == TSR_OK)
        status = tsr__color_masks(&call->results[1], &tsr__arg(call->in, "color_mask")->pictures, rgb, err);
    return status == TSR_OK ? give_region(call, call->results[1], err) : status;
}

static const tsr__node rows[] = {
    { "RegionalPromptSimple //Inspire",
      "Regional Prompt Simple (Inspire)",
      "InspirePack/Regional",
      simple_inputs,
      { { "REGIONAL_PROMPTS", TSR__V_REGIONAL_PROMPTS } },
      0,
      run_simple,
      "A region from a pipe, a prompt and a mask." },
    { "RegionalPromptColorMask //Inspire",
      "Regional Prompt By Color Mask (Inspire)",
      "InspirePack/Regional",
      color_inputs,
      { { "REGIONAL_PROMPTS", TSR__V_REGIONAL_PROMPTS }, { "MASK", TSR__V_MASK } },
      0,
      run_color,
      "A region from a pipe, a prompt and a colour of a picture." },
};
const tsr__node_group tsr__nodes_inspire = { rows, sizeof rows / sizeof *rows, "custom_nodes.ComfyUI-Inspire-Pack" };
