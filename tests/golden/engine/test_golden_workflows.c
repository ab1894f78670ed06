/* ComfyUI workflows of tests/golden/data/workflows (ksampler_*, regional_*, adapters excepted), node by node through the
 * library, against the latents that ComfyUI saved. float32, the tolerances of index.json.
 *
 * The evaluation of nodes here is a test's: it knows the few nodes of these files and trusts them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_file.h"
#include "tessera/tessera.h"

#define CHECKPOINT TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"
enum { MOST_NODES = 64, MOST_REGIONS = 8 };

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

typedef struct provider { /* KSamplerAdvancedProvider */
    tsr_guide guide;
    const char *sampler, *scheduler;
    float sigma_factor;
} provider;

/* What a node gave; only the fields of its type are set. */
typedef struct value {
    const char *id;
    tsr_latent *latent; /* owned */
    tsr_mask *mask;     /* owned */
    const void *cond;
    const void *positive, *negative; /* basic pipe */
    provider sampler;
    tsr_region regions[MOST_REGIONS];
    int region_count;
} value;

typedef struct workflow {
    json_t *nodes;
    tsr_engine *engine;
    const tsr_denoiser *denoiser;
    value values[MOST_NODES];
    int count;
} workflow;

static const char *only = ""; /* part of a name, from the command line: runs those cases alone */
static tsr_engine *engine;    /* shared by all cases: opening costs more than most of them */

/* --- inputs ------------------------------------------------------------------------------------------------------------- */
static value *evaluate(workflow *w, const char *id);

static json_t *raw(json_t *inputs, const char *name) {
    json_t *input = json_object_get(inputs, name);
    if (!input) fail_msg("input %s is missing", name);
    return input;
}
static double number(json_t *inputs, const char *name) {
    json_t *input = raw(inputs, name);
    return json_is_true(input) ? 1 : json_number_value(input);
}
static int whole(json_t *inputs, const char *name) {
    return (int)number(inputs, name);
}
static const char *text(json_t *inputs, const char *name) {
    return json_string_value(raw(inputs, name));
}
static int enabled(json_t *inputs, const char *name) {
    return json_is_string(raw(inputs, name)) ? strcmp(text(inputs, name), "enable") == 0 : whole(inputs, name);
}
static value *link_of(workflow *w, json_t *inputs, const char *name) {
    return evaluate(w, json_string_value(json_array_get(raw(inputs, name), 0)));
}
/* Integers were read as doubles, because the largest seed is beyond Jansson's integers; the files hold no other seed
 * above 2^53. */
static uint64_t seed_of(json_t *inputs, const char *name) {
    double seed = number(inputs, name);
    return seed >= 18446744073709551615.0 ? UINT64_MAX : (uint64_t)seed;
}

/* --- nodes -------------------------------------------------------------------------------------------------------------- */
static void checkpoint(workflow *w, json_t *in, value *out) {
    (void)out;
    assert_string_equal(text(in, "ckpt_name"), "golden-sd1.safetensors");
    OK(tsr_engine_denoiser(&w->denoiser, w->engine, &err));
}
static void clip_text(workflow *w, json_t *in, value *out) {
    (void)link_of(w, in, "clip");
    OK(tsr_engine_encode_prompt(&out->cond, w->engine, text(in, "text"), 1, &err));
}
static void empty_latent(workflow *w, json_t *in, value *out) {
    (void)w;
    OK(tsr_latent_new(&out->latent, whole(in, "batch_size"), 4, whole(in, "height") / 8, whole(in, "width") / 8, &err));
}
static void solid_mask(workflow *w, json_t *in, value *out) {
    (void)w;
    OK(tsr_mask_new(&out->mask, whole(in, "width"), whole(in, "height"), (float)number(in, "value"), &err));
}
static void mask_composite(workflow *w, json_t *in, value *out) {
    assert_string_equal(text(in, "operation"), "add");
    OK(tsr_mask_copy(&out->mask, link_of(w, in, "destination")->mask, &err));
    OK(tsr_mask_composite(out->mask, link_of(w, in, "source")->mask, whole(in, "x"), whole(in, "y"), TSR_MASK_ADD,
                          &err));
}
static void feather_mask(workflow *w, json_t *in, value *out) {
    OK(tsr_mask_copy(&out->mask, link_of(w, in, "mask")->mask, &err));
    OK(tsr_mask_feather_edges(out->mask, whole(in, "left"), whole(in, "top"), whole(in, "right"), whole(in, "bottom"),
                              &err));
}
static void set_noise_mask(workflow *w, json_t *in, value *out) {
    OK(tsr_latent_copy(&out->latent, link_of(w, in, "samples")->latent, &err));
    tsr_mask_free(out->latent->noise_mask);
    out->latent->noise_mask = NULL;
    OK(tsr_mask_copy(&out->latent->noise_mask, link_of(w, in, "mask")->mask, &err));
}
static void basic_pipe(workflow *w, json_t *in, value *out) {
    (void)link_of(w, in, "model");
    out->positive = link_of(w, in, "positive")->cond;
    out->negative = link_of(w, in, "negative")->cond;
}
static void advanced_provider(workflow *w, json_t *in, value *out) {
    const value *pipe = link_of(w, in, "basic_pipe");
    const tsr_guide guide = { w->denoiser, pipe->positive, pipe->negative, (float)number(in, "cfg") };
    out->sampler.guide = guide;
    out->sampler.sampler = text(in, "sampler_name");
    out->sampler.scheduler = text(in, "scheduler");
    out->sampler.sigma_factor = (float)number(in, "sigma_factor");
}
static void regional_prompt(workflow *w, json_t *in, value *out) {
    const provider *sampler = &link_of(w, in, "advanced_sampler")->sampler;
    const tsr_region fresh = TSR_REGION_INIT;
    tsr_region *region = &out->regions[out->region_count++];
    *region = fresh;
    region->mask = link_of(w, in, "mask")->mask;
    region->guide = sampler->guide;
    region->sampler = sampler->sampler;
    region->scheduler = sampler->scheduler;
    region->sigma_factor = sampler->sigma_factor;
    if (!json_object_get(in, "variation_seed")) return;
    region->variation_seed = seed_of(in, "variation_seed");
    region->variation_strength = (float)number(in, "variation_strength");
    region->variation_method = (tsr_variation_method)tsr_variation_method_find(text(in, "variation_method"));
}
static void combine_prompts(workflow *w, json_t *in, value *out) {
    for (int i = 1;; i++) {
        char name[32];
        snprintf(name, sizeof name, "regional_prompts%d", i);
        if (!json_object_get(in, name)) break;
        const value *part = link_of(w, in, name);
        for (int k = 0; k < part->region_count; k++) out->regions[out->region_count++] = part->regions[k];
    }
    assert_true(out->region_count >= 1 && out->region_count <= MOST_REGIONS);
}
static tsr_guide guide_of(workflow *w, json_t *in) {
    (void)link_of(w, in, "model");
    const tsr_guide guide = { w->denoiser, link_of(w, in, "positive")->cond, link_of(w, in, "negative")->cond,
                              (float)number(in, "cfg") };
    return guide;
}
static void ksampler(workflow *w, json_t *in, value *out) {
    const tsr_guide guide = guide_of(w, in);
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    options.sampler = text(in, "sampler_name");
    options.scheduler = text(in, "scheduler");
    options.steps = whole(in, "steps");
    options.denoise = number(in, "denoise");
    options.seed = seed_of(in, "seed");
    OK(tsr_ksampler(&out->latent, link_of(w, in, "latent_image")->latent, &guide, &options, &err));
}
static void ksampler_advanced(workflow *w, json_t *in, value *out) {
    const tsr_guide guide = guide_of(w, in);
    tsr_ksampler_advanced_options options = TSR_KSAMPLER_ADVANCED_OPTIONS_INIT;
    options.sampler = text(in, "sampler_name");
    options.scheduler = text(in, "scheduler");
    options.steps = whole(in, "steps");
    options.start_step = whole(in, "start_at_step");
    options.end_step = whole(in, "end_at_step");
    options.seed = seed_of(in, "noise_seed");
    options.add_noise = enabled(in, "add_noise");
    options.leftover_noise = enabled(in, "return_with_leftover_noise");
    OK(tsr_ksampler_advanced(&out->latent, link_of(w, in, "latent_image")->latent, &guide, &options, &err));
}
/* The inputs that both regional nodes have, and the run. */
static void run_regions(workflow *w, json_t *in, tsr_regional_options *options, const tsr_latent *latent, value *out) {
    const provider *base_sampler = &link_of(w, in, "base_sampler")->sampler;
    const value *prompts = link_of(w, in, "regional_prompts");
    tsr_region_base base = TSR_REGION_BASE_INIT;
    tsr_plan *plan = NULL;
    base.guide = base_sampler->guide;
    base.sampler = base_sampler->sampler;
    base.scheduler = base_sampler->scheduler;
    base.sigma_factor = base_sampler->sigma_factor;
    options->history = TSR_HISTORY_RESTART;
    options->steps = whole(in, "steps");
    options->overlap = whole(in, "overlap_factor");
    options->restore_latent = whole(in, "restore_latent");
    options->recovery_mode = (tsr_recovery_mode)tsr_recovery_mode_find(text(in, "additional_mode"));
    options->recovery_sampler = text(in, "additional_sampler");
    options->recovery_ratio = (float)number(in, "additional_sigma_ratio");
    OK(tsr_plan_new(&plan, &base, prompts->regions, prompts->region_count, options, latent->shape, &err));
    OK(tsr_plan_run(&out->latent, plan, latent, NULL, &err));
    tsr_plan_free(plan);
}
static void regional_sampler(workflow *w, json_t *in, value *out) {
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    options.system = TSR_SYSTEM_REGIONAL;
    options.seed = seed_of(in, "seed");
    options.seed_2nd = seed_of(in, "seed_2nd");
    options.seed_2nd_mode = (tsr_seed_2nd_mode)tsr_seed_2nd_mode_find(text(in, "seed_2nd_mode"));
    options.base_only_steps = whole(in, "base_only_steps");
    options.denoise = number(in, "denoise");
    run_regions(w, in, &options, link_of(w, in, "samples")->latent, out);
}
static void regional_sampler_advanced(workflow *w, json_t *in, value *out) {
    tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    options.system = TSR_SYSTEM_REGIONAL_ADVANCED;
    options.seed = seed_of(in, "noise_seed");
    options.add_noise = whole(in, "add_noise");
    options.start_step = whole(in, "start_at_step");
    options.end_step = whole(in, "end_at_step");
    options.leftover_noise = whole(in, "return_with_leftover_noise");
    run_regions(w, in, &options, link_of(w, in, "latent_image")->latent, out);
}
static void save_latent(workflow *w, json_t *in, value *out) {
    OK(tsr_latent_copy(&out->latent, link_of(w, in, "samples")->latent, &err));
}

static const struct node {
    const char *type;
    void (*run)(workflow *w, json_t *inputs, value *out);
} node_types[] = {
    { "CheckpointLoaderSimple", checkpoint },
    { "CLIPTextEncode", clip_text },
    { "EmptyLatentImage", empty_latent },
    { "SolidMask", solid_mask },
    { "MaskComposite", mask_composite },
    { "FeatherMask", feather_mask },
    { "SetLatentNoiseMask", set_noise_mask },
    { "ToBasicPipe", basic_pipe },
    { "KSamplerAdvancedProvider", advanced_provider },
    { "RegionalPrompt", regional_prompt },
    { "CombineRegionalPrompts", combine_prompts },
    { "KSampler", ksampler },
    { "KSamplerAdvanced", ksampler_advanced },
    { "RegionalSampler", regional_sampler },
    { "RegionalSamplerAdvanced", regional_sampler_advanced },
    { "SaveLatent", save_latent },
};

static value *evaluate(workflow *w, const char *id) {
    for (int i = 0; i < w->count; i++)
        if (strcmp(w->values[i].id, id) == 0) return &w->values[i];
    json_t *node = json_object_get(w->nodes, id);
    const char *type = text(node, "class_type");
    value made = { .id = id };
    for (size_t i = 0; i < sizeof node_types / sizeof *node_types; i++) {
        if (strcmp(node_types[i].type, type) != 0) continue;
        node_types[i].run(w, json_object_get(node, "inputs"), &made);
        assert_true(w->count < MOST_NODES);
        w->values[w->count] = made;
        return &w->values[w->count++];
    }
    fail_msg("node type %s is not known to this test", type);
    return NULL;
}

/* --- cases -------------------------------------------------------------------------------------------------------------- */
/* A sampler that the workflow names and the library lacks, or NULL. */
static const char *missing_sampler(json_t *nodes) {
    static const char *const keys[] = { "sampler_name", "additional_sampler" };
    const char *id = NULL;
    json_t *node = NULL;
    json_object_foreach(nodes, id, node) {
        for (int i = 0; i < 2; i++) {
            const char *name = json_string_value(json_object_get(json_object_get(node, "inputs"), keys[i]));
            if (name && strcmp(name, "AUTO") != 0 && tsr_sampler_find(name) < 0) return name;
        }
    }
    return NULL;
}

/* The samplers that this library promises; a case that needs another may be left out. */
static int is_promised(const char *name) {
    static const char *const promised[] = {
        "euler", "euler_ancestral", "heun",   "dpm_2", "dpmpp_2s_ancestral", "dpmpp_2m", "dpmpp_sde", "dpmpp_2m_sde",
        "ddim",  "dpmpp_3m_sde",    "uni_pc", "lcm"
    };
    for (size_t i = 0; i < sizeof promised / sizeof *promised; i++)
        if (strcmp(promised[i], name) == 0) return 1;
    return 0;
}

static const char *last_node(json_t *nodes) {
    const char *id = NULL, *found = NULL;
    json_t *node = NULL;
    json_object_foreach(nodes, id, node) {
        if (strcmp(text(node, "class_type"), "SaveLatent") == 0) found = id;
    }
    assert_non_null(found);
    return found;
}

/* Runs one case and prints its line; 1 when it is within its tolerances. */
static int compare(const char *name, json_t *nodes, json_t *tolerances) {
    static workflow w;
    char path[160];
    memset(&w, 0, sizeof w);
    w.nodes = nodes;
    w.engine = engine;
    const value *result = evaluate(&w, last_node(nodes));
    snprintf(path, sizeof path, "workflows/%s.latent", name);
    golden_file *golden = golden_open(path);
    golden_tensor expected = golden_get(golden, "latent_tensor");
    assert_int_equal(expected.count, tsr_latent_count(result->latent));
    double rms = rms_diff(result->latent->values, expected.data, expected.count);
    double most = max_abs_diff(result->latent->values, expected.data, expected.count);
    double rms_tol = json_number_value(json_object_get(tolerances, "rms_tol"));
    double max_tol = json_number_value(json_object_get(tolerances, "max_tol"));
    int good = rms <= rms_tol && most <= max_tol;
    print_message("%-44s rms %.2e (%.0e)  max %.2e (%.0e)%s\n", name, rms, rms_tol, most, max_tol,
                  good ? "" : "  FAIL");
    golden_close(golden);
    for (int i = 0; i < w.count; i++) {
        tsr_latent_free(w.values[i].latent);
        tsr_mask_free(w.values[i].mask);
    }
    return good;
}

static void run_family(const char *prefix, int at_least) {
    json_t *index = golden_json("workflows/index.json"), *tolerances = NULL;
    const char *name = NULL;
    int run = 0, failed = 0, left_out = 0;
    json_object_foreach(index, name, tolerances) {
        char path[1024];
        if (strncmp(name, prefix, strlen(prefix)) != 0 || strstr(name, "lora") || !strstr(name, only)) continue;
        snprintf(path, sizeof path, "%s/workflows/%s.json", TSR_GOLDEN_DIR, name);
        json_t *nodes = json_load_file(path, JSON_DECODE_INT_AS_REAL, NULL);
        assert_non_null(nodes);
        const char *missing = missing_sampler(nodes);
        if (missing) {
            print_message("%-44s not run: no sampler %s\n", name, missing);
            assert_false(is_promised(missing));
            left_out++;
        } else {
            failed += !compare(name, nodes, tolerances);
            run++;
        }
        json_decref(nodes);
    }
    json_decref(index);
    print_message("%s*: %d run, %d failed, %d not run\n", prefix, run, failed, left_out);
    if (!*only) assert_true(run >= at_least);
    assert_int_equal(failed, 0);
}

static void workflows__ksampler_equals_comfyui(void **state) {
    (void)state;
    run_family("ksampler_", 30);
}
static void workflows__regional_equals_comfyui(void **state) {
    (void)state;
    run_family("regional_", 55);
}

static int open_engine(void **state) {
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    options.model = CHECKPOINT;
    options.precision = TSR_PRECISION_F32;
    if (tsr_engine_open(&engine, &options, &err) == TSR_OK) return 0;
    print_error("%s\n", err.message);
    return -1;
}
static int close_engine(void **state) {
    (void)state;
    tsr_engine_close(engine);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1) only = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workflows__ksampler_equals_comfyui),
        cmocka_unit_test(workflows__regional_equals_comfyui),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
