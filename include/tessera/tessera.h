/* tessera/tessera.h - all of the public library. Each part can be included alone. */
#ifndef TSR_TESSERA_H
#define TSR_TESSERA_H

#include "tessera/denoiser.h"
#include "tessera/engine.h"
#include "tessera/graph.h"
#include "tessera/image.h"
#include "tessera/latent.h"
#include "tessera/mask.h"
#include "tessera/noise.h"
#include "tessera/region.h"
#include "tessera/sample.h"
#include "tessera/scene.h"
#include "tessera/schedule.h"
#include "tessera/solver.h"
#include "tessera/status.h"
#include "tessera/two_samplers.h"

#endif /* TSR_TESSERA_H */
