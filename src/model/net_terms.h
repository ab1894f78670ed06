/* model/net_terms.h - adapter files as terms beside a network's weights: a region's LoRA that does not copy the model. */
#ifndef TSR_NET_TERMS_H
#define TSR_NET_TERMS_H

#include "model/weight_log.h"
#include "weights/lora.h"

typedef struct tsr__net_adapter {
    tsr__lora *lora;
    float strength; /* for this network */
} tsr__net_adapter;

/* Adds what the adapters change about that network to terms (of the network's context), one after another, as if each were
 * merged into what the ones before had left. LoRA stays low rank, also as DoRA; LoHa, LoKr, GLoRA, OFT and full differences
 * become whole products, as costly as the layers they change; norms get other values. weights: where the network's
 * numbers are, for what hangs on them; not kept. Call it once for each terms. */
tsr_status tsr__net_terms_add(tsr__nn_terms *terms, tsr__nn *nn, const tsr__weight_log *log,
                              const tsr__weights *weights, const tsr__net_adapter *adapters, int n, tsr_error *err);

#endif /* TSR_NET_TERMS_H */
