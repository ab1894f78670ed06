#!/usr/bin/env python3
"""Writes tests/golden/data/differential.safetensors: what ComfyUI 0.8.0's DifferentialDiffusion makes of a noise mask.

    python3 tests/golden/make_differential.py        (PyTorch 1.13 or later, NumPy)

Written from the rule in docs/inpainting.md, without looking at Tessera's code:
  mask/NAME/STRENGTH   [sigmas, values]: the mask function at every sigma of the schedule NAME, and between them
  asked/NAME           the sigmas at which it was asked
  sigmas/NAME          the schedule that the run was given
  run/SAMPLER/STRENGTH the latent after euler or heun on the Gaussian denoiser D = (x + s^2 mu) / (1 + s^2), model space,
                       with the noise-mask rule around each evaluation; run/mask, latent, noise, mu and sigmas go in
"""
import json
import os
import struct

import numpy
import torch

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data')
STRENGTHS = (1.0, 0.75, 0.3)


def table():
    """SD1's noise levels: square roots of beta evenly from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1.0 - betas, dim=0)
    return ((1 - kept) / kept).sqrt().float()


SIGMAS = table()
LOGS = SIGMAS.log()


def timestep(sigma):
    """Index of the nearest level, by logarithms."""
    return (torch.as_tensor(sigma).log() - LOGS).abs().argmin()


def change_map(mask, sigma, schedule, strength):
    lowest = torch.maximum(schedule[-1], SIGMAS[0])
    first, last = timestep(schedule[0]), timestep(lowest)
    threshold = (timestep(sigma) - last) / (first - last)
    chosen = (mask >= threshold).to(mask.dtype)
    return strength * chosen + (1 - strength) * mask if strength < 1 else chosen


def at_steps(steps):
    """Levels at evenly spaced timesteps from the top, as `normal`, then 0."""
    steps = torch.linspace(999, 0, steps)
    low = steps.floor().long()
    share = steps - low
    logs = (1 - share) * LOGS[low] + share * LOGS[steps.ceil().long()]
    return torch.cat([logs.exp(), torch.zeros(1)])


def schedules():
    whole = at_steps(20)
    ramp = torch.linspace(SIGMAS[-1] ** (1 / 7), SIGMAS[0] ** (1 / 7), 12) ** 7
    return {
        'normal': whole,
        'denoise': at_steps(33)[-21:],                      # the last 20 of 33 steps
        'karras': torch.cat([ramp, torch.zeros(1)]),
        'window': whole[4:12],                              # noise is left over
        'step': whole[7:9],                                 # one step, as a regional sampler's call
        'last': whole[-2:],                                 # from the lowest level to 0
        'rising': whole[:-1].flip(0),
        'scaled': whole[5:10] * 0.7,                        # between the table's levels
    }


def mask_functions(out):
    values = torch.linspace(0, 1, 61)
    for name, sigmas in schedules().items():
        positive = sigmas[sigmas > 0]
        between = (positive[1:] * positive[:-1]).sqrt()
        asked = torch.cat([positive, between])
        exact = (torch.stack([timestep(s) for s in asked[:3]]).float() / 999)  # masks that a threshold may meet
        mask = torch.cat([values, exact])
        out['mask/' + name] = mask
        out['sigmas/' + name] = sigmas
        out['asked/' + name] = asked
        for strength in STRENGTHS:
            out[f'mask/{name}/{strength}'] = torch.stack([change_map(mask, s, sigmas, strength) for s in asked])


class Inpainting:
    """The denoiser with the noise-mask rule around it."""

    def __init__(self, shape, sigmas, strength):
        make = torch.Generator().manual_seed(17)
        self.latent = torch.randn(shape, generator=make)
        self.noise = torch.randn(shape, generator=make)
        self.mu = torch.randn(shape, generator=make)
        across = torch.linspace(0, 1, shape[3])
        self.mask = (across[None, :] * torch.linspace(0.6, 1, shape[2])[:, None])[None, None]
        self.sigmas, self.strength = sigmas, strength

    def __call__(self, x, sigma):
        mask = self.mask if self.strength == 0 else change_map(self.mask, sigma, self.sigmas, self.strength)
        seen = x * mask + (self.latent + self.noise * sigma) * (1 - mask)
        answer = (seen + sigma ** 2 * self.mu) / (1 + sigma ** 2)
        return answer * mask + self.latent * (1 - mask)


def sample(model, second_order):
    sigmas = model.sigmas
    x = model.latent + model.noise * torch.sqrt(1 + sigmas[0] ** 2)  # sigmas[0] is the model's highest
    for now, then in zip(sigmas[:-1], sigmas[1:]):
        slope = (x - model(x, now)) / now
        ahead = x + slope * (then - now)
        if second_order and then > 0:
            slope = (slope + (ahead - model(ahead, then)) / then) / 2
            ahead = x + slope * (then - now)
        x = ahead
    return x


def runs(out):
    sigmas = at_steps(9)
    for strength in (0.0,) + STRENGTHS:
        for name, second_order in (('euler', False), ('heun', True)):
            model = Inpainting((1, 4, 6, 10), sigmas, strength)
            out[f'run/{name}/{strength}'] = sample(model, second_order)
    out['run/sigmas'] = sigmas
    for name in ('latent', 'noise', 'mu', 'mask'):
        out['run/' + name] = getattr(model, name)


def save(path, tensors):
    head, body = {}, b''
    for name, tensor in tensors.items():
        data = numpy.ascontiguousarray(tensor.numpy(), dtype='<f4')
        head[name] = {'dtype': 'F32', 'shape': list(data.shape), 'data_offsets': [len(body), len(body) + data.nbytes]}
        body += data.tobytes()
    text = json.dumps(head).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text + body)


def main():
    out = {}
    mask_functions(out)
    runs(out)
    save(os.path.join(DATA, 'differential.safetensors'), out)


if __name__ == '__main__':
    main()
