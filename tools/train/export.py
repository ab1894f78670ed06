"""What a run leaves behind: the checkpoint, whole and in parts, and a sheet of sample pictures."""
import json
import lzma
import math
import struct

import torch
from PIL import Image

from stages import TIMESTEPS, alphas_cumprod

SD1_LATENT_SCALE = 0.18215
PART_BYTES = 15 * 1000 * 1000
COLUMNS, GAP = 8, 2
PROMPTS = [
    "a cat on grass field", "a house, blue sky", "a tree, sunset sky", "a sun in blue sky", "grass field", "sea",
    "a castle on snow", "an apple, wooden floor", "a rocket in outer space", "a dog in forest", "brick wall",
    "a heart, pink background", "a tree and a house, grass field", "a crab on sandy beach", "a cactus",
    "a penguin on snow", "a cat on the left and a dog on the right, grass field", "a robot", "mountains",
    "a shiny xylograph fox on snow", "a banana and an apple, white background", "an owl, night sky",
    "a pizza, wooden floor", "a fish, sea",
]


def vae_weights(vae, scale):
    """The VAE's weights with the latent scale moved into its 1x1 convolutions, so that 0.18215 * latent has unit
    variance, as SD1 expects."""
    weights = {key: value.float().clone() for key, value in vae.state_dict().items()}
    factor = scale / SD1_LATENT_SCALE
    weights["quant_conv.weight"][:4] *= factor
    weights["quant_conv.bias"][:4] *= factor
    weights["quant_conv.bias"][4:] += 2 * math.log(factor)
    weights["post_quant_conv.weight"] /= factor
    return weights


def checkpoint(unet, text, vae, scale):
    """Every tensor under SD1's names."""
    return {
        **{"model.diffusion_model." + key: value for key, value in unet.state_dict().items()},
        **{"cond_stage_model.transformer." + key: value for key, value in text.state_dict().items()},
        **{"first_stage_model." + key: value for key, value in vae_weights(vae, scale).items()},
    }


def safetensors(tensors):
    """The bytes of a safetensors file: header length, JSON header padded to 8, tensors as F16."""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        blob = tensor.detach().half().cpu().contiguous().numpy().tobytes()
        end = offset + len(blob)
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        blobs.append(blob)
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def write_checkpoint(run, tensors, folder):
    data = safetensors(tensors)
    with open(f"{folder}/tessera-demo.safetensors", "wb") as stream:
        stream.write(data)
    packed = lzma.compress(data, preset=1)
    for start in range(0, len(packed), PART_BYTES):
        with open(f"{folder}/tessera-demo.xz.part{start // PART_BYTES}", "wb") as stream:
            stream.write(packed[start : start + PART_BYTES])
    run.log(len(tensors), "tensors", len(data), "bytes", len(packed), "compressed")


def euler(run, unet, conditioned, unconditioned, x, steps, cfg):
    """Plain Euler steps with guidance over evenly spaced timesteps; x comes in as unit noise."""
    alphas = alphas_cumprod()
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps + 1)[:-1].round().long()
    sigmas = torch.cat([((1 - alphas) / alphas).sqrt()[timesteps], torch.zeros(1)]).tolist()
    text = torch.cat([conditioned, unconditioned])
    x = x * sigmas[0]
    for i in range(steps):
        scaled = x / (sigmas[i] ** 2 + 1) ** 0.5
        times = timesteps[i].repeat(len(text)).to(run.device)
        with run.autocast():
            noise = unet(torch.cat([scaled, scaled]), times, text).float()
        with_prompt, without = noise.chunk(2)
        x = x + (without + cfg * (with_prompt - without)) * (sigmas[i + 1] - sigmas[i])
    return x


@torch.no_grad()
def sample_sheet(run, unet, text, vae, scale, tokenizer, steps, size=16, cfg=4.5):
    """One picture for every line of PROMPTS, COLUMNS in a row."""
    count = len(PROMPTS)
    conditioned = text(torch.tensor([tokenizer.encode(prompt) for prompt in PROMPTS], device=run.device))
    unconditioned = text(torch.tensor([tokenizer.encode("")] * count, device=run.device))
    noise = torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(3)).to(run.device)
    latents = euler(run, unet, conditioned, unconditioned, noise, steps, cfg)
    pictures = ((vae.decode(latents / scale).float() + 1) * 127.5).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    cell = size * 8 + GAP
    sheet = Image.new("RGB", (COLUMNS * cell, (count + COLUMNS - 1) // COLUMNS * cell))
    for i, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (i % COLUMNS * cell, i // COLUMNS * cell))
    return sheet
