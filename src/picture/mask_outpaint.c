/* mask_outpaint.c - what is to be painted around a picture: ComfyUI's ImagePadForOutpaint. */
#include "core/check.h"
#include "tessera/mask.h"

/* How near (x, y) of a w x h picture is to a side with a margin; h or more: to none. */
static int distance(int x, int y, int w, int h, const tsr_margins *margins) {
    int up = margins->top ? y : h, down = margins->bottom ? h - y : h;
    int before = margins->left ? x : w, behind = margins->right ? w - x : w;
    int least = up < down ? up : down, across = before < behind ? before : behind;
    return across < least ? across : least;
}

tsr_status tsr_mask_outpaint(tsr_mask **out, int width, int height, const tsr_margins *margins, int feather_px,
                             tsr_error *err) {
    *out = NULL;
    const int sides[4] = { margins->left, margins->top, margins->right, margins->bottom };
    for (int i = 0; i < 4; i++)
        if (sides[i] < 0 || sides[i] > TSR_IMAGE_MAX_SIDE)
            return tsr__fail(err, TSR_BAD_ARGUMENT, "a margin of %d pixels; give 0 to %d", sides[i],
                             TSR_IMAGE_MAX_SIDE);
    if (width < 1 || height < 1 || feather_px < 0)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "a picture of %dx%d pixels, faded over %d", width, height, feather_px);
    tsr_status status =
        tsr_mask_new(out, width + margins->left + margins->right, height + margins->top + margins->bottom, 1.0f, err);
    if (status != TSR_OK) return status;
    int fades = feather_px > 0 && (double)feather_px * 2 < height && (double)feather_px * 2 < width;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int near = distance(x, y, width, height, margins);
            double rate = fades && near < feather_px ? (double)(feather_px - near) / feather_px : 0.0;
            (*out)->values[(size_t)(y + margins->top) * (size_t)(*out)->width + (size_t)(x + margins->left)] =
                (float)(rate * rate);
        }
    return TSR_OK;
}
