/* region/canvas_priv.h - what a canvas is made of, for its steps (canvas.c) and its states (canvas_state.c). */
#ifndef TSR_CANVAS_PRIV_H
#define TSR_CANVAS_PRIV_H

#include "region/blend.h"
#include "region/canvas.h"

/* One actor on the canvas. */
typedef struct tsr__member {
    tsr_solver *solver;  /* NULL before it starts */
    int from, until;     /* canvas steps: it started at the first and is about to take the second */
    float *weights;      /* [plane], shares in the step in hand; owned */
    const float *claims; /* [plane] */
    float *denoised, *uncond;
    tsr__mask_rule rule;
    int active;  /* has a share of the step in hand */
    int waiting; /* for the network */
} tsr__member;

struct tsr__canvas {
    const tsr_plan *plan;
    tsr__run *run; /* NULL: dry */
    int shape[4];
    size_t count, plane;
    float *x;      /* the canvas, model space */
    float *latent; /* the input in model space, for the noise-mask rule */
    float *noise;
    float *blended;            /* scratch */
    float *solo;               /* dry: the claims of the small canvas, [actors, plane] */
    tsr_guide coupled;         /* couple: the base's, with one positive made of all */
    const void *coupled_owned; /* that positive */
    unsigned char *takes_part; /* regions, in the step in hand */
    float **shares;            /* the members' weights and claims, for tsr__plan_share */
    const float **claims;
    tsr__member *members;
    tsr__evaluator evaluator;
    tsr__request *requests;
    tsr__blend_part *parts;
    float **inputs;  /* of the blend in hand */
    int *shared;     /* members of the group whose input is settled */
    int *group;      /* members in the evaluation in hand */
    int steps_ended; /* the canvas stands at this canvas sigma, unless a step is in hand */
    tsr__work counted;
    int64_t *by_model; /* dry: evaluations of each actor's network, in all */
};

/* A fresh solver for actor k, that starts with canvas step i. */
tsr_status tsr__canvas_start(tsr__canvas *canvas, int k, int i, tsr_error *err);

#endif /* TSR_CANVAS_PRIV_H */
