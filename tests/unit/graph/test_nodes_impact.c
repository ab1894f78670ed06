/* test_nodes_impact.c - the Impact Pack's KSamplers with a pipe against ComfyUI's own, and regional runs of one step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "golden_file.h"
#include "tessera/graph.h"

static tsr_graph *graph;

static int set_up(void **state) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    (void)state;
    options.models = TSR_GOLDEN_DIR;
    options.precision = TSR_PRECISION_F32;
    return tsr_graph_open(&graph, &options, NULL) != TSR_OK;
}

static int tear_down(void **state) {
    (void)state;
    tsr_graph_close(graph);
    return 0;
}

#define START                                                                                                          \
    "{'1':{'class_type':'CheckpointLoaderSimple','inputs':{'ckpt_name':'golden-sd1.safetensors'}},"                    \
    "'2':{'class_type':'CLIPTextEncode','inputs':{'clip':['1',1],'text':'a cat'}},"                                    \
    "'3':{'class_type':'CLIPTextEncode','inputs':{'clip':['1',1],'text':''}},"                                         \
    "'4':{'class_type':'EmptyLatentImage','inputs':{'width':64,'height':64,'batch_size':1}},"                          \
    "'5':{'class_type':'ToBasicPipe','inputs':{'model':['1',0],'clip':['1',1],'vae':['1',2],'positive':['2',0],"       \
    "'negative':['3',0]}},"
#define SAVE(id, slot)                                                                                                 \
    ",'9':{'class_type':'SaveLatent','inputs':{'samples':['" id "'," slot "],'filename_prefix':'x'}}}"

/* The latent that a workflow in single quotes saves; the caller frees it. */
static tsr_latent *latent_of(const char *quoted) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    tsr_workflow_outputs *outputs = NULL;
    char text[6000];
    snprintf(text, sizeof text, "%s", quoted);
    for (char *at = text; *at; at++)
        if (*at == '\'') *at = '"';
    if (tsr_workflow_load_memory(&workflow, text, strlen(text), &err) != TSR_OK) fail_msg("%s", err.message);
    if (tsr_workflow_run(&outputs, graph, workflow, NULL, &err) != TSR_OK) fail_msg("%s", err.message);
    tsr_latent *latent = outputs->items[0].latent;
    outputs->items[0].latent = NULL;
    tsr_workflow_outputs_free(outputs);
    tsr_workflow_free(workflow);
    return latent;
}

static void expect_equal(const char *a, const char *b, double limit) {
    tsr_latent *x = latent_of(a), *y = latent_of(b);
    assert_int_equal(tsr_latent_count(x), tsr_latent_count(y));
    double worst = max_abs_diff(x->values, y->values, tsr_latent_count(x));
    if (!(worst <= limit)) fail_msg("they differ by %g", worst);
    tsr_latent_free(x);
    tsr_latent_free(y);
}

/* Euler's last step gives the last prediction itself, so both packs' rules for the result agree. */
static void pipe_ksamplers__equal_ksampler(void **state) {
    (void)state;
    expect_equal(START "'6':{'class_type':'KSampler','inputs':{'model':['1',0],'seed':7,'steps':4,'cfg':5,"
                       "'sampler_name':'euler','scheduler':'karras','positive':['2',0],'negative':['3',0],"
                       "'latent_image':['4',0],'denoise':0.6}}" SAVE("6", "0"),
                 START "'6':{'class_type':'ImpactKSamplerBasicPipe','inputs':{'basic_pipe':['5',0],'seed':7,'steps':4,"
                       "'cfg':5,'sampler_name':'euler','scheduler':'karras','latent_image':['4',0],"
                       "'denoise':0.6}}" SAVE("6", "1"),
                 1e-5);
    expect_equal(START "'6':{'class_type':'KSamplerAdvanced','inputs':{'model':['1',0],'add_noise':'enable',"
                       "'noise_seed':7,'steps':6,'cfg':5,'sampler_name':'euler','scheduler':'normal',"
                       "'positive':['2',0],'negative':['3',0],'latent_image':['4',0],'start_at_step':1,"
                       "'end_at_step':4,'return_with_leftover_noise':'enable'}}" SAVE("6", "0"),
                 START "'6':{'class_type':'ImpactKSamplerAdvancedBasicPipe','inputs':{'basic_pipe':['5',0],"
                       "'add_noise':true,'noise_seed':7,'steps':6,'cfg':5,'sampler_name':'euler',"
                       "'scheduler':'normal','latent_image':['4',0],'start_at_step':1,'end_at_step':4,"
                       "'return_with_leftover_noise':true}}" SAVE("6", "1"),
                 1e-5);
}

#define REGIONAL(sampler)                                                                                              \
    START "'6':{'class_type':'KSamplerAdvancedProvider','inputs':{'cfg':5,'sampler_name':'" sampler                    \
          "','scheduler':'normal','sigma_factor':1,'basic_pipe':['5',0]}},"                                            \
          "'7':{'class_type':'SolidMask','inputs':{'value':1,'width':64,'height':64}},"                                \
          "'8':{'class_type':'RegionalPrompt','inputs':{'mask':['7',0],'advanced_sampler':['6',0]}},"                  \
          "'10':{'class_type':'RegionalSampler','inputs':{'seed':7,'seed_2nd':0,'seed_2nd_mode':'ignore','steps':1,"   \
          "'base_only_steps':1,'denoise':1,'samples':['4',0],'base_sampler':['6',0],'regional_prompts':['8',0],"       \
          "'overlap_factor':0,'restore_latent':true,'additional_mode':'DISABLE','additional_sampler':'AUTO',"          \
          "'additional_sigma_ratio':0.3}}" SAVE("10", "0")

/* One step that only the base takes: a KSampler of one step. */
static void regional__of_one_base_step_is_a_ksampler(void **state) {
    (void)state;
    expect_equal(START "'6':{'class_type':'KSampler','inputs':{'model':['1',0],'seed':7,'steps':1,'cfg':5,"
                       "'sampler_name':'euler','scheduler':'normal','positive':['2',0],'negative':['3',0],"
                       "'latent_image':['4',0],'denoise':1}}" SAVE("6", "0"),
                 REGIONAL("euler"), 1e-5);
}

/* Two regions on each other: the later one covers the earlier. */
#define COMBINED(links)                                                                                                \
    START "'6':{'class_type':'KSamplerAdvancedProvider','inputs':{'cfg':5,'sampler_name':'euler',"                     \
          "'scheduler':'normal','sigma_factor':1,'basic_pipe':['5',0]}},"                                              \
          "'12':{'class_type':'KSamplerAdvancedProvider','inputs':{'cfg':1,'sampler_name':'euler',"                    \
          "'scheduler':'normal','sigma_factor':1,'basic_pipe':['5',0]}},"                                              \
          "'7':{'class_type':'SolidMask','inputs':{'value':1,'width':64,'height':64}},"                                \
          "'8':{'class_type':'RegionalPrompt','inputs':{'mask':['7',0],'advanced_sampler':['6',0]}},"                  \
          "'13':{'class_type':'RegionalPrompt','inputs':{'mask':['7',0],'advanced_sampler':['12',0]}},"                \
          "'14':{'class_type':'CombineRegionalPrompts','inputs':{" links "}},"                                         \
          "'10':{'class_type':'RegionalSampler','inputs':{'seed':7,'seed_2nd':0,'seed_2nd_mode':'ignore','steps':2,"   \
          "'base_only_steps':1,'denoise':1,'samples':['4',0],'base_sampler':['6',0],'regional_prompts':['14',0],"      \
          "'overlap_factor':0,'restore_latent':true,'additional_mode':'DISABLE','additional_sampler':'AUTO',"          \
          "'additional_sigma_ratio':0.3}}" SAVE("10", "0")

/* Python takes keyword arguments in the order in which the workflow names them, not in that of their numbers. */
static void combined_regions__keep_the_workflow_s_order(void **state) {
    static const char in_order[] = COMBINED("'regional_prompts1':['8',0],'regional_prompts2':['13',0]");
    tsr_latent *x, *y;
    (void)state;
    expect_equal(in_order, COMBINED("'regional_prompts2':['8',0],'regional_prompts1':['13',0]"), 0.0);
    expect_equal(COMBINED("'regional_prompts3':['8',0],'regional_prompts1':['8',0],'regional_prompts2':['13',0]"),
                 COMBINED("'regional_prompts1':['8',0],'regional_prompts2':['8',0],'regional_prompts3':['13',0]"), 0.0);
    x = latent_of(in_order);
    y = latent_of(COMBINED("'regional_prompts2':['13',0],'regional_prompts1':['8',0]"));
    assert_true(max_abs_diff(x->values, y->values, tsr_latent_count(x)) > 1e-3);
    tsr_latent_free(x);
    tsr_latent_free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipe_ksamplers__equal_ksampler),
        cmocka_unit_test(regional__of_one_base_step_is_a_ksampler),
        cmocka_unit_test(combined_regions__keep_the_workflow_s_order),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
