/* nn/onednn/onednn_compat.c - see onednn_compat.h. Knows no tensor and no weight. */
#include "nn/onednn/onednn_compat.h"
#include <stdlib.h>

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
