"""Expected numbers for test_control_net.c, computed by PyTorch code written for the test.

    /usr/bin/python3 tests/support/control_reference.py > tests/support/control_expected.inc

Needs python3-torch. Weights of the control networks and all inputs come from `numbers`, which the test repeats; the UNet's are
those of the golden checkpoints.
"""
import json
import math
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "data", "checkpoints")
H, W, TOKENS = 8, 12, 7


def numbers(name, shape):
    """Numbers in -1..1 that depend on the name and the place only."""
    seed = 2166136261
    for byte in name.encode():
        seed = ((seed ^ byte) * 16777619) & 0xFFFFFFFF
    count = int(np.prod(shape))
    x = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + seed) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & 0xFFFFFFFF
    values = ((x >> np.uint64(8)).astype(np.float64) / 16777216.0 - 0.5) * 2.0
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def weight(name, shape):
    r = numbers(name, shape)
    if len(shape) == 1:
        return 1 + r * np.float32(0.1) if name.endswith("weight") else r * np.float32(0.05)
    return r * np.float32(math.sqrt(3.0 / np.prod(shape[1:])))


def read(path, prefix):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        data = f.read()
    out = {}
    for name, entry in header.items():
        if name.startswith(prefix):
            a, b = entry["data_offsets"]
            kind = {"F16": np.float16, "F32": np.float32}[entry["dtype"]]
            values = np.frombuffer(data[a:b], dtype=kind).astype(np.float32).reshape(entry["shape"])
            out[name[len(prefix):]] = torch.from_numpy(values)
    return out


class Net:
    def __init__(self, tensors, linear):
        self.t = tensors
        self.linear = linear  # SDXL: proj_in is linear, 64 channels a head

    def conv(self, name, x, stride=1, padding=1):
        return F.conv2d(x, self.t[name + ".weight"], self.t[name + ".bias"], stride, padding)

    def lin(self, name, x):
        w = self.t[name + ".weight"]
        return F.linear(x, w.reshape(w.shape[0], -1), self.t.get(name + ".bias"))

    def group(self, name, x, eps=1e-5):
        return F.group_norm(x, min(32, x.shape[1] // 4), self.t[name + ".weight"], self.t[name + ".bias"], eps)

    def res(self, name, x, emb):
        h = self.conv(name + ".in_layers.2", F.silu(self.group(name + ".in_layers.0", x)))
        h = h + self.lin(name + ".emb_layers.1", F.silu(emb))[:, :, None, None]
        h = self.conv(name + ".out_layers.3", F.silu(self.group(name + ".out_layers.0", h)))
        if name + ".skip_connection.weight" in self.t:
            x = self.conv(name + ".skip_connection", x, padding=0)
        return x + h

    def attend(self, name, x, other, heads):
        q, k, v = (self.lin(f"{name}.to_{p}", o) for p, o in (("q", x), ("k", other), ("v", other)))
        q, k, v = (t.reshape(t.shape[0], t.shape[1], heads, -1).transpose(1, 2) for t in (q, k, v))
        p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.lin(name + ".to_out.0", (p @ v).transpose(1, 2).reshape(x.shape))

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.t[name + ".weight"], self.t[name + ".bias"])

    def transformer(self, name, x, text):
        n, c, h, w = x.shape
        heads = c // 64 if self.linear else 8
        y = self.group(name + ".norm", x, 1e-6).reshape(n, c, h * w).transpose(1, 2)
        y = self.lin(name + ".proj_in", y)
        i = 0
        while f"{name}.transformer_blocks.{i}.norm1.weight" in self.t:
            b = f"{name}.transformer_blocks.{i}"
            z = self.norm(b + ".norm1", y)
            y = y + self.attend(b + ".attn1", z, z, heads)
            y = y + self.attend(b + ".attn2", self.norm(b + ".norm2", y), text, heads)
            a, g = self.lin(b + ".ff.net.0.proj", self.norm(b + ".norm3", y)).chunk(2, -1)
            y = y + self.lin(b + ".ff.net.2", a * F.gelu(g))
            i += 1
        return x + self.lin(name + ".proj_out", y).transpose(1, 2).reshape(n, c, h, w)

    def time(self, t, label):
        half = self.t["time_embed.0.weight"].shape[1] // 2
        f = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
        a = t[:, None] * f[None]
        emb = self.lin("time_embed.2", F.silu(self.lin("time_embed.0", torch.cat([a.cos(), a.sin()], -1))))
        if label is not None:
            emb = emb + self.lin("label_emb.0.2", F.silu(self.lin("label_emb.0.0", label)))
        return emb

    def block(self, name, x, emb, text):
        if name + ".0.op.weight" in self.t:
            return self.conv(name + ".0.op", x, 2)
        x = self.res(name + ".0", x, emb)
        i = 1
        if name + ".1.norm.weight" in self.t:
            x = self.transformer(name + ".1", x, text)
            i = 2
        if f"{name}.{i}.conv.weight" in self.t:
            x = self.conv(f"{name}.{i}.conv", F.interpolate(x, scale_factor=2, mode="nearest"))
        return x

    def encode(self, x, emb, text, hint=None, inputs=None):
        h = self.conv("input_blocks.0.0", x)
        h = h if hint is None else h + hint
        skips = []
        i = 0
        while True:
            if inputs and inputs.get(i) is not None:
                h = h + inputs[i]
            skips.append(h)
            i += 1
            if not any(k.startswith(f"input_blocks.{i}.") for k in self.t):
                break
            h = self.block(f"input_blocks.{i}", h, emb, text)
        h = self.res("middle_block.0", h, emb)
        h = self.transformer("middle_block.1", h, text)
        return skips, self.res("middle_block.2", h, emb)

    def unet(self, x, t, text, label, residuals=None, inputs=None):
        emb = self.time(t, label)
        skips, h = self.encode(x, emb, text, inputs=inputs)
        if residuals:
            skips = [s + r for s, r in zip(skips, residuals)]
            h = h + residuals[-1]
        for i in range(len(skips)):
            h = self.block(f"output_blocks.{i}", torch.cat([h, skips.pop()], 1), emb, text)
        return self.conv("out.2", F.silu(self.group("out.0", h)))


def hint_shapes(channels):
    sides = [3, 16, 16, 32, 32, 96, 96, 256, channels]
    for i in range(8):
        yield f"input_hint_block.{2 * i}.weight", (sides[i + 1], sides[i], 3, 3)
        yield f"input_hint_block.{2 * i}.bias", (sides[i + 1],)


def control_of(unet):
    kept = {k: tuple(v.shape) for k, v in unet.items() if k.split(".")[0] in ("input_blocks", "middle_block", "time_embed", "label_emb")}
    shapes = dict(kept)
    shapes.update(hint_shapes(unet["input_blocks.0.0.weight"].shape[0]))
    widths = []
    i = 0
    while any(k.startswith(f"input_blocks.{i}.") for k in unet):
        last = [k for k in (f"input_blocks.{i}.0.weight", f"input_blocks.{i}.0.op.weight", f"input_blocks.{i}.0.out_layers.3.weight") if k in unet]
        widths.append(unet[last[0]].shape[0])
        i += 1
    for i, c in enumerate(widths):
        shapes[f"zero_convs.{i}.0.weight"], shapes[f"zero_convs.{i}.0.bias"] = (c, c, 1, 1), (c,)
    c = widths[-1]
    shapes["middle_block_out.0.weight"], shapes["middle_block_out.0.bias"] = (c, c, 1, 1), (c,)
    return {k: weight(k, s) for k, s in shapes.items()}


def run_control(net, x, t, text, label, picture):
    hint = picture
    for i in range(8):
        hint = net.conv(f"input_hint_block.{2 * i}", hint, 2 if i in (2, 4, 6) else 1)
        if i < 7:
            hint = F.silu(hint)
    skips, middle = net.encode(x, net.time(t, label), text, hint)
    out = [net.conv(f"zero_convs.{i}.0", s, padding=0) for i, s in enumerate(skips)]
    return out + [net.conv("middle_block_out.0", middle, padding=0)]


def adapter_of(channels):
    """A full T2I-Adapter: two blocks a level, the first of each level but the first halves."""
    out = {"conv_in.weight": (channels[0], 192, 3, 3), "conv_in.bias": (channels[0],)}
    for i in range(2 * len(channels)):
        c = channels[i // 2]
        if i and i % 2 == 0 and channels[i // 2 - 1] != c:
            out[f"body.{i}.in_conv.weight"], out[f"body.{i}.in_conv.bias"] = (c, channels[i // 2 - 1], 1, 1), (c,)
        out[f"body.{i}.block1.weight"], out[f"body.{i}.block1.bias"] = (c, c, 3, 3), (c,)
        out[f"body.{i}.block2.weight"], out[f"body.{i}.block2.bias"] = (c, c, 1, 1), (c,)
    return {k: weight(k, s) for k, s in out.items()}


def run_adapter(net, picture, levels):
    x = net.conv("conv_in", F.pixel_unshuffle(picture, 8))
    found = {}
    for i in range(2 * levels):
        if i and i % 2 == 0:
            x = F.avg_pool2d(x, 2)
        if f"body.{i}.in_conv.weight" in net.t:
            x = net.conv(f"body.{i}.in_conv", x, padding=0)
        x = x + net.conv(f"body.{i}.block2", F.relu(net.conv(f"body.{i}.block1", x)), padding=0)
        if i % 2:
            found[3 * (i // 2) + 2] = x
    return found


def show(name, values):
    print(f"static const float {name}[] = {{")
    flat = values.flatten().tolist()
    for i in range(0, len(flat), 8):
        print("    " + ", ".join(f"{v:.9g}f" if "." in f"{v:.9g}" or "e" in f"{v:.9g}" else f"{v:.9g}.0f" for v in flat[i:i + 8]) + ",")
    print("};")


def main():
    print("/* Made by control_reference.py. */")
    torch.set_num_threads(1)
    for tag, file, linear in (("sd1", "golden-sd1", False), ("sdxl", "tiny-sdxl", True)):
        unet = Net(read(f"{GOLDEN}/{file}.safetensors", "model.diffusion_model."), linear)
        net = Net(control_of(unet.t), linear)
        width = [v.shape[1] for k, v in unet.t.items() if k.endswith("attn2.to_k.weight")][0]
        x, text = numbers("x", (1, 4, H, W)), numbers("text", (1, TOKENS, width))
        picture = numbers("picture", (1, 3, 8 * H, 8 * W)) * 0.5 + 0.5
        label = numbers("label", (1, unet.t["label_emb.0.0.weight"].shape[1])) if linear else None
        t = torch.tensor([437.0])
        with torch.no_grad():
            residuals = run_control(net, x, t, text, label, picture)
            show(f"{tag}_residuals", torch.stack([r.flatten()[:: max(1, r.numel() // 16)][:16] for r in residuals]))
            show(f"{tag}_plain", unet.unet(x, t, text, label))
            show(f"{tag}_controlled", unet.unet(x, t, text, label, [0.7 * r for r in residuals]))
            if not linear:
                channels = [64, 128, 256]
                found = run_adapter(Net(adapter_of(channels), False), picture, 3)
                show("adapter_controlled", unet.unet(x, t, text, label, inputs={k: 0.7 * v for k, v in found.items()}))


if __name__ == "__main__":
    main()
