/* test_workflow_subgraphs.c - drawn workflows with subgraphs, one inside another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "tessera/graph.h"

/* In single quotes, for legibility. */
static char *quoted(const char *text) {
    char *copy = malloc(strlen(text) + 1);
    assert_non_null(copy);
    strcpy(copy, text);
    for (char *at = copy; *at; at++)
        if (*at == '\'') *at = '"';
    return copy;
}

/* The node "id" of what `drawn` becomes, as sorted JSON of its inputs; NULL when there is none. Free it. */
static char *inputs_of(const char *drawn, const char *id) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    char *text = quoted(drawn), *api = NULL;
    if (tsr_workflow_load_memory(&workflow, text, strlen(text), &err) != TSR_OK) fail_msg("%s", err.message);
    assert_int_equal(tsr_workflow_json(&api, workflow, &err), TSR_OK);
    json_t *root = json_loads(api, 0, NULL);
    char *inputs = json_dumps(json_object_get(json_object_get(root, id), "inputs"), JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(root);
    free(api);
    free(text);
    tsr_workflow_free(workflow);
    return inputs;
}

/* wanted "": there is no such node. */
static void expect(const char *drawn, const char *id, const char *wanted) {
    char *got = inputs_of(drawn, id), *text = quoted(wanted);
    if (strcmp(got ? got : "", text) != 0) fail_msg("node %s: %s", id, got ? got : "none");
    free(got);
    free(text);
}

#define DEFINITIONS                                                                                                    \
    "'definitions':{'subgraphs':["                                                                                     \
    "{'id':'s-inner','inputs':[{'name':'clip'},{'name':'text'}],'outputs':[{'name':'c'}],"                             \
    "'nodes':[{'id':3,'type':'CLIPTextEncode','inputs':[{'name':'clip','type':'CLIP','link':1},"                       \
    "{'name':'text','type':'STRING','link':2,'widget':{'name':'text'}}],'outputs':[{'type':'CONDITIONING'}],"          \
    "'widgets_values':['own text']}],"                                                                                 \
    "'links':[{'id':1,'origin_id':-10,'origin_slot':0,'target_id':3,'target_slot':0},"                                 \
    "{'id':2,'origin_id':-10,'origin_slot':1,'target_id':3,'target_slot':1},"                                          \
    "{'id':4,'origin_id':3,'origin_slot':0,'target_id':-20,'target_slot':0}]},"                                        \
    "{'id':'s-outer','inputs':[{'name':'clip'},{'name':'text'}],'outputs':[{'name':'zero'},{'name':'c'}],"             \
    "'nodes':[{'id':7,'type':'s-inner','inputs':[{'name':'clip','type':'CLIP','link':1},"                              \
    "{'name':'text','type':'STRING','link':2,'widget':{'name':'text'}}],'outputs':[{'type':'CONDITIONING'}]},"         \
    "{'id':8,'type':'ConditioningZeroOut','inputs':[{'name':'conditioning','type':'CONDITIONING','link':3}],"          \
    "'outputs':[{'type':'CONDITIONING'}]}],"                                                                           \
    "'links':[[1,-10,0,7,0,'CLIP'],[2,-10,1,7,1,'STRING'],[3,7,0,8,0,'CONDITIONING'],[5,8,0,-20,0,'CONDITIONING'],"    \
    "[6,7,0,-20,1,'CONDITIONING']]}]}"
#define CHECKPOINT                                                                                                     \
    "{'id':1,'type':'CheckpointLoaderSimple','outputs':[{'type':'MODEL'},{'type':'CLIP'},{'type':'VAE'}],"             \
    "'widgets_values':['m.safetensors']}"
#define COMBINE                                                                                                        \
    "{'id':9,'type':'ConditioningCombine','inputs':[{'name':'conditioning_1','type':'CONDITIONING','link':21},"        \
    "{'name':'conditioning_2','type':'CONDITIONING','link':22}],'outputs':[{'type':'CONDITIONING'}]}"
/* text: the outer node's link and widgets_values; more: nodes and links besides. */
#define DRAWN(text_link, values, mode, nodes, links)                                                                   \
    "{'nodes':[" CHECKPOINT "," COMBINE ",{'id':5,'type':'s-outer','mode':" mode                                       \
    ",'inputs':[{'name':'clip','type':'CLIP','link':20},{'name':'text','type':'STRING','link':" text_link              \
    ",'widget':{'name':'text'}}],'outputs':[{'type':'CONDITIONING'},{'type':'CONDITIONING'}]," values "}" nodes        \
    "],'links':[[20,1,1,5,0,'CLIP'],[21,5,0,9,0,'CONDITIONING'],[22,5,1,9,1,'CONDITIONING']" links "]," DEFINITIONS    \
    "}"

static void subgraphs__become_their_nodes(void **state) {
    static const char drawn[] = DRAWN("null", "'widgets_values':['a cat']", "0", "", "");
    (void)state;
    expect(drawn, "9", "{'conditioning_1':['5:8',0],'conditioning_2':['5:7:3',0]}");
    expect(drawn, "5:8", "{'conditioning':['5:7:3',0]}");
    expect(drawn, "5:7:3", "{'clip':['1',1],'text':'a cat'}");
    expect(drawn, "5", "");
    expect(drawn, "5:-10", "");
}

/* Where the outer node shows no value, the inner one's own counts; a link counts before both. */
static void subgraphs__take_values_from_the_outside(void **state) {
    (void)state;
    expect(DRAWN("null", "'widgets_values':[]", "0", "", ""), "5:7:3", "{'clip':['1',1],'text':'own text'}");
    expect(DRAWN("null", "'properties':{'proxyWidgets':[['8','x'],['-1','text']]},'widgets_values':[1,'a dog']", "0",
                 "", ""),
           "5:7:3", "{'clip':['1',1],'text':'a dog'}");
    expect(DRAWN("23", "'widgets_values':['a cat']", "0",
                 ",{'id':6,'type':'PrimitiveNode','outputs':[{'type':'STRING'}],'widgets_values':['typed']}",
                 ",[23,6,0,5,1,'STRING']"),
           "5:7:3", "{'clip':['1',1],'text':'typed'}");
    expect(DRAWN("23", "'widgets_values':['a cat']", "0",
                 ",{'id':6,'type':'PrimitiveString','outputs':[{'type':'STRING'}],'widgets_values':['typed']}",
                 ",[23,6,0,5,1,'STRING']"),
           "5:7:3", "{'clip':['1',1],'text':['6',0]}");
}

static void subgraphs__muted_leave_nothing(void **state) {
    static const char muted[] = DRAWN("null", "'widgets_values':['a cat']", "2", "", "");
    (void)state;
    expect(muted, "5:8", "");
    expect(muted, "5:7:3", "");
    expect(muted, "9", "{}");
}

static void subgraphs__that_hold_themselves_are_refused(void **state) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    char *text = quoted("{'nodes':[{'id':1,'type':'s'}],'links':[],'definitions':{'subgraphs':[{'id':'s','nodes':["
                        "{'id':1,'type':'s'},{'id':2,'type':'s'}],'links':[]}]}}");
    (void)state;
    tsr_status status = tsr_workflow_load_memory(&workflow, text, strlen(text), &err);
    assert_int_equal(status, TSR_TOO_LARGE);
    assert_non_null(strstr(err.message, "subgraphs"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subgraphs__become_their_nodes),
        cmocka_unit_test(subgraphs__take_values_from_the_outside),
        cmocka_unit_test(subgraphs__muted_leave_nothing),
        cmocka_unit_test(subgraphs__that_hold_themselves_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
