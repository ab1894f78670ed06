"""Expected numbers for test_golden_inpaint.c: inpainting networks in PyTorch code written for the test, after the definitions
of ComfyUI 0.8.0 (BaseModel.concat_cond, KSamplerX0Inpaint, common_upscale, the "normal" scheduler, sample_euler).

    /usr/bin/python3 tests/golden/make_inpaint_numbers.py    # needs python3-torch; writes tests/golden/data/inpaint/

The networks are the golden checkpoints with the first convolution widened from 4 to 9 channels; the new weights, and all
inputs that no other golden file has, come from `numbers`, which the test repeats.
"""
import json
import math
import os
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
from control_reference import Net, numbers, read  # noqa: E402

DATA = os.path.join(HERE, "data")
FAMILIES = (("sd1", "golden-sd1", False, 0.18215), ("sdxl", "tiny-sdxl", True, 0.13025))
EMPTY = (0.8223, -0.6876, 0.6364, 0.1380)
H, W, STEPS, SEED, CFG = 12, 16, 5, 17, 4.0


def write(path, tensors):
    header, place = {}, 0
    for name, tensor in tensors.items():
        size = 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().numpy().astype("<f4").tobytes())


# --- noise levels -------------------------------------------------------------------------------------------------------------
BETAS = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
ABAR = torch.cumprod(1.0 - BETAS, 0)
SIGMAS = (((1 - ABAR) / ABAR) ** 0.5).float()
LOGS = SIGMAS.log()  # float32, as there: a sigma half-way between two timesteps is rounded by its last bits


def timestep_of(sigma):
    return float((torch.tensor(sigma, dtype=torch.float32).log() - LOGS).abs().argmin())


def sigma_of(t):
    low, high, part = t.floor().long(), t.ceil().long(), t.frac()
    return float(((1 - part) * LOGS[low] + part * LOGS[high]).exp())


def normal_sigmas(steps, denoise):
    total = steps if denoise > 0.9999 else int(steps / denoise)
    times = torch.linspace(timestep_of(float(SIGMAS[-1])), timestep_of(float(SIGMAS[0])), total)
    return ([sigma_of(t) for t in times] + [0.0])[-(steps + 1):]


# --- what is concatenated -------------------------------------------------------------------------------------------------------
def fit(x, height, width):
    """Cut to the target's proportions in the middle, then bilinear."""
    h, w = x.shape[-2:]
    left = top = 0
    if w / h > width / height:
        left = round((w - w * ((width / height) / (w / h))) / 2)
    elif w / h < width / height:
        top = round((h - h * ((w / h) / (width / height))) / 2)
    x = x[..., top:h - top, left:w - left]
    return F.interpolate(x, size=(height, width), mode="bilinear")


def batch(x, n):
    have = x.shape[0]
    if have == n or n <= 1:
        return x[:n]
    if n < have:
        rows = [min(round(i * (have - 1) / (n - 1)), have - 1) for i in range(n)]
    else:
        rows = [min(math.floor((i + 0.5) * (have / n)), have - 1) for i in range(n)]
    return x[rows]


def concat(n, height, width, mask, picture):
    """mask [k, 1, h, w] or None; picture [k, 4, h, w], scaled."""
    if mask is None:
        ones = torch.ones(n, 1, height, width)
        return torch.cat([ones] + [ones * value for value in EMPTY], 1)
    if mask.shape[-2:] != (height, width):
        mask = fit(mask, height, width)
    if picture.shape[-2:] != (height, width):
        picture = fit(picture, height, width)
    return torch.cat([batch(mask.round(), n), batch(picture, n)], 1)


# --- a network ------------------------------------------------------------------------------------------------------------------
class Model:
    def __init__(self, tag, file, sdxl, scale):
        self.tag, self.sdxl, self.scale = tag, sdxl, scale
        tensors = read(f"{DATA}/checkpoints/{file}.safetensors", "model.diffusion_model.")
        first = tensors["input_blocks.0.0.weight"]
        extra = numbers("inpaint", (first.shape[0], 5, 3, 3)) * np.float32(0.25)
        tensors["input_blocks.0.0.weight"] = torch.cat([first, extra], 1)
        self.net = Net(tensors, sdxl)

    def label(self, pooled, height, width):
        parts = [pooled]
        for value in (8 * height, 8 * width, 0, 0, 8 * height, 8 * width):
            angles = value * torch.exp(-math.log(10000.0) * torch.arange(128, dtype=torch.float32) / 128)
            parts.append(torch.cat([angles.cos(), angles.sin()])[None])
        return torch.cat(parts, 1)

    def denoise(self, x, sigma, cond, beside):
        text, pooled = cond
        n, t = x.shape[0], torch.full((x.shape[0],), timestep_of(sigma))
        label = self.label(pooled, *x.shape[-2:]).expand(n, -1) if self.sdxl else None
        scaled = torch.cat([x / (sigma ** 2 + 1) ** 0.5, beside], 1)
        return x - sigma * self.net.unet(scaled, t, text.expand(n, -1, -1), label)

    def run(self, latent, mask, denoise, conds):
        """latent: raw; mask: at latent size, grey allowed."""
        sigmas, latent = normal_sigmas(STEPS, denoise), latent * self.scale
        noise = torch.randn(latent.shape, generator=torch.manual_seed(SEED))
        top = float(SIGMAS[-1])
        whole = sigmas[0] > top or math.isclose(sigmas[0], top, rel_tol=1e-5)
        x = noise * ((1 + sigmas[0] ** 2) ** 0.5 if whole else sigmas[0]) + latent
        beside = concat(1, *latent.shape[-2:], mask, latent)
        for sigma, after in zip(sigmas, sigmas[1:]):
            seen = x * mask + (latent + noise * sigma) * (1 - mask)
            yes, no = (self.denoise(seen, sigma, cond, beside) for cond in conds)
            clean = (no + (yes - no) * CFG) * mask + latent * (1 - mask)
            x = x + (x - clean) / sigma * (after - sigma)
        return x / self.scale


def conds_of(tag, sdxl):
    """Of the second prompt and the empty one, as the golden files have them."""
    if not sdxl:
        found = read(f"{DATA}/networks.safetensors", "text/")
        return [(found[i].reshape(1, 77, -1), None) for i in "12"]
    found = read(f"{DATA}/checkpoints/expected.safetensors", f"{tag}/")
    return [(found[f"cond/{i}"].reshape(1, 77, -1), found[f"pooled/{i}"].reshape(1, -1)) for i in "12"]


def main():
    torch.set_num_threads(1)
    out = {}
    with torch.no_grad():
        for family in FAMILIES:
            model, tag = Model(*family), family[0]
            conds = conds_of(tag, family[2])
            x, picture = numbers("x", (2, 4, H, W)) * 4, numbers("picture", (2, 4, H, W))
            mask = numbers("mask", (2, 1, H, W)) * 0.5 + 0.5
            large = numbers("large", (3, 1, 100, 90)) * 0.5 + 0.5
            other = numbers("other", (1, 4, 9, 14))
            out[f"{tag}/of_the_run"] = model.denoise(x, 3.7, conds[0], concat(2, H, W, mask, picture))
            out[f"{tag}/given"] = model.denoise(x, 3.7, conds[0], concat(2, H, W, large, other * family[3]))
            out[f"{tag}/blank"] = model.denoise(x, 3.7, conds[0], concat(2, H, W, None, None))
            beside = concat(2, H, W, mask, picture)[:, :, 2:10, 4:12]
            out[f"{tag}/part"] = model.denoise(x[:, :, 2:10, 4:12], 3.7, conds[0], beside)
            latent = numbers("latent", (1, 4, H, W)) * 5
            out[f"{tag}/euler"] = model.run(latent, mask[:1], 1.0, conds)
            out[f"{tag}/euler_0.6"] = model.run(latent, mask[:1], 0.6, conds)
    os.makedirs(f"{DATA}/inpaint", exist_ok=True)
    write(f"{DATA}/inpaint/expected.safetensors", out)


main()
