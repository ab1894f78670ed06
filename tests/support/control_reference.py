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
        return emb if label is None else emb + self.labels(label)

    def labels(self, label):
        return self.lin("label_emb.0.2", F.silu(self.lin("label_emb.0.0", label)))

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
        h = self.res("middle_block.2", self.transformer("middle_block.1", h, text), emb)
        return skips, h + inputs[i] if inputs and inputs.get(i) is not None else h

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


def encoder_of(unet):
    return {k: tuple(v.shape) for k, v in unet.items() if k.split(".")[0] in ("input_blocks", "middle_block", "time_embed", "label_emb")}


def control_of(unet, leaves=lambda name: True, types=0):
    """A ControlNet; leaves: which of the encoder's tensors it has; types: of a union."""
    shapes = {k: s for k, s in encoder_of(unet).items() if leaves(k)}
    shapes.update(rest_of(unet))
    if types:
        c, embed = unet["input_blocks.0.0.weight"].shape[0], unet["time_embed.0.weight"].shape[0]
        shapes.update(union_shapes(types, c, embed))
    return {k: weight(k, s) for k, s in shapes.items()}


def rest_of(unet):
    """What a ControlNet has besides the encoder."""
    shapes = dict(hint_shapes(unet["input_blocks.0.0.weight"].shape[0]))
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
    return shapes


def union_shapes(types, c, embed):
    layer = "transformer_layes.0."
    return {"task_embedding": (types, c),
            layer + "attn.in_proj_weight": (3 * c, c), layer + "attn.in_proj_bias": (3 * c,),
            layer + "attn.out_proj.weight": (c, c), layer + "attn.out_proj.bias": (c,),
            layer + "ln_1.weight": (c,), layer + "ln_1.bias": (c,), layer + "ln_2.weight": (c,), layer + "ln_2.bias": (c,),
            layer + "mlp.c_fc.weight": (4 * c, c), layer + "mlp.c_fc.bias": (4 * c,),
            layer + "mlp.c_proj.weight": (c, 4 * c), layer + "mlp.c_proj.bias": (c,),
            "spatial_ch_projs.weight": (c, c), "spatial_ch_projs.bias": (c,),
            "control_add_embedding.linear_1.weight": (embed, 256 * types), "control_add_embedding.linear_1.bias": (embed,),
            "control_add_embedding.linear_2.weight": (embed, embed), "control_add_embedding.linear_2.bias": (embed,)}


def low_rank_of(unet):
    """The model's encoder changed by a control-LoRA of rank 4; its vectors stay."""
    tensors = {}
    for name, shape in encoder_of(unet).items():
        tensors[name] = unet[name]
        if len(shape) > 1:
            stem = name[:-len("weight")]
            up, down = weight(stem + "up", (shape[0], 4)), weight(stem + "down", (4,) + shape[1:])
            tensors[name] = unet[name] + (up @ down.flatten(1)).reshape(shape)
    tensors.update({k: weight(k, s) for k, s in rest_of(unet).items()})
    return tensors


def difference_of(unet):
    tensors = control_of(unet)
    return {k: v + unet[k] if k in unet else v for k, v in tensors.items()}


def union_parts(net, hint, kind, types):
    """The picture's features and the time's share, as a union has them; kind None: not told."""
    half = 128
    f = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
    switches = torch.zeros(types)
    if kind is not None:
        switches[kind] = 1
    waves = torch.cat([(switches[:, None] * f).cos(), (switches[:, None] * f).sin()], -1).reshape(1, -1)
    time = net.lin("control_add_embedding.linear_2", F.silu(net.lin("control_add_embedding.linear_1", waves)))
    if kind is None:
        return hint, time
    c, heads, layer = hint.shape[1], 8, "transformer_layes.0."
    x = (hint.mean((2, 3)) + net.t["task_embedding"][kind])[:, None]
    y = F.layer_norm(x, (c,), net.t[layer + "ln_1.weight"], net.t[layer + "ln_1.bias"])
    q, k, v = F.linear(y, net.t[layer + "attn.in_proj_weight"], net.t[layer + "attn.in_proj_bias"]).chunk(3, -1)
    q, k, v = (t.reshape(1, 1, heads, -1).transpose(1, 2) for t in (q, k, v))
    p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    x = x + net.lin(layer + "attn.out_proj", (p @ v).transpose(1, 2).reshape(1, 1, c))
    y = net.lin(layer + "mlp.c_fc", F.layer_norm(x, (c,), net.t[layer + "ln_2.weight"], net.t[layer + "ln_2.bias"]))
    x = x + net.lin(layer + "mlp.c_proj", y * torch.sigmoid(1.702 * y))
    return hint + net.lin("spatial_ch_projs", x[:, 0])[:, :, None, None], time


def run_control(net, x, t, text, label, picture, kind=None, types=0, averages=False):
    hint, time = picture, 0
    for i in range(8):
        hint = net.conv(f"input_hint_block.{2 * i}", hint, 2 if i in (2, 4, 6) else 1)
        if i < 7:
            hint = F.silu(hint)
    if types:
        hint, time = union_parts(net, hint, kind, types)
    skips, middle = net.encode(x, net.time(t, None) + time + (net.labels(label) if label is not None else 0), text, hint)
    out = [net.conv(f"zero_convs.{i}.0", s, padding=0) for i, s in enumerate(skips)]
    out += [net.conv("middle_block_out.0", middle, padding=0)]
    return [o.mean((2, 3), keepdim=True).expand_as(o) for o in out] if averages else out


def adapter_of(channels, wide=False):
    """A full T2I-Adapter: two blocks a level, the first of each level but the first halves."""
    out = {"conv_in.weight": (channels[0], 768 if wide else 192, 3, 3), "conv_in.bias": (channels[0],)}
    for i in range(2 * len(channels)):
        c = channels[i // 2]
        if i and i % 2 == 0 and channels[i // 2 - 1] != c:
            out[f"body.{i}.in_conv.weight"], out[f"body.{i}.in_conv.bias"] = (c, channels[i // 2 - 1], 1, 1), (c,)
        out[f"body.{i}.block1.weight"], out[f"body.{i}.block1.bias"] = (c, c, 3, 3), (c,)
        out[f"body.{i}.block2.weight"], out[f"body.{i}.block2.bias"] = (c, c, 1, 1), (c,)
    return {k: weight(k, s) for k, s in out.items()}


def halved(x):
    """An odd side gets a line of zeros at both ends, which count."""
    return F.avg_pool2d(x, 2, padding=(x.shape[2] % 2, x.shape[3] % 2))


def run_adapter(net, picture, levels, wide=False):
    """Features by input block."""
    x = net.conv("conv_in", F.pixel_unshuffle(picture, 16 if wide else 8))
    found = {}
    for i in range(2 * levels):
        if i and i % 2 == 0 and (not wide or i == 4):
            x = halved(x)
        if f"body.{i}.in_conv.weight" in net.t:
            x = net.conv(f"body.{i}.in_conv", x, padding=0)
        x = x + net.conv(f"body.{i}.block2", F.relu(net.conv(f"body.{i}.block1", x)), padding=0)
        if i % 2:
            found[(3, 5, 8, 9)[i // 2] if wide else 3 * (i // 2) + 2] = x
    return found


def light_of(channels):
    """A light T2I-Adapter of one colour plane: four narrow blocks a level."""
    out, taken = {}, 64
    for i, c in enumerate(channels):
        out[f"body.{i}.in_conv.weight"], out[f"body.{i}.in_conv.bias"] = (c // 4, taken, 1, 1), (c // 4,)
        for k in range(4):
            for block in ("block1", "block2"):
                name = f"body.{i}.body.{k}.{block}."
                out[name + "weight"], out[name + "bias"] = (c // 4, c // 4, 3, 3), (c // 4,)
        out[f"body.{i}.out_conv.weight"], out[f"body.{i}.out_conv.bias"] = (c, c // 4, 1, 1), (c,)
        taken = c
    return {k: weight(k, s) for k, s in out.items()}


def run_light(net, picture, levels):
    x = F.pixel_unshuffle(picture.mean(1, keepdim=True), 8)
    found = {}
    for i in range(levels):
        x = net.conv(f"body.{i}.in_conv", halved(x) if i else x, padding=0)
        for k in range(4):
            x = x + net.conv(f"body.{i}.body.{k}.block2", F.relu(net.conv(f"body.{i}.body.{k}.block1", x)))
        x = net.conv(f"body.{i}.out_conv", x, padding=0)
        found[3 * i + 2] = x
    return found


# --- sampling -----------------------------------------------------------------------------------------------------------------

TABLE = ((1 / torch.cumprod(1 - torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2, 0)) - 1).sqrt()
SIGMAS = [14.6146, 4.0, 1.5, 0.6, 0.0]


def sigma_of_percent(p):
    if p <= 0:
        return 999999999.9
    if p >= 1:
        return 0.0
    t = (1 - p) * 999
    low = int(t)
    return float((TABLE.log()[low] * (1 - (t - low)) + TABLE.log()[min(low + 1, 999)] * (t - low)).exp())


def timestep(sigma):
    return torch.tensor([float((TABLE.log() - math.log(sigma)).abs().argmin())])


def denoise(unet, x, sigma, text, label=None, controls=()):
    """controls: (function of x and t giving residuals and inputs, strength, start, end)"""
    t, scaled = timestep(sigma), x / math.sqrt(sigma * sigma + 1)
    residuals, inputs = None, {}
    for make, strength, start, end in controls:
        if sigma > sigma_of_percent(start) or sigma < sigma_of_percent(end):
            continue
        skips, places = make(scaled, t)
        if skips:
            residuals = [strength * r + (0 if residuals is None else residuals[i]) for i, r in enumerate(skips)]
        for k, v in places.items():
            inputs[k] = strength * v + inputs.get(k, 0)
    return x - sigma * unet.unet(scaled, t, text, label, residuals, inputs)


def euler(step, x):
    for now, then in zip(SIGMAS, SIGMAS[1:]):
        x = x + (x - step(x, now)) / now * (then - now)
    return x


def show(name, values):
    print(f"static const float {name}[] = {{")
    flat = values.flatten().tolist()
    for i in range(0, len(flat), 8):
        print("    " + ", ".join(f"{v:.9g}f" if "." in f"{v:.9g}" or "e" in f"{v:.9g}" else f"{v:.9g}.0f" for v in flat[i:i + 8]) + ",")
    print("};")


def one_evaluation(tag, file, linear):
    unet = Net(read(f"{GOLDEN}/{file}.safetensors", "model.diffusion_model."), linear)
    width = [v.shape[1] for k, v in unet.t.items() if k.endswith("attn2.to_k.weight")][0]
    x, text = numbers("x", (1, 4, H, W)), numbers("text", (1, TOKENS, width))
    picture = numbers("picture", (1, 3, 8 * H, 8 * W)) * 0.5 + 0.5
    label = numbers("label", (1, unet.t["label_emb.0.0.weight"].shape[1])) if "label_emb.0.0.weight" in unet.t else None
    t = torch.tensor([437.0])

    def controlled(name, tensors, **more):
        residuals = run_control(Net(tensors, linear), x, t, text, label, picture, **more)
        show(f"{tag}_{name}", unet.unet(x, t, text, label, [0.7 * r for r in residuals]))

    def adapted(name, found):
        show(name, unet.unet(x, t, text, label, inputs={k: 0.7 * v for k, v in found.items()}))

    residuals = run_control(Net(control_of(unet.t), linear), x, t, text, label, picture)
    show(f"{tag}_residuals", torch.stack([r.flatten()[:: max(1, r.numel() // 16)][:16] for r in residuals]))
    show(f"{tag}_plain", unet.unet(x, t, text, label))
    controlled("controlled", control_of(unet.t))
    if tag == "sd1":
        adapted("adapter_controlled", run_adapter(Net(adapter_of([64, 128, 256]), False), picture, 3))
        adapted("light_controlled", run_light(Net(light_of([64, 128, 256]), False), picture, 3))
        odd = run_adapter(Net(adapter_of([64, 128, 256]), False), picture[:, :, :56, :88], 3)
        show("odd_features", torch.cat([v.flatten()[:: max(1, v.numel() // 16)][:16] for _, v in sorted(odd.items())]))
        controlled("averaged", control_of(unet.t), averages=True)
        controlled("low_rank", low_rank_of(unet.t))
        controlled("difference", difference_of(unet.t))
    if tag == "sdxl":
        adapted("wide_controlled", run_adapter(Net(adapter_of([64, 128, 128, 128], True), False), picture, 4, True))
        controlled("mid", control_of(unet.t, lambda name: not name.startswith(("input_blocks.4.1.", "input_blocks.5.1."))))
        controlled("small", control_of(unet.t, lambda name: ".transformer_blocks." not in name and
                                       not (name.startswith("input_blocks.") and name.split(".")[2] == "1")))
        controlled("low_rank", low_rank_of(unet.t))
        controlled("union", control_of(unet.t, types=6), types=6, kind=3)
        controlled("union_untold", control_of(unet.t, types=6), types=6)
        net = Net(control_of(unet.t), linear)
        steer = (lambda x, t: (run_control(net, x, t, text, label, picture), {}), 0.7, 0, 1)
        show("sdxl_run", euler(lambda x, s: denoise(unet, x, s, text, label, [steer]), x * 14.0))


def runs():
    """Two networks with windows of their own, and a view of a part of the canvas, on SD1."""
    unet = Net(read(f"{GOLDEN}/golden-sd1.safetensors", "model.diffusion_model."), False)
    width = [v.shape[1] for k, v in unet.t.items() if k.endswith("attn2.to_k.weight")][0]
    net, adapter = Net(control_of(unet.t), False), Net(adapter_of([64, 128, 256]), False)
    text, x = numbers("text", (1, TOKENS, width)), numbers("x", (1, 4, H, W)) * 14.0
    pictures = [(numbers(name, (1, 8 * H, 8 * W, 3)) * 0.5 + 0.5).permute(0, 3, 1, 2) for name in ("a picture", "another picture")]
    first = lambda x, t: (run_control(net, x, t, text, None, pictures[0]), {})
    second = lambda x, t: (None, run_adapter(adapter, pictures[1], 3))
    third = lambda x, t: (run_control(net, x, t, text, None, pictures[1]), {})
    chain = [(first, 0.7, 0.0, 0.4), (second, 0.5, 0.2, 1.0), (third, 0.3, 0.1, 0.9)]
    show("chain_run", euler(lambda x, s: denoise(unet, x, s, text, None, chain), x))
    part = lambda x, t: (run_control(net, x, t, text, None, pictures[0][:, :, 16:48, 32:96]), {})
    show("part_run", euler(lambda x, s: denoise(unet, x, s, text, None, [(part, 1.0, 0.0, 1.0)]), x.flatten()[:4 * 4 * 8].reshape(1, 4, 4, 8)))


def main():
    print("/* Made by control_reference.py. */")
    torch.set_num_threads(1)
    with torch.no_grad():
        one_evaluation("sd1", "golden-sd1", False)
        one_evaluation("sd2", "tiny-sd2", True)
        one_evaluation("sdxl", "tiny-sdxl", True)
        runs()


if __name__ == "__main__":
    main()
