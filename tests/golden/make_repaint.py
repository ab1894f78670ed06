#!/usr/bin/env python3
"""Writes tests/golden/data/repaint.safetensors: masks and pixels as ComfyUI 0.8.0's nodes for repainting make them.

    python3 tests/golden/make_repaint.py        (PyTorch 1.13 or later, NumPy)

Written from the nodes' rules, without looking at Tessera's code. Pictures are [h, w, 3] and masks [h, w] in 0..1:
  encode/CASE/pixels, mask       what goes into VAEEncodeForInpaint
  encode/CASE/grey               the pixels that it encodes: cut to multiples of 8 in the middle, 0.5 under the rounded mask
  encode/CASE/noise_mask/GROW    its noise mask: the rounded mask's box sum over GROW x GROW, at most 1, rounded
  latent/CASE                    that noise mask as a sampler sees it on the latent, bilinear, for GROW 6
  pad/CASE                       ImagePadForOutpaint's mask; the case's name is width, height, left, top, right, bottom, feathering
"""
import math
import os

import torch
from make_differential import DATA, save

SIZES = {'even': (32, 40), 'odd': (29, 35), 'high': (40, 27)}  # width, height
GROWTHS = (0, 1, 2, 6, 7)
PADS = [(24, 20, 8, 0, 0, 0, 6), (24, 20, 8, 8, 16, 24, 5), (17, 30, 0, 16, 8, 0, 8), (24, 20, 8, 0, 8, 0, 10),
        (24, 20, 0, 0, 0, 0, 4), (31, 22, 8, 8, 8, 8, 0)]


def picture(width, height):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.stack([(37 * x + 11 * y) % 256, (5 * x + 91 * y) % 256, (x * y) % 256], dim=-1).float() / 255


def soft_disc(width, height):
    """Of another size than the picture, with values on both sides of a half, and some at it."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    far = ((x - width * 0.55) ** 2 + (y - height * 0.4) ** 2).sqrt()
    mask = (1.4 - far / (min(width, height) * 0.3)).clamp(0, 1)
    mask[height - 6:, :5] = 0.5
    return mask


def encode_for_inpaint(pixels, mask, growth):
    height, width = pixels.shape[0] // 8 * 8, pixels.shape[1] // 8 * 8
    top, left = pixels.shape[0] % 8 // 2, pixels.shape[1] % 8 // 2
    mask = torch.nn.functional.interpolate(mask[None, None], size=pixels.shape[:2], mode='bilinear')[0, 0]
    pixels, mask = (t[top:top + height, left:left + width] for t in (pixels, mask))
    hard = mask.round()
    grey = (pixels - 0.5) * (1.0 - hard)[..., None] + 0.5
    if growth:
        box = torch.ones((1, 1, growth, growth))
        sums = torch.nn.functional.conv2d(hard[None, None], box, padding=math.ceil((growth - 1) / 2))[0, 0]
        grown = sums.clamp(0, 1)[:height, :width]
    else:
        grown = mask
    return grey, grown.round()


def pad_mask(width, height, left, top, right, bottom, feathering):
    mask = torch.ones((height + top + bottom, width + left + right))
    inside = torch.zeros((height, width))
    if feathering > 0 and feathering * 2 < height and feathering * 2 < width:
        for y in range(height):
            for x in range(width):
                near = min(y if top else height, height - y if bottom else height, x if left else width,
                           width - x if right else width)
                if near < feathering:
                    inside[y, x] = ((feathering - near) / feathering) ** 2
    mask[top:top + height, left:left + width] = inside
    return mask


def main():
    out = {}
    for name, (width, height) in SIZES.items():
        pixels, mask = picture(width, height), soft_disc(width + 7, height - 5)
        out[f'encode/{name}/pixels'], out[f'encode/{name}/mask'] = pixels, mask
        for growth in GROWTHS:
            out[f'encode/{name}/grey'], grown = encode_for_inpaint(pixels, mask, growth)
            out[f'encode/{name}/noise_mask/{growth}'] = grown
            if growth == 6:
                size = (grown.shape[0] // 8, grown.shape[1] // 8)
                out[f'latent/{name}'] = torch.nn.functional.interpolate(grown[None, None], size=size, mode='bilinear')[0, 0]
    for case in PADS:
        out['pad/' + ','.join(map(str, case))] = pad_mask(*case)
    save(os.path.join(DATA, 'repaint.safetensors'), out)


if __name__ == '__main__':
    main()
