/* tessera/schedule.h - noise levels: a model's own table, and the schedulers that pick steps from it.
 *
 * Threads: a tsr_sigma_table is immutable after creation and may be shared. */
#ifndef TSR_SCHEDULE_H
#define TSR_SCHEDULE_H

#include "tessera/status.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a network gives: the noise; v; an LCM's noise, brought to a clean latent by the consistency model's boundary
 * condition (Luo et al. 2023); the clean latent itself. */
typedef enum tsr_prediction {
    TSR_PREDICTION_EPS = 0,
    TSR_PREDICTION_V = 1,
    TSR_PREDICTION_LCM = 2,
    TSR_PREDICTION_X0 = 3
} tsr_prediction;

/* A model's sigmas, ascending; of a discrete one sigma_t = sqrt((1 - abar_t) / abar_t). */
typedef struct tsr_sigma_table tsr_sigma_table;

/* The SD table: betas = linspace(sqrt(beta_start), sqrt(beta_end), n)^2 in float64, stored as float32.
 * SD1, SD2 and SDXL: 0.00085, 0.012, 1000. */
TSR_API tsr_status tsr_sigma_table_new(tsr_sigma_table **out, double beta_start, double beta_end, int n,
                                       tsr_error *err);
/* The same table brought to (nearly) zero signal at its end: sqrt(abar) is shifted and scaled so that its last value would be
 * 0, and the last abar is 4.8973451890853435e-08, as ComfyUI has it for "zsnr". */
TSR_API tsr_status tsr_sigma_table_new_zero_snr(tsr_sigma_table **out, double beta_start, double beta_end, int n,
                                                tsr_error *err);
/* Every k-th sigma of a discrete table, so that the last one stays and `kept` are left (LCM: 50 of 1000); timesteps stay those
 * of the whole. BAD_ARGUMENT unless 2 <= kept <= its count. */
TSR_API tsr_status tsr_sigma_table_new_distilled(tsr_sigma_table **out, const tsr_sigma_table *from, int kept,
                                                 tsr_error *err);
/* Of models trained on all sigmas (Karras et al. 2022): 1000 of them between two ends, evenly by logarithm, for schedulers that
 * want entries. EDM: timestep = log(sigma) / 4; V: timestep = atan(sigma) 2 / pi. BAD_ARGUMENT unless 0 < low < high. */
typedef enum tsr_continuous { TSR_CONTINUOUS_EDM = 0, TSR_CONTINUOUS_V = 1 } tsr_continuous;
TSR_API tsr_status tsr_sigma_table_new_continuous(tsr_sigma_table **out, double low, double high, tsr_continuous kind,
                                                  tsr_error *err);
TSR_API void tsr_sigma_table_free(tsr_sigma_table *table); /* NULL is allowed */
TSR_API int tsr_sigma_table_count(const tsr_sigma_table *table);
TSR_API float tsr_sigma_table_min(const tsr_sigma_table *table);
TSR_API float tsr_sigma_table_max(const tsr_sigma_table *table);
/* timestep(sigma): that of the nearest log sigma, as a float; of a continuous table by its formula. */
TSR_API float tsr_timestep_of_sigma(const tsr_sigma_table *table, float sigma);
/* sigma(t): log-linear between table entries, t clamped to the table; of a continuous table by its formula. */
TSR_API float tsr_sigma_of_timestep(const tsr_sigma_table *table, float timestep);
/* percent <= 0: 999999999.9; >= 1: 0; else sigma((1 - percent) * 999), of a continuous table log-linear between its ends. */
TSR_API float tsr_sigma_of_percent(const tsr_sigma_table *table, double percent);

/* The table of schedulers (ComfyUI's names: simple, sgm_uniform, karras, exponential, ddim_uniform, beta, normal,
 * linear_quadratic, kl_optimal). */
TSR_API int tsr_scheduler_count(void);
TSR_API const char *tsr_scheduler_name(int index);
TSR_API const char *tsr_scheduler_summary(int index);
TSR_API int tsr_scheduler_find(const char *name); /* index or -1 */

/* Sigmas of a scheduler, descending, ending in 0. Usually steps + 1 values, but some schedulers give fewer or more
 * (ddim_uniform): *n_out says how many. *out is released with tsr_free. Errors: NOT_FOUND (nearest name), BAD_ARGUMENT. */
TSR_API tsr_status tsr_schedule_sigmas(float **out, int *n_out, const tsr_sigma_table *table, const char *scheduler,
                                       int steps, tsr_error *err);

/* KSampler's sigmas: steps and denoise in (0, 1]; drops the second-last sigma for the samplers that want it; the last
 * steps + 1 of int(steps / denoise). denoise == 0 gives *n_out = 0. */
TSR_API tsr_status tsr_ksampler_sigmas(float **out, int *n_out, const tsr_sigma_table *table, const char *scheduler,
                                       const char *sampler, int steps, double denoise, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_SCHEDULE_H */
