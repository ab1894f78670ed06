"""The autoencoder, with SD1's key names: pictures in -1..1, [n, 3, h, w], to latents [n, 4, h/8, w/8] and back."""
import torch.nn as nn
import torch.nn.functional as F

from layers import attention, group_norm


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.norm2 = group_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class PixelAttention(nn.Module):
    """Every pixel looks at every other; one head."""

    def __init__(self, channels):
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.norm(x)
        query, key, value = [part(y).flatten(2).transpose(1, 2)[:, None] for part in (self.q, self.k, self.v)]
        y = attention(query, key, value)[:, 0].transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(y)


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1 = Residual(channels, channels)
        self.attn_1 = PixelAttention(channels)
        self.block_2 = Residual(channels, channels)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 2, 0)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def level():
    """One resolution: a holder of blocks, named as SD1 names them (attn stays empty)."""
    holder = nn.Module()
    holder.block = nn.ModuleList()
    holder.attn = nn.ModuleList()
    return holder


class Encoder(nn.Module):
    def __init__(self, channels, multipliers, blocks, latent_channels):
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels, 3, 1, 1)
        self.down = nn.ModuleList()
        width = channels
        for index, multiplier in enumerate(multipliers):
            down = level()
            for _ in range(blocks):
                down.block.append(Residual(width, channels * multiplier))
                width = channels * multiplier
            if index < len(multipliers) - 1:
                down.downsample = Downsample(width)
            self.down.append(down)
        self.mid = Middle(width)
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv2d(width, 2 * latent_channels, 3, 1, 1)

    def forward(self, x):
        x = self.conv_in(x)
        for down in self.down:
            for block in down.block:
                x = block(x)
            if hasattr(down, "downsample"):
                x = down.downsample(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, channels, multipliers, blocks, latent_channels):
        super().__init__()
        width = channels * multipliers[-1]
        self.conv_in = nn.Conv2d(latent_channels, width, 3, 1, 1)
        self.mid = Middle(width)
        ups = []
        for index in reversed(range(len(multipliers))):
            up = level()
            for _ in range(blocks + 1):
                up.block.append(Residual(width, channels * multipliers[index]))
                width = channels * multipliers[index]
            if index > 0:
                up.upsample = Upsample(width)
            ups.insert(0, up)
        self.up = nn.ModuleList(ups)
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, z):
        x = self.mid(self.conv_in(z))
        for up in reversed(self.up):
            for block in up.block:
                x = block(x)
            if hasattr(up, "upsample"):
                x = up.upsample(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VAE(nn.Module):
    def __init__(self, channels=32, multipliers=(1, 1, 2, 4), blocks=1, latent_channels=4):
        super().__init__()
        self.encoder = Encoder(channels, multipliers, blocks, latent_channels)
        self.decoder = Decoder(channels, multipliers, blocks, latent_channels)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, x):
        """Mean and log variance of the latents."""
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, 1)
        return mean, log_variance.clamp(-30, 20)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))
