"""The denoising network, with SD1's key names: noisy latents [n, 4, h, w], timesteps [n] and text [n, 77, width] to noise."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from layers import attention, group_norm, join_heads, split_heads


def timestep_embedding(timesteps, width):
    """[n] to [n, width]: cosines, then sines, of frequencies from 1 down to 1/10000."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = timesteps[:, None].float() * frequencies.to(timesteps.device)[None]
    return torch.cat([angles.cos(), angles.sin()], 1)


class Residual(nn.Module):
    def __init__(self, inputs, outputs, embedding):
        super().__init__()
        self.in_layers = nn.Sequential(group_norm(inputs, 1e-5), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, 1, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outputs))
        self.out_layers = nn.Sequential(
            group_norm(outputs, 1e-5), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outputs, outputs, 3, 1, 1)
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, embedding, text):
        y = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(y)


class Attention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x, context):
        query, key, value = self.to_q(x), self.to_k(context), self.to_v(context)
        query, key, value = [split_heads(part, self.heads) for part in (query, key, value)]
        return self.to_out(join_heads(attention(query, key, value)))


class GatedGelu(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.proj = nn.Linear(width, outputs * 2)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(GatedGelu(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.attn1 = Attention(width, width, heads)
        self.ff = FeedForward(width)
        self.attn2 = Attention(width, context, heads)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x, text):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.norm = group_norm(width)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context, heads)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x, embedding, text):
        y = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            y = block(y, text)
        return x + self.proj_out(y.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x, embedding, text):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x, embedding, text):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class InputConv(nn.Conv2d):
    def forward(self, x, embedding, text):
        return super().forward(x)


class Stage(nn.Sequential):
    """A sequence whose members all take (x, embedding, text)."""

    def forward(self, x, embedding, text):
        for module in self:
            x = module(x, embedding, text)
        return x


class UNet(nn.Module):
    def __init__(self, channels=64, multipliers=(1, 2, 4), blocks=2, context=128, heads=8, attends=(0, 1, 1)):
        super().__init__()
        self.channels = channels
        embedding = channels * 4
        self.time_embed = nn.Sequential(
            nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.input_blocks = nn.ModuleList([Stage(InputConv(4, channels, 3, 1, 1))])
        width, skips = channels, [channels]
        for index, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                modules = [Residual(width, channels * multiplier, embedding)]
                width = channels * multiplier
                if attends[index]:
                    modules.append(SpatialTransformer(width, context, heads))
                self.input_blocks.append(Stage(*modules))
                skips.append(width)
            if index < len(multipliers) - 1:
                self.input_blocks.append(Stage(Downsample(width)))
                skips.append(width)
        self.middle_block = Stage(
            Residual(width, width, embedding),
            SpatialTransformer(width, context, heads),
            Residual(width, width, embedding),
        )
        self.output_blocks = nn.ModuleList()
        for index, multiplier in reversed(list(enumerate(multipliers))):
            for i in range(blocks + 1):
                modules = [Residual(width + skips.pop(), channels * multiplier, embedding)]
                width = channels * multiplier
                if attends[index]:
                    modules.append(SpatialTransformer(width, context, heads))
                if index and i == blocks:
                    modules.append(Upsample(width))
                self.output_blocks.append(Stage(*modules))
        self.out = nn.Sequential(group_norm(width, 1e-5), nn.SiLU(), nn.Conv2d(width, 4, 3, 1, 1))
        self.start_as_identity()

    def start_as_identity(self):
        """The last layer of every residual branch starts at zero, so that training starts gently."""
        nn.init.zeros_(self.out[2].weight)
        nn.init.zeros_(self.out[2].bias)
        for module in self.modules():
            if isinstance(module, Residual):
                nn.init.zeros_(module.out_layers[3].weight)
            if isinstance(module, SpatialTransformer):
                nn.init.zeros_(module.proj_out.weight)

    def forward(self, x, timesteps, text):
        embedding = self.time_embed(timestep_embedding(timesteps, self.channels))
        skips = []
        for block in self.input_blocks:
            x = block(x, embedding, text)
            skips.append(x)
        x = self.middle_block(x, embedding, text)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], 1), embedding, text)
        return self.out(x)
