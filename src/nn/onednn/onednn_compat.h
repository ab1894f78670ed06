/* nn/onednn/onednn_compat.h - the parts of oneDNN's C API that differ between versions 2.6 and 3.x, in one form.
 *
 * In 2.x a memory descriptor is a structure and primitives are described by an operation structure first; in 3.x a
 * descriptor is an opaque pointer and primitive descriptors are created directly. Everything else may call oneDNN
 * itself: those calls read the same in both. */
#ifndef TSR_ONEDNN_COMPAT_H
#define TSR_ONEDNN_COMPAT_H

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_version.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t tsr__md;
typedef const_dnnl_memory_desc_t tsr__const_md;
#else
typedef dnnl_memory_desc_t *tsr__md;
typedef const dnnl_memory_desc_t *tsr__const_md;
#endif

/* Descriptors made here are released with tsr__md_free, which accepts NULL. */
dnnl_status_t tsr__md_tag(tsr__md *out, int ndims, const dnnl_dim_t *dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag);
dnnl_status_t tsr__md_clone(tsr__md *out, tsr__const_md md);
void tsr__md_free(tsr__md md);
size_t tsr__md_size(tsr__const_md md);
int tsr__md_equal(tsr__const_md a, tsr__const_md b);
/* Sizes, strides and blocks of a plain blocked layout, "bf16 320x320x3x3 [...]"; 0 when it is not one (out is then ""), or when
 * size is too small. */
int tsr__md_text(char *out, size_t size, tsr__const_md md);

typedef struct tsr__dnn_conv_shape {
    dnnl_dims_t strides, pad_before, pad_after;
} tsr__dnn_conv_shape;

dnnl_status_t tsr__dnn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, tsr__const_md src,
                              tsr__const_md weights, tsr__const_md bias, tsr__const_md dst,
                              const_dnnl_primitive_attr_t attr);
dnnl_status_t tsr__dnn_conv(dnnl_primitive_desc_t *out, dnnl_engine_t engine, tsr__const_md src, tsr__const_md weights,
                            tsr__const_md bias, tsr__const_md dst, const tsr__dnn_conv_shape *shape,
                            const_dnnl_primitive_attr_t attr);
dnnl_status_t tsr__dnn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha);
/* result + what the destination held before. */
dnnl_status_t tsr__dnn_append_sum(dnnl_post_ops_t ops);

#endif /* TSR_ONEDNN_COMPAT_H */
