"""The training stages: the autoencoder, the latents of every picture, then text encoder and UNet together.

A "set" is (pictures uint8 [n, h, w, 3], captions [n]) of one size; a "latent set" is (latents f16 [n, 4, h/8, w/8],
captions [n]). A Run says where and how long; nothing here knows of files except the log.
"""
import copy
import math
import time

import numpy as np
import torch

from bpe import END, START
from layers import move_average
from text_encoder import TextEncoder
from unet import UNet
from vae import VAE

CROP = 128  # the autoencoder sees crops of this size
CAPTION_DROPOUT = 0.1  # how often a picture goes with the empty caption, for guidance
UNKNOWN_WORD = 0.15  # how often a caption gets a word that no caption holds
SNR_CAP = 5.0  # min-SNR loss weighting
LATENTS_AT_ONCE = 256
BETA_START, BETA_END, TIMESTEPS = 0.00085, 0.012, 1000


class Run:
    """Device, precision, clock and log of one training run."""

    def __init__(self, out, smoke):
        self.smoke = smoke
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.started = time.time()
        self.log_path = f"{out}/log.txt"

    def seconds(self):
        return time.time() - self.started

    def autocast(self):
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")

    def place(self, network):
        return network.to(self.device).to(memory_format=torch.channels_last)

    def log(self, *words):
        line = f"{self.seconds():6.0f}s " + " ".join(str(word) for word in words)
        print(line, flush=True)
        with open(self.log_path, "a", encoding="utf8") as stream:
            stream.write(line + "\n")


def cosine(progress, floor=0.02):
    """1 at progress 0, floor at 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1, progress))) * (1 - floor) + floor


def set_rate(optimizer, rate):
    for group in optimizer.param_groups:
        group["lr"] = rate


def step(optimizer, parameters, loss):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def average_weight(iteration, longest):
    """How far the moving average follows: fast at first, 1 - longest later."""
    return 1 - min(longest, (1 + iteration) / (10 + iteration))


# ---- the autoencoder


def to_network(run, pictures):
    """uint8 [n, h, w, 3] to float [n, 3, h, w] in -1..1."""
    x = torch.from_numpy(np.array(pictures)).to(run.device).permute(0, 3, 1, 2)
    return x.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def picture_batch(run, rng, sets, count):
    """A random crop of random pictures of one random set, the same crop and mirroring for all."""
    pictures = sets[rng.integers(len(sets))][0]
    chosen = np.sort(rng.integers(0, len(pictures), count))
    height, width = pictures.shape[1:3]
    top, left = 8 * rng.integers(0, (height - CROP) // 8 + 1), 8 * rng.integers(0, (width - CROP) // 8 + 1)
    x = to_network(run, pictures[chosen, top : top + CROP, left : left + CROP])
    return x.flip(3) if rng.random() < 0.5 else x


def slopes(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def vae_loss(x, y, mean, log_variance):
    """Absolute, squared and slope error, and a light pull of the latents towards unit variance. Also the squared error."""
    edges = sum((a - b).abs().mean() for a, b in zip(slopes(x), slopes(y)))
    squared = ((x - y) ** 2).mean()
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    return (x - y).abs().mean() + 0.5 * edges + squared + 8e-5 * divergence, squared


def train_vae(run, sets, minutes, batch):
    """Trains for so many minutes; returns the moving average, ready for use."""
    vae = run.place(VAE())
    optimizer = torch.optim.AdamW(vae.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    average = copy.deepcopy(vae).requires_grad_(False)
    rng, started, iteration = np.random.default_rng(0), time.time(), 0
    while (elapsed := time.time() - started) < minutes * 60:
        x = picture_batch(run, rng, sets, batch)
        set_rate(optimizer, 1e-3 * min(1, (iteration + 1) / 200) * cosine(elapsed / minutes / 60))
        with run.autocast():
            mean, log_variance = vae.encode(x)
            y = vae.decode(mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance))
        loss, squared = vae_loss(x, y.float(), mean.float(), log_variance.float())
        step(optimizer, vae.parameters(), loss)
        iteration += 1
        move_average(average, vae, average_weight(iteration, 0.998))
        if iteration % 200 == 0 or run.smoke:
            run.log("vae", iteration, f"psnr {10 * math.log10(4 / squared.item()):.2f}")
        if run.smoke and iteration >= 2:
            break
    return average.eval()


@torch.no_grad()
def encode_all(run, vae, sets):
    latent_sets = []
    for pictures, captions in sets:
        parts = []
        for i in range(0, len(pictures), LATENTS_AT_ONCE):
            with run.autocast():
                parts.append(vae.encode(to_network(run, pictures[i : i + LATENTS_AT_ONCE]))[0].half())
        latent_sets.append((torch.cat(parts).contiguous(), captions))
    return latent_sets


# ---- text encoder and UNet


def alphas_cumprod():
    """SD1's noise schedule, float32 [TIMESTEPS]."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


class Captions:
    """Every caption as tokens, on the device, and which words of the vocabulary they use."""

    def __init__(self, run, tokenizer, latent_sets):
        texts = sorted({text for _, captions in latent_sets for text in captions})
        number = {text: i for i, text in enumerate(texts)}
        tokens = torch.tensor([tokenizer.encode(text) for text in texts])
        used = torch.zeros(END + 1, 1)
        used[tokens.unique()] = 1
        self.used = used.to(run.device)
        self.unknown = torch.nonzero(used[:START, 0] == 0)[:, 0].to(run.device)
        self.tokens = tokens.to(run.device)
        self.of_set = [torch.tensor([number[t] for t in captions], device=run.device) for _, captions in latent_sets]
        self.empty = torch.tensor(tokenizer.encode(""), device=run.device)
        run.log(len(texts), "captions", int(used.sum()), "tokens")

    def batch(self, which_set, chosen):
        """Tokens of the chosen pictures: some empty, some with an unknown word pushed in, so that it does no harm later."""
        tokens = self.tokens[self.of_set[which_set][chosen]].clone()
        count, device = len(tokens), tokens.device
        tokens[torch.rand(count, device=device) < CAPTION_DROPOUT] = self.empty
        inserted = torch.rand(count, device=device) < UNKNOWN_WORD
        position = torch.randint(1, 8, (count, 1), device=device)
        column = torch.arange(tokens.shape[1], device=device)[None]
        words = self.unknown[torch.randint(0, len(self.unknown), (count, 1), device=device)]
        longer = torch.where(column > position, tokens.roll(1, 1), tokens)
        longer = torch.where(column == position, words, longer)
        not_empty = tokens[:, 1:2] != END
        return torch.where(inserted[:, None] & not_empty, longer, tokens)


class Diffusion:
    """The two networks in training, their moving averages and their optimizer."""

    def __init__(self, run, captions):
        self.unet = run.place(UNet())
        self.text = TextEncoder().to(run.device)
        self.mask_unused_words(captions.used)
        self.averages = [copy.deepcopy(net).requires_grad_(False) for net in (self.unet, self.text)]
        self.parameters = [*self.unet.parameters(), *self.text.parameters()]
        groups = [{"params": self.unet.parameters()}, {"params": self.text.parameters(), "weight_decay": 0.0}]
        fused = {"fused": True} if run.device == "cuda" else {}  # PyTorch 1.13, for CPUs, does not know the word
        self.optimizer = torch.optim.AdamW(groups, 4e-4, betas=(0.9, 0.99), weight_decay=0.01, **fused)

    def mask_unused_words(self, used):
        """Words outside the captions stay zero: the file packs smaller, and training meets some of them as unknown."""
        weight = self.text.text_model.embeddings.token_embedding.weight
        weight.data.mul_(used)
        weight.register_hook(lambda gradient: gradient * used)

    def follow(self, iteration):
        weight = average_weight(iteration, 0.9995)
        for average, network in zip(self.averages, (self.unet, self.text)):
            move_average(average, network, weight)


def diffusion_loss(run, nets, alphas, latents, tokens):
    """Squared error of the predicted noise at random timesteps, weighted by min(SNR, cap) / SNR."""
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, TIMESTEPS, (len(latents),), device=run.device)
    alpha = alphas[timesteps][:, None, None, None]
    noisy = (alpha.sqrt() * latents + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    with run.autocast():
        predicted = nets.unet(noisy, timesteps, nets.text(tokens))
    error = ((predicted.float() - noise) ** 2).mean((1, 2, 3))
    snr = (alphas / (1 - alphas))[timesteps]
    return (error * snr.clamp(max=SNR_CAP) / snr).mean()


def rate_at(iteration, progress):
    """Half a thousand iterations of warm-up, level until 30 % of the time, then down a cosine."""
    return 4e-4 * min(1, (iteration + 1) / 500) * (1 if progress < 0.3 else cosine((progress - 0.3) / 0.7))


def latent_scale(latent_sets):
    """What brings the latents to unit variance."""
    return 1 / float(torch.cat([latents.float().flatten()[:2_000_000] for latents, _ in latent_sets]).std())


def train_diffusion(run, latent_sets, tokenizer, minutes, batch):
    """Trains for so many minutes; returns the moving averages (unet, text encoder) and the latent scale."""
    scale = latent_scale(latent_sets)
    run.log("latent scale", scale)
    captions = Captions(run, tokenizer, latent_sets)
    nets = Diffusion(run, captions)
    alphas = alphas_cumprod().to(run.device)
    area = np.array([latents.shape[2] * latents.shape[3] for latents, _ in latent_sets], float)
    odds = np.array([len(latents) for latents, _ in latent_sets]) * area
    odds /= odds.sum()
    rng, started, iteration, smooth_loss = np.random.default_rng(5), time.time(), 0, None
    while (elapsed := time.time() - started) < minutes * 60:
        set_rate(nets.optimizer, rate_at(iteration, elapsed / minutes / 60))
        which = rng.choice(len(latent_sets), p=odds)
        latents = latent_sets[which][0]
        chosen = torch.randint(0, len(latents), (max(1, int(batch * 256 / area[which])),), device=run.device)
        tokens = captions.batch(which, chosen)
        loss = diffusion_loss(run, nets, alphas, latents[chosen].float() * scale, tokens)
        step(nets.optimizer, nets.parameters, loss)
        iteration += 1
        nets.follow(iteration)
        if iteration % 500 == 0 or run.smoke:
            smooth_loss = loss.item() if smooth_loss is None else 0.8 * smooth_loss + 0.2 * loss.item()
            run.log("unet", iteration, f"loss {smooth_loss:.4f}")
        if run.smoke and iteration >= 3:
            break
    unet, text = nets.averages
    text.text_model.embeddings.token_embedding.weight.data.mul_(captions.used)
    run.log("iterations", iteration)
    return unet.eval(), text.eval(), scale
