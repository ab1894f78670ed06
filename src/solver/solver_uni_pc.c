/* solver/solver_uni_pc.c - UniPC: a multistep predictor whose result the next evaluation corrects.
 *
 * Source: Zhao et al. 2023, B(h) = h (bh1) or e^h - 1 (bh2), data prediction, order 3. The paper works on variance-preserving
 * latents; divided by alpha they are the latents of this library, and alpha leaves every formula. The correction is written
 * as a change of the predicted latent, so a latent that the caller has edited is corrected, not overwritten.
 * history[0..2]: the newest predictions. */
#include <math.h>

#include "core/check.h"
#include "solver_priv.h"

enum { MAX_ORDER = 3 };

typedef struct uni_move {
    int order;
    double sigma_ratio, phi_1, b_h;
    double rk[MAX_ORDER];      /* of history entries 1 and 2, then 1 */
    double predict[MAX_ORDER]; /* weights of (m_i - m_0) / rk_i, i >= 1 */
    double correct[MAX_ORDER]; /* the same, the last one of m_t - m_0 */
} uni_move;

/* The last sigma cannot be 0: lambda would be infinite. */
static double sigma_of(const tsr_solver *s, int index) {
    double sigma = s->sigmas[index];
    return sigma == 0 ? 0.001 : sigma;
}

static int order_at(const tsr_solver *s, int target) {
    int steps = s->n_sigmas - 1, order = steps - 1 < MAX_ORDER ? steps - 1 : MAX_ORDER;
    if (target < order) return target;
    return order < steps + 1 - target ? order : steps + 1 - target;
}

/* The conditions sum_k rho_k rk^(i-1) = b_i of the paper. */
static void fill_system(const uni_move *move, int n, double hh, double *matrix, double *rhs) {
    double phi_k = move->phi_1 / hh - 1, factorial = 1;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) matrix[i * n + k] = pow(move->rk[k], i);
        rhs[i] = phi_k * factorial / move->b_h;
        factorial *= i + 2;
        phi_k = phi_k / hh - 1 / factorial;
    }
}

/* The move from sigma index target - 1 to target, with the evaluation of target - 1 as m_0. */
static uni_move plan_move(const tsr_solver *s, int target) {
    uni_move move = { .order = order_at(s, target) };
    double matrix[MAX_ORDER * MAX_ORDER], from = sigma_of(s, target - 1), to = sigma_of(s, target);
    double h = log(from / to), hh = -h;
    move.sigma_ratio = to / from;
    move.phi_1 = expm1(hh);
    move.b_h = s->kind->variant == TSR__UNI_PC_BH1 ? hh : move.phi_1;
    for (int i = 1; i < move.order; i++) move.rk[i - 1] = log(from / sigma_of(s, target - 1 - i)) / h;
    move.rk[move.order - 1] = 1;
    if (move.order == 2) move.predict[0] = 0.5; /* the paper's simplification */
    if (move.order > 2) {
        fill_system(&move, move.order - 1, hh, matrix, move.predict);
        tsr__solve(matrix, move.predict, move.order - 1);
    }
    if (move.order == 1) move.correct[0] = 0.5;
    if (move.order > 1) {
        fill_system(&move, move.order, hh, matrix, move.correct);
        tsr__solve(matrix, move.correct, move.order);
    }
    return move;
}

/* latent (the predicted one, at the step's sigma) += what the evaluation there tells. */
static void correct(tsr_solver *s) {
    uni_move move = plan_move(s, s->step);
    tsr__term terms[MAX_ORDER + 2] = { { 1.0, s->latent } };
    double last = -move.b_h * move.correct[move.order - 1], center = -last;
    int n = 1;
    terms[n++] = (tsr__term){ last, s->answer };
    for (int i = 1; i < move.order; i++) {
        double weight = -move.b_h * (move.correct[i - 1] - move.predict[i - 1]) / move.rk[i - 1];
        terms[n++] = (tsr__term){ weight, s->history[i] };
        center -= weight;
    }
    terms[n++] = (tsr__term){ center, s->history[0] };
    tsr__combine(s->latent, s->count, terms, n);
}

/* latent = the prediction at the next sigma; history already holds the step's evaluation. */
static void predict(tsr_solver *s) {
    uni_move move = plan_move(s, s->step + 1);
    tsr__term terms[MAX_ORDER + 1] = { { move.sigma_ratio, s->latent } };
    double center = -move.phi_1;
    int n = 1;
    for (int i = 1; i < move.order; i++) {
        double weight = -move.b_h * move.predict[i - 1] / move.rk[i - 1];
        terms[n++] = (tsr__term){ weight, s->history[i] };
        center -= weight;
    }
    terms[n++] = (tsr__term){ center, s->history[0] };
    tsr__combine(s->latent, s->count, terms, n);
}

tsr_status tsr__advance_uni_pc(tsr_solver *s, tsr_error *err) {
    (void)err;
    if (s->n_sigmas == 2) {
        /* One step leaves order 0: the reference only rescales its variance-preserving latent. */
        double from = tsr__sigma(s), to = sigma_of(s, 1);
        TSR__COMBINE(s, s->latent, { sqrt((1 + to * to) / (1 + from * from)), s->latent });
        return TSR_OK;
    }
    if (s->step > 0) correct(s);
    tsr__shift_history(s, MAX_ORDER);
    tsr__copy(s, s->history[0], s->answer);
    predict(s);
    return TSR_OK;
}
