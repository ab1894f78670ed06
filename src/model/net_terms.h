/* model/net_terms.h - an adapter file as terms beside a network's weights: a region's LoRA that does not copy the model. */
#ifndef TSR_NET_TERMS_H
#define TSR_NET_TERMS_H

#include "model/weight_log.h"
#include "weights/lora.h"

/* Adds the adapter's layers of that network to terms (of the network's context). Plain LoRA stays low rank; LoHa, LoKr and
 * full differences become whole products, as costly as the layers they change. Changed norms have no product to stand
 * beside: they stay unused (tsr__lora_unused). strength: for this network. */
tsr_status tsr__net_terms_add(tsr__nn_terms *terms, tsr__nn *nn, const tsr__weight_log *log, tsr__lora *lora,
                              float strength, tsr_error *err);

#endif /* TSR_NET_TERMS_H */
