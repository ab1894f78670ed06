/* solver/solver_table.c - the closed set of samplers: one row each. A new sampler is a row here and a function in a family. */
#include <stddef.h>
#include <string.h>

#include "solver_priv.h"

enum {
    STOCHASTIC = TSR_SAMPLER_STOCHASTIC,
    SDE = TSR_SAMPLER_STOCHASTIC | TSR_SAMPLER_BROWNIAN,
    CFG_PP = TSR_SAMPLER_CFG_PP,
    PENULTIMATE = TSR_SAMPLER_PENULTIMATE,
    RECOVERY = TSR_SAMPLER_RECOVERY,
    OWN_SIGMAS = TSR_SAMPLER_OWN_SIGMAS,
    PLAIN = TSR__VARIANT_PLAIN,
    ANCESTRAL = TSR__VARIANT_ANCESTRAL,
    PP = TSR__VARIANT_CFG_PP
};

/* Name, summary, flags, stages, history arrays, variant, advance, plan; in ComfyUI's order. */
static const tsr__solver_kind kinds[] = {
    { "euler", "Euler's method (Karras et al. 2022)", 0, 1, 0, PLAIN, tsr__advance_euler, NULL },
    { "euler_cfg_pp", "Euler along the unconditional direction (CFG++)", CFG_PP, 1, 0, PLAIN, tsr__advance_euler_cfg_pp,
      NULL },
    { "euler_ancestral", "Euler with fresh noise after every step (k-diffusion)", STOCHASTIC, 1, 0, ANCESTRAL,
      tsr__advance_euler_ancestral, NULL },
    { "euler_ancestral_cfg_pp", "euler_ancestral along the unconditional direction (CFG++)", STOCHASTIC | CFG_PP, 1, 0,
      ANCESTRAL, tsr__advance_euler_cfg_pp, NULL },
    { "heun", "Heun's method, two evaluations a step (Karras et al. 2022)", 0, 2, 0, PLAIN, tsr__advance_heun, NULL },
    { "heunpp2", "Heun with up to three weighted slopes", TSR__SAMPLER_ONE_WAY, 3, 1, PLAIN, tsr__advance_heunpp2,
      NULL },
    { "exp_heun_2_x0", "exponential Heun on the data prediction (SEEDS without noise)", 0, 2, 1, TSR__SEEDS_HEUN,
      tsr__advance_seeds, NULL },
    { "exp_heun_2_x0_sde", "exponential Heun on the data prediction, with noise (SEEDS)", STOCHASTIC, 2, 1,
      TSR__SEEDS_HEUN_SDE, tsr__advance_seeds, NULL },
    { "dpm_2", "DPM-2, midpoint method (Karras et al. 2022)", PENULTIMATE, 2, 0, PLAIN, tsr__advance_dpm_2, NULL },
    { "dpm_2_ancestral", "DPM-2 with fresh noise after every step (k-diffusion)", STOCHASTIC | PENULTIMATE, 2, 0,
      ANCESTRAL, tsr__advance_dpm_2, NULL },
    { "lms", "linear multistep, order 4 (Adams-Bashforth in sigma)", 0, 1, 3, TSR__ADAMS_LMS, tsr__advance_adams,
      NULL },
    { "dpm_fast", "DPM-Solver with a fixed number of evaluations (Lu et al. 2022)", OWN_SIGMAS, 3, 2, PLAIN,
      tsr__advance_dpm_fast, tsr__plan_dpm_fast },
    { "dpm_adaptive", "DPM-Solver 2/3 with its own step sizes (Lu et al. 2022)", 0, 3, 3, PLAIN,
      tsr__advance_dpm_adaptive, tsr__plan_dpm_adaptive },
    { "dpmpp_2s_ancestral", "DPM-Solver++(2S) with fresh noise after every step", STOCHASTIC, 2, 0, ANCESTRAL,
      tsr__advance_dpmpp_2s, NULL },
    { "dpmpp_2s_ancestral_cfg_pp", "dpmpp_2s_ancestral along the unconditional direction (CFG++)", STOCHASTIC | CFG_PP,
      2, 0, ANCESTRAL | PP, tsr__advance_dpmpp_2s, NULL },
    { "dpmpp_sde", "DPM-Solver++ as an SDE, two evaluations a step", SDE | RECOVERY, 2, 0, PLAIN,
      tsr__advance_dpmpp_sde, NULL },
    { "dpmpp_sde_gpu", "the same as dpmpp_sde: Tessera has one noise stream", SDE | RECOVERY, 2, 0, PLAIN,
      tsr__advance_dpmpp_sde, NULL },
    { "dpmpp_2m", "DPM-Solver++(2M), multistep (Lu et al. 2022)", 0, 1, 1, PLAIN, tsr__advance_dpmpp_2m, NULL },
    { "dpmpp_2m_cfg_pp", "dpmpp_2m along the unconditional direction (CFG++)", CFG_PP, 1, 1, PP,
      tsr__advance_dpmpp_2m_cfg_pp, NULL },
    { "dpmpp_2m_sde", "DPM-Solver++(2M) as an SDE, midpoint form", SDE | RECOVERY, 1, 1, TSR__SDE_MIDPOINT,
      tsr__advance_dpmpp_2m_sde, NULL },
    { "dpmpp_2m_sde_gpu", "the same as dpmpp_2m_sde: Tessera has one noise stream", SDE | RECOVERY, 1, 1,
      TSR__SDE_MIDPOINT, tsr__advance_dpmpp_2m_sde, NULL },
    { "dpmpp_2m_sde_heun", "DPM-Solver++(2M) as an SDE, Heun form", SDE, 1, 1, TSR__SDE_HEUN, tsr__advance_dpmpp_2m_sde,
      NULL },
    { "dpmpp_2m_sde_heun_gpu", "the same as dpmpp_2m_sde_heun: Tessera has one noise stream", SDE, 1, 1, TSR__SDE_HEUN,
      tsr__advance_dpmpp_2m_sde, NULL },
    { "dpmpp_3m_sde", "DPM-Solver++(3M) as an SDE", SDE | RECOVERY, 1, 2, PLAIN, tsr__advance_dpmpp_3m_sde, NULL },
    { "dpmpp_3m_sde_gpu", "the same as dpmpp_3m_sde: Tessera has one noise stream", SDE | RECOVERY, 1, 2, PLAIN,
      tsr__advance_dpmpp_3m_sde, NULL },
    { "ddpm", "the original DDPM posterior (Ho et al. 2020)", STOCHASTIC, 1, 0, PLAIN, tsr__advance_ddpm, NULL },
    { "lcm", "denoise fully, then add noise again (latent consistency models)", STOCHASTIC, 1, 0, PLAIN,
      tsr__advance_lcm, NULL },
    { "ipndm", "pseudo linear multistep of order 4, equal-step coefficients (PNDM)", 0, 1, 3, TSR__ADAMS_IPNDM,
      tsr__advance_adams, NULL },
    { "ipndm_v", "pseudo linear multistep of order 4, true step sizes (PNDM)", 0, 1, 3, TSR__ADAMS_IPNDM_V,
      tsr__advance_adams, NULL },
    { "deis", "DEIS-tAB, order 3 (Zhang and Chen 2022)", 0, 1, 2, TSR__ADAMS_DEIS, tsr__advance_adams, NULL },
    { "res_multistep", "refined exponential multistep, order 2 (Zhang et al. 2023)", 0, 1, 1, PLAIN, tsr__advance_res,
      NULL },
    { "res_multistep_cfg_pp", "res_multistep along the unconditional direction (CFG++)", CFG_PP, 1, 1, PP,
      tsr__advance_res, NULL },
    { "res_multistep_ancestral", "res_multistep with fresh noise after every step", STOCHASTIC, 1, 1, ANCESTRAL,
      tsr__advance_res, NULL },
    { "res_multistep_ancestral_cfg_pp", "res_multistep_ancestral along the unconditional direction (CFG++)",
      STOCHASTIC | CFG_PP, 1, 1, ANCESTRAL | PP, tsr__advance_res, NULL },
    { "gradient_estimation", "Euler with the last slope's change added (Permenter and Yuan 2024)", 0, 1, 1, PLAIN,
      tsr__advance_gradient, NULL },
    { "gradient_estimation_cfg_pp", "gradient_estimation along the unconditional direction (CFG++)", CFG_PP, 1, 1, PP,
      tsr__advance_gradient, NULL },
    { "er_sde", "extended reverse-time SDE, order 3 (Cui et al. 2023)", STOCHASTIC, 1, 2, PLAIN, tsr__advance_er_sde,
      NULL },
    { "seeds_2", "SEEDS-2: exponential SDE solver, two evaluations a step (Gonzalez et al. 2023)", STOCHASTIC, 2, 1,
      TSR__SEEDS_2, tsr__advance_seeds, NULL },
    { "seeds_3", "SEEDS-3: exponential SDE solver, three evaluations a step (Gonzalez et al. 2023)", STOCHASTIC, 3, 1,
      TSR__SEEDS_3, tsr__advance_seeds, NULL },
    { "sa_solver", "stochastic Adams predictor and corrector (Xue et al. 2023)", STOCHASTIC, 1, 4, TSR__SA_PEC,
      tsr__advance_sa, tsr__plan_sa },
    { "sa_solver_pece", "sa_solver that evaluates the corrected latent again", STOCHASTIC, 2, 4, TSR__SA_PECE,
      tsr__advance_sa, tsr__plan_sa },
    { "ddim", "DDIM: euler, with fresh noise where a noise mask keeps the picture", TSR_SAMPLER_RANDOM_INPAINT, 1, 0,
      PLAIN, tsr__advance_euler, NULL },
    { "uni_pc", "UniPC, order 3, B(h) = h (Zhao et al. 2023)", PENULTIMATE | RECOVERY, 1, 3, TSR__UNI_PC_BH1,
      tsr__advance_uni_pc, NULL },
    { "uni_pc_bh2", "UniPC, order 3, B(h) = e^h - 1 (Zhao et al. 2023)", PENULTIMATE | RECOVERY, 1, 3, TSR__UNI_PC_BH2,
      tsr__advance_uni_pc, NULL },
};

int tsr_sampler_count(void) {
    return (int)(sizeof kinds / sizeof *kinds);
}

const tsr__solver_kind *tsr__solver_kind_at(int index) {
    return index >= 0 && index < tsr_sampler_count() ? &kinds[index] : NULL;
}

const char *tsr_sampler_name(int index) {
    const tsr__solver_kind *kind = tsr__solver_kind_at(index);
    return kind ? kind->name : NULL;
}

const char *tsr_sampler_summary(int index) {
    const tsr__solver_kind *kind = tsr__solver_kind_at(index);
    return kind ? kind->summary : NULL;
}

unsigned tsr_sampler_flags(int index) {
    const tsr__solver_kind *kind = tsr__solver_kind_at(index);
    return kind ? kind->flags & ~(unsigned)TSR__SAMPLER_ONE_WAY : 0;
}

int tsr_sampler_find(const char *name) {
    for (int i = 0; name && i < tsr_sampler_count(); i++)
        if (!strcmp(name, kinds[i].name)) return i;
    return -1;
}
