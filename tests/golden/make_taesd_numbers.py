"""Makes tests/golden/data/taesd: a small random TAESD as its pair of files, and what PyTorch makes of it.

    /usr/bin/python3 tests/golden/make_taesd_numbers.py        (needs torch; written with 1.13.1)

The networks are built as madebyollin's TAESD describes them, but 8 wide instead of 64, and with a place where the width
changes, so that a skip's own weight is tested too. Weights are float16; all is computed in float32. The expected values are
those of ComfyUI's VAE around it: decode takes raw latents and gives 0..1, encode takes 0..1 and gives raw latents."""
import json
import os
import struct

import torch
from torch import nn

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "taesd")
WIDTH, WIDER, CHANNELS, SCALE = 8, 12, 4, 0.18215


class Clamp(nn.Module):
    def forward(self, x):
        return 3 * torch.tanh(x / 3)


class Block(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv = nn.Sequential(conv(before, after), nn.ReLU(), conv(after, after), nn.ReLU(), conv(after, after))
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x):
        return torch.relu(self.conv(x) + self.skip(x))


def conv(before, after, **options):
    return nn.Conv2d(before, after, 3, padding=1, **options)


def encoder():
    layers = [conv(3, WIDTH), Block(WIDTH, WIDTH)]
    for _ in range(3):
        layers += [conv(WIDTH, WIDTH, stride=2, bias=False)] + [Block(WIDTH, WIDTH) for _ in range(3)]
    return nn.Sequential(*layers, conv(WIDTH, CHANNELS))


def decoder():
    layers = [Clamp(), conv(CHANNELS, WIDTH), nn.ReLU()]
    for level in range(3):
        widths = [WIDTH, WIDER, WIDER, WIDTH] if level == 1 else [WIDTH] * 4
        layers += [Block(a, b) for a, b in zip(widths, widths[1:])]
        layers += [nn.Upsample(scale_factor=2), conv(WIDTH, WIDTH, bias=False)]
    return nn.Sequential(*layers, Block(WIDTH, WIDTH), conv(WIDTH, 3))


def write(path, tensors):
    header, body = {}, b""
    for name, tensor in tensors.items():
        data = tensor.contiguous().numpy().tobytes()
        kind = {torch.float16: "F16", torch.float32: "F32"}[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


@torch.no_grad()
def make(network, name, example, mean, spread):
    """Random weights whose last layer brings the example's result to a mean and a spread, rounded to float16."""
    for parameter in network.parameters():
        size = parameter[0].numel() if parameter.dim() == 4 else 1
        parameter.normal_(0, (1 / size) ** 0.5 if size > 1 else 0.2)
    result, last = network(example), network[-1]
    last.weight *= spread / result.std()
    last.bias += mean - network(example).mean()
    for parameter in network.parameters():
        parameter.copy_(parameter.half().float())
    write(os.path.join(FOLDER, name + ".safetensors"), {key: value.half() for key, value in network.state_dict().items()})
    return network.eval()


@torch.no_grad()
def main():
    torch.manual_seed(20261121)
    os.makedirs(FOLDER, exist_ok=True)
    image = torch.rand(1, 3, 40, 24)
    latent = torch.randn(1, CHANNELS, 5, 7) / SCALE * 1.5
    encode = make(encoder(), "taesd_encoder", image, 0.0, 1.0)
    decode = make(decoder(), "taesd_decoder", latent * SCALE, 0.5, 0.3)
    decoded = decode(latent * SCALE)
    print("decoded: %.3f to %.3f" % (decoded.min(), decoded.max()))
    write(os.path.join(FOLDER, "expected.safetensors"), {
        "image": image.permute(0, 2, 3, 1), "encoded": encode(image) / SCALE, "latent": latent,
        "decoded": decoded.clamp(0, 1).permute(0, 2, 3, 1)})


if __name__ == "__main__":
    main()
