/* nn/onednn/onednn_compat.c - see onednn_compat.h. Knows no tensor and no weight. */
#include "nn/onednn/onednn_compat.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A blocked layout, wherever its version keeps it. */
typedef struct blocked {
    int ndims, blocks;
    dnnl_data_type_t type;
    const dnnl_dim_t *dims, *padded, *strides, *block_sizes, *block_axes;
} blocked;

#if DNNL_VERSION_MAJOR >= 3

dnnl_status_t tsr__md_tag(tsr__md *out, int ndims, const dnnl_dim_t *dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag) {
    *out = NULL;
    return dnnl_memory_desc_create_with_tag(out, ndims, dims, type, tag);
}

dnnl_status_t tsr__md_clone(tsr__md *out, tsr__const_md md) {
    *out = NULL;
    return dnnl_memory_desc_clone(out, md);
}

void tsr__md_free(tsr__md md) {
    if (md) (void)dnnl_memory_desc_destroy(md);
}

static int read_dims(const dnnl_dim_t **out, tsr__const_md md, dnnl_query_t what) {
    const dnnl_dims_t *dims = NULL;
    if (dnnl_memory_desc_query(md, what, (void *)&dims) != dnnl_success || !dims) return 0;
    *out = *dims;
    return 1;
}

static int read_blocked(blocked *out, tsr__const_md md) {
    dnnl_format_kind_t kind = dnnl_format_kind_undef;
    dnnl_dim_t offset = 1;
    if (dnnl_memory_desc_query(md, dnnl_query_format_kind, &kind) != dnnl_success || kind != dnnl_blocked) return 0;
    if (dnnl_memory_desc_query(md, dnnl_query_submemory_offset_s64, &offset) != dnnl_success || offset != 0) return 0;
    return dnnl_memory_desc_query(md, dnnl_query_ndims_s32, &out->ndims) == dnnl_success &&
           dnnl_memory_desc_query(md, dnnl_query_data_type, &out->type) == dnnl_success &&
           dnnl_memory_desc_query(md, dnnl_query_inner_nblks_s32, &out->blocks) == dnnl_success &&
           read_dims(&out->dims, md, dnnl_query_dims) && read_dims(&out->padded, md, dnnl_query_padded_dims) &&
           read_dims(&out->strides, md, dnnl_query_strides) &&
           read_dims(&out->block_sizes, md, dnnl_query_inner_blks) &&
           read_dims(&out->block_axes, md, dnnl_query_inner_idxs);
}

dnnl_status_t tsr__dnn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, tsr__const_md src,
                              tsr__const_md weights, tsr__const_md bias, tsr__const_md dst,
                              const_dnnl_primitive_attr_t attr) {
    *out = NULL;
    return dnnl_matmul_primitive_desc_create(out, engine, src, weights, bias, dst, attr);
}

dnnl_status_t tsr__dnn_conv(dnnl_primitive_desc_t *out, dnnl_engine_t engine, tsr__const_md src, tsr__const_md weights,
                            tsr__const_md bias, tsr__const_md dst, const tsr__dnn_conv_shape *shape,
                            const_dnnl_primitive_attr_t attr) {
    dnnl_dims_t dilates = { 0 };
    *out = NULL;
    return dnnl_convolution_forward_primitive_desc_create(out, engine, dnnl_forward_inference, dnnl_convolution_direct,
                                                          src, weights, bias, dst, shape->strides, dilates,
                                                          shape->pad_before, shape->pad_after, attr);
}

dnnl_status_t tsr__dnn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha) {
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, 0.0f);
}

dnnl_status_t tsr__dnn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

#else

dnnl_status_t tsr__md_tag(tsr__md *out, int ndims, const dnnl_dim_t *dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag) {
    dnnl_memory_desc_t md;
    *out = NULL;
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&md, ndims, dims, type, tag);
    return status == dnnl_success ? tsr__md_clone(out, &md) : status;
}

dnnl_status_t tsr__md_clone(tsr__md *out, tsr__const_md md) {
    *out = malloc(sizeof **out);
    if (!*out) return dnnl_out_of_memory;
    **out = *md;
    return dnnl_success;
}

void tsr__md_free(tsr__md md) {
    free(md);
}

static int read_blocked(blocked *out, tsr__const_md md) {
    if (md->format_kind != dnnl_blocked || md->offset0 != 0 || md->extra.flags != dnnl_memory_extra_flag_none) return 0;
    out->ndims = md->ndims;
    out->type = md->data_type;
    out->dims = md->dims;
    out->padded = md->padded_dims;
    out->strides = md->format_desc.blocking.strides;
    out->blocks = md->format_desc.blocking.inner_nblks;
    out->block_sizes = md->format_desc.blocking.inner_blks;
    out->block_axes = md->format_desc.blocking.inner_idxs;
    return 1;
}

dnnl_status_t tsr__dnn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, tsr__const_md src,
                              tsr__const_md weights, tsr__const_md bias, tsr__const_md dst,
                              const_dnnl_primitive_attr_t attr) {
    dnnl_matmul_desc_t desc;
    *out = NULL;
    dnnl_status_t status = dnnl_matmul_desc_init(&desc, src, weights, bias, dst);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
}

dnnl_status_t tsr__dnn_conv(dnnl_primitive_desc_t *out, dnnl_engine_t engine, tsr__const_md src, tsr__const_md weights,
                            tsr__const_md bias, tsr__const_md dst, const tsr__dnn_conv_shape *shape,
                            const_dnnl_primitive_attr_t attr) {
    dnnl_convolution_desc_t desc;
    *out = NULL;
    dnnl_status_t status =
        dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, src, weights, bias,
                                           dst, shape->strides, shape->pad_before, shape->pad_after);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
}

dnnl_status_t tsr__dnn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha) {
    return dnnl_post_ops_append_eltwise(ops, 1.0f, kind, alpha, 0.0f);
}

dnnl_status_t tsr__dnn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f);
}

#endif

size_t tsr__md_size(tsr__const_md md) {
    return dnnl_memory_desc_get_size(md);
}
int tsr__md_equal(tsr__const_md a, tsr__const_md b) {
    return dnnl_memory_desc_equal(a, b);
}

/* Appends; 0 when there is no room. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static int
append(char **at, size_t *room, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(*at, *room, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= *room) return 0;
    *at += length;
    *room -= (size_t)length;
    return 1;
}

int tsr__md_text(char *out, size_t size, tsr__const_md md) {
    blocked b;
    char *at = out;
    *out = '\0';
    if (!read_blocked(&b, md) || (b.type != dnnl_f32 && b.type != dnnl_bf16)) return 0;
    int good = append(&at, &size, b.type == dnnl_f32 ? "f32" : "bf16");
    for (int i = 0; i < b.ndims; i++) good = good && append(&at, &size, "%c%lld", i ? 'x' : ' ', (long long)b.dims[i]);
    for (int i = 0; i < b.ndims; i++)
        good = good && append(&at, &size, "%s%lld", i ? "x" : " in ", (long long)b.padded[i]);
    for (int i = 0; i < b.ndims; i++)
        good = good && append(&at, &size, "%s%lld", i ? "," : " by ", (long long)b.strides[i]);
    for (int i = 0; i < b.blocks; i++)
        good = good && append(&at, &size, "%s%lld%c", i ? "" : " of ", (long long)b.block_sizes[i],
                              (char)('a' + (int)b.block_axes[i]));
    if (!good) *out = '\0';
    return good;
}
