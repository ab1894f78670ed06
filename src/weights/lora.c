/* weights/lora.c - an adapter file: its tensors sorted into layers, layers found by a checkpoint's names. */
#include "weights/lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "weights/checkpoint_kind.h"
#include "weights/lora_keys.h"
#include "weights/lora_layer.h"

/* How files end the names of a layer's tensors; the rest is the layer's name. */
static const struct suffix {
    const char *text;
    tsr__lora_role role;
} SUFFIXES[] = {
    { ".alpha", TSR__LORA_ALPHA },
    { ".lora_up.weight", TSR__LORA_UP },
    { ".lora_down.weight", TSR__LORA_DOWN },
    { ".lora_mid.weight", TSR__LORA_MID },
    { ".lora.up.weight", TSR__LORA_UP }, /* diffusers */
    { ".lora.down.weight", TSR__LORA_DOWN },
    { "_lora.up.weight", TSR__LORA_UP }, /* diffusers, attention processors */
    { "_lora.down.weight", TSR__LORA_DOWN },
    { ".lora_linear_layer.up.weight", TSR__LORA_UP }, /* diffusers, text encoder */
    { ".lora_linear_layer.down.weight", TSR__LORA_DOWN },
    { ".lora_B.weight", TSR__LORA_UP }, /* PEFT */
    { ".lora_A.weight", TSR__LORA_DOWN },
    { ".lora_B.default.weight", TSR__LORA_UP },
    { ".lora_A.default.weight", TSR__LORA_DOWN },
    { ".hada_w1_a", TSR__LOHA_W1_A },
    { ".hada_w1_b", TSR__LOHA_W1_B },
    { ".hada_w2_a", TSR__LOHA_W2_A },
    { ".hada_w2_b", TSR__LOHA_W2_B },
    { ".hada_t1", TSR__LOHA_T1 },
    { ".hada_t2", TSR__LOHA_T2 },
    { ".lokr_w1", TSR__LOKR_W1 },
    { ".lokr_w1_a", TSR__LOKR_W1_A },
    { ".lokr_w1_b", TSR__LOKR_W1_B },
    { ".lokr_w2", TSR__LOKR_W2 },
    { ".lokr_w2_a", TSR__LOKR_W2_A },
    { ".lokr_w2_b", TSR__LOKR_W2_B },
    { ".lokr_t2", TSR__LOKR_T2 },
    { ".a1.weight", TSR__GLORA_A1 },
    { ".a2.weight", TSR__GLORA_A2 },
    { ".b1.weight", TSR__GLORA_B1 },
    { ".b2.weight", TSR__GLORA_B2 },
    { ".oft_blocks", TSR__OFT_BLOCKS },
    { ".rescale", TSR__OFT_RESCALE },
    { ".diff", TSR__LORA_DIFF },
    { ".diff_b", TSR__LORA_DIFF_BIAS },
    { ".w_norm", TSR__LORA_DIFF },
    { ".b_norm", TSR__LORA_DIFF_BIAS },
    { ".dora_scale", TSR__LORA_DORA },
};

/* Endings of adapters that add something else than a difference of weights. */
static const struct refused {
    const char *text, *kind;
} REFUSED[] = {
    { ".lora_magnitude_vector", "DoRA as PEFT writes it" },
    { ".lora_magnitude_vector.weight", "DoRA as PEFT writes it" },
    { ".oft_diag", "OFT of an early LyCORIS" },
    { ".oft_R.weight", "OFT as PEFT writes it" },
    { ".set_weight", "replaced weights" },
    { ".on_input", "IA3" },
    { ".reshape_weight", "widened layers" },
};

struct tsr__lora {
    const tsr__weights *weights;
    tsr__lora_layer *layers; /* sorted by name */
    size_t count;
};

typedef struct piece {
    const tsr__tensor_view *view;
    size_t name_length;
    tsr__lora_role role;
} piece;

/* --- opening --- */

static int ends_with(const char *name, const char *end) {
    const size_t length = strlen(name), tail = strlen(end);
    return length > tail && strcmp(name + length - tail, end) == 0;
}

static tsr_status refuse_kinds(const tsr__weights *weights, tsr_error *err) {
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const char *name = tsr__weights_at(weights, i)->name;
        for (size_t k = 0; k < sizeof REFUSED / sizeof *REFUSED; k++) {
            if (ends_with(name, REFUSED[k].text))
                return tsr__fail(err, TSR_UNSUPPORTED,
                                 "%s: this adapter is of a kind that cannot be merged (%s: \"%s\"); LoRA, LoHa, LoKr, "
                                 "GLoRA, OFT, DoRA and full differences can",
                                 tsr__weights_path(weights), REFUSED[k].kind, name);
        }
    }
    return TSR_OK;
}

static int compare_names(const char *a, size_t a_length, const char *b, size_t b_length) {
    const size_t common = a_length < b_length ? a_length : b_length;
    const int order = common ? memcmp(a, b, common) : 0;
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_pieces(const void *left, const void *right) {
    const piece *a = left, *b = right;
    return compare_names(a->view->name, a->name_length, b->view->name, b->name_length);
}

static int compare_layers(const void *left, const void *right) {
    const tsr__lora_layer *a = left, *b = right;
    return compare_names(a->name, a->name_length, b->name, b->name_length);
}

/* The tensors that are parts of layers, sorted by layer. Others (embeddings in the same file, notes) are passed over. */
static size_t find_pieces(piece *out, const tsr__weights *weights) {
    size_t count = 0;
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        for (size_t k = 0; k < sizeof SUFFIXES / sizeof *SUFFIXES; k++) {
            if (!ends_with(view->name, SUFFIXES[k].text)) continue;
            out[count++] = (piece){ view, strlen(view->name) - strlen(SUFFIXES[k].text), SUFFIXES[k].role };
            break;
        }
    }
    qsort(out, count, sizeof *out, compare_pieces);
    return count;
}

static tsr_status build_layers(tsr__lora *lora, const piece *pieces, size_t count, tsr_error *err) {
    const char *path = tsr__weights_path(lora->weights);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || compare_pieces(&pieces[i - 1], &pieces[i]) != 0) {
            lora->layers[lora->count].name = pieces[i].view->name;
            lora->layers[lora->count++].name_length = pieces[i].name_length;
        }
        tsr__lora_layer *layer = &lora->layers[lora->count - 1];
        if (layer->parts[pieces[i].role])
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: \"%s\" and \"%s\" are the same part of one layer", path,
                             layer->parts[pieces[i].role]->name, pieces[i].view->name);
        layer->parts[pieces[i].role] = pieces[i].view;
    }
    for (size_t i = 0; i < lora->count; i++) {
        const char *fault = tsr__lora_layer_fault(&lora->layers[i]);
        if (fault)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: adapter layer \"%.*s\" %s", path,
                             (int)lora->layers[i].name_length, lora->layers[i].name, fault);
    }
    return TSR_OK;
}

/* A file without a single layer of an adapter: says what it is instead, where that can be told. */
static tsr_status refuse_file(const tsr__weights *weights, tsr_error *err) {
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, weights);
    const int known = info.kind != TSR_CHECKPOINT_UNKNOWN && info.kind != TSR_CHECKPOINT_LORA;
    return tsr__fail(err, TSR_BAD_FORMAT,
                     "%s: holds no LoRA or other adapter (none of its %zu tensors is part of one)%s%s",
                     tsr__weights_path(weights), tsr__weights_count(weights), known ? ": it is " : "",
                     known ? tsr__checkpoint_kind_name(info.kind) : "");
}

tsr_status tsr__lora_open(tsr__lora **out, const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__lora *lora = NULL;
    piece *pieces = NULL;
    *out = NULL;
    TSR_TRY(refuse_kinds(weights, err));
    TSR_ALLOC_ZERO(err, pieces, tsr__weights_count(weights) + 1);
    const size_t count = find_pieces(pieces, weights);
    if (count == 0) TSR_TRY(refuse_file(weights, err));
    TSR_ALLOC_ZERO(err, lora, 1);
    lora->weights = weights;
    TSR_ALLOC_ZERO(err, lora->layers, count);
    TSR_TRY(build_layers(lora, pieces, count, err));
    *out = lora;
    lora = NULL;
done:
    free(pieces);
    tsr__lora_free(lora);
    return status;
}

void tsr__lora_free(tsr__lora *lora) {
    if (!lora) return;
    free(lora->layers);
    free(lora);
}

/* --- applying --- */

static int concerns(const tsr__lora_layer *layer, int is_bias) {
    if (is_bias) return layer->parts[TSR__LORA_DIFF_BIAS] != NULL;
    return layer->parts[TSR__LORA_UP] || layer->parts[TSR__LOHA_W1_A] || layer->parts[TSR__LORA_DIFF] ||
           layer->parts[TSR__LOKR_W2] || layer->parts[TSR__LOKR_W2_A] || layer->parts[TSR__GLORA_A1] ||
           layer->parts[TSR__OFT_BLOCKS];
}

static tsr__lora_layer *find_layer(const tsr__lora *lora, const char *key, int *is_bias) {
    tsr__lora_names names;
    tsr__lora_names_of(&names, key);
    *is_bias = names.is_bias;
    for (int i = 0; i < names.count; i++) {
        const tsr__lora_layer wanted = { .name = names.at[i], .name_length = strlen(names.at[i]) };
        tsr__lora_layer *layer = bsearch(&wanted, lora->layers, lora->count, sizeof wanted, compare_layers);
        if (layer && concerns(layer, names.is_bias)) return layer;
    }
    return NULL;
}

int tsr__lora_changes(const tsr__lora *lora, const char *key) {
    char parts[3][TSR__LORA_NAME_SIZE];
    int is_bias;
    if (tsr__lora_split(key, parts))
        return tsr__lora_changes(lora, parts[0]) || tsr__lora_changes(lora, parts[1]) ||
               tsr__lora_changes(lora, parts[2]);
    return find_layer(lora, key, &is_bias) != NULL;
}

float tsr__lora_strength(const char *key, float model, float clip) {
    return tsr__lora_is_text(key) ? clip : model;
}

/* What layers are called in models that are no UNets of Stable Diffusion. */
static const struct mark {
    const char *text, *family;
} MARKS[] = {
    { "single_transformer_blocks", "Flux" },
    { "single_blocks", "Flux" },
    { "double_blocks", "Flux" },
    { "joint_blocks", "SD3" },
    { "img_mlp", "Qwen-Image" },
    { "txt_mlp", "Qwen-Image" },
    { "add_k_proj", "SD3" },
    { "add_q_proj", "SD3" },
    { "cross_attn.k", "Wan" },
    { "cross_attn_k", "Wan" },
    { "lora_unet_blocks_", "Wan" },
    { "diffusion_model.blocks.", "Wan" },
    { "lora_transformer_", "a transformer" },
    { "transformer.transformer_blocks", "a transformer" },
};

/* The width of a text's tokens, as far as the layer tells: columns of a cross-attention's k or v. */
static int64_t token_width(const tsr__lora_layer *layer) {
    static const tsr__lora_role sides[] = { TSR__LORA_DOWN, TSR__LOHA_W1_B, TSR__LORA_DIFF };
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        const tsr__tensor_view *view = layer->parts[sides[i]];
        if (view && view->rank >= 2 && !layer->parts[TSR__LOHA_T1]) return view->shape[1];
    }
    return 0;
}

static const char *family_of_layer(const tsr__lora_layer *layer) {
    const char *name = layer->name; /* a whole tensor's name, so it ends */
    for (size_t i = 0; i < sizeof MARKS / sizeof *MARKS; i++)
        if (strstr(name, MARKS[i].text)) return MARKS[i].family;
    if (strstr(name, "lora_te2_") || strstr(name, "text_encoder_2.") || strstr(name, "transformer_blocks_1_") ||
        strstr(name, "transformer_blocks.1."))
        return "SDXL";
    if (!strstr(name, "attn2_to_k") && !strstr(name, "attn2.to_k") && !strstr(name, "attn2.processor.to_k"))
        return NULL;
    const int64_t width = token_width(layer);
    return width == 768 ? "SD1" : width == 1024 ? "SD2" : width == 2048 ? "SDXL" : NULL;
}

/* What the adapter was made for, as far as its names and the width of its cross-attention tell. */
static const char *guess_family(const tsr__lora *lora) {
    for (size_t i = 0; i < lora->count; i++) {
        const char *family = family_of_layer(&lora->layers[i]);
        if (family) return family;
    }
    return "another model";
}

static void describe_shape(char *out, size_t size, const int64_t *shape, int rank) {
    size_t used = 0;
    for (int i = 0; i < rank && used + 1 < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (rank == 0) out[0] = '\0';
}

/* Models of one family differ here: inpainting ones take more channels. The layer stays unused, as in ComfyUI. */
static int may_differ(const char *key) {
    return ends_with(key, ".input_blocks.0.0.weight");
}

static tsr_status refuse_shape(const tsr__lora *lora, const tsr__lora_layer *layer, const char *key, const char *shape,
                               tsr_error *err) {
    if (may_differ(key)) return TSR_OK;
    return tsr__fail(err, TSR_BAD_FORMAT, "%s: adapter layer \"%.*s\" does not fit \"%s\" [%s]: it is made for %s",
                     tsr__weights_path(lora->weights), (int)layer->name_length, layer->name, key, shape,
                     guess_family(lora));
}

static tsr_status add_layer(tsr__lora *lora, const char *key, const int64_t *shape, int rank, float strength,
                            float *weight, int *changed, tsr_error *err) {
    int is_bias;
    char shown[128];
    if (changed) *changed = 0;
    tsr__lora_layer *layer = find_layer(lora, key, &is_bias);
    if (!layer) return TSR_OK;
    size_t rows = rank > 0 ? (size_t)shape[0] : 1, columns = 1;
    for (int i = 1; i < rank; i++) columns *= (size_t)shape[i];
    tsr_status status = is_bias ? tsr__lora_layer_add_bias(layer, rows * columns, strength, weight, err)
                                : tsr__lora_layer_add(layer, rows, columns, strength, weight, err);
    if (status == TSR_BAD_ARGUMENT) {
        describe_shape(shown, sizeof shown, shape, rank);
        return refuse_shape(lora, layer, key, shown, err);
    }
    if (status != TSR_OK) return status;
    layer->used = 1;
    if (changed) *changed = 1;
    return TSR_OK;
}

tsr_status tsr__lora_add(tsr__lora *lora, const char *key, const int64_t *shape, int rank, float strength,
                         float *weight, int *changed, tsr_error *err) {
    char parts[3][TSR__LORA_NAME_SIZE];
    tsr_status status = TSR_OK;
    int any = 0;
    if (rank != 2 || shape[0] % 3 || !tsr__lora_split(key, parts))
        return add_layer(lora, key, shape, rank, strength, weight, changed, err);
    const int64_t third[2] = { shape[0] / 3, shape[1] };
    for (int i = 0; i < 3; i++) {
        int one = 0;
        TSR_TRY(add_layer(lora, parts[i], third, 2, strength, weight + i * third[0] * third[1], &one, err));
        any |= one;
    }
    if (changed) *changed = any;
done:
    return status;
}

int tsr__lora_is_bound(const tsr__lora *lora, const char *key) {
    int is_bias;
    const tsr__lora_layer *layer = find_layer(lora, key, &is_bias);
    return layer && !is_bias && tsr__lora_layer_is_bound(layer);
}

tsr_status tsr__lora_find_factors(tsr__lora_factors *out, tsr__lora *lora, const char *key, size_t rows, size_t columns,
                                  float strength, const float *weight, int *found, tsr_error *err) {
    int is_bias;
    char shown[128];
    tsr__lora_layer *layer = find_layer(lora, key, &is_bias);
    memset(out, 0, sizeof *out);
    *found = 0;
    if (!layer || is_bias) return TSR_OK;
    tsr_status status = tsr__lora_layer_factors(out, layer, rows, columns, strength, weight, err);
    if (status == TSR_BAD_ARGUMENT) {
        snprintf(shown, sizeof shown, "%zu, %zu", rows, columns);
        return refuse_shape(lora, layer, key, shown, err);
    }
    if (status != TSR_OK) return status;
    layer->used = 1;
    *found = 1;
    return TSR_OK;
}

/* --- what was used --- */

size_t tsr__lora_used(const tsr__lora *lora) {
    size_t used = 0;
    for (size_t i = 0; i < lora->count; i++) used += lora->layers[i].used != 0;
    return used;
}

size_t tsr__lora_unused(const tsr__lora *lora) {
    return lora->count - tsr__lora_used(lora);
}

static int network_of(const tsr__lora_layer *layer) {
    static const char *const starts[] = { "lora_te", "text_encoder", "lora_prior_te", "base_model.model.text_model" };
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strncmp(layer->name, starts[i], strlen(starts[i])) == 0) return TSR__LORA_TEXT;
    return TSR__LORA_UNET;
}

size_t tsr__lora_unused_of(const tsr__lora *lora, int networks, const char **first) {
    size_t count = 0;
    if (first) *first = NULL;
    for (size_t i = 0; i < lora->count; i++) {
        if (lora->layers[i].used || !(network_of(&lora->layers[i]) & networks)) continue;
        if (first && !count) *first = lora->layers[i].name;
        count++;
    }
    return count;
}

tsr_status tsr__lora_require_used(const tsr__lora *lora, int networks, tsr_error *err) {
    size_t count = 0;
    const tsr__lora_layer *one = NULL;
    for (size_t i = 0; i < lora->count; i++) {
        if (!(network_of(&lora->layers[i]) & networks)) continue;
        if (lora->layers[i].used) return TSR_OK;
        if (!one) one = &lora->layers[i];
        count++;
    }
    if (!one) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "%s: none of this adapter's %zu layers (\"%.*s\", ...) is in the model: it is made for %s",
                     tsr__weights_path(lora->weights), count, (int)one->name_length, one->name, guess_family(lora));
}

size_t tsr__lora_term_values(const tsr__lora *lora) {
    size_t values = 0;
    for (size_t i = 0; i < lora->count; i++) values += tsr__lora_layer_term_values(&lora->layers[i]);
    return values;
}
