#!/usr/bin/python3
"""Adapter files of every kind and naming for the golden checkpoints, and what they make of the weights, by PyTorch.

    /usr/bin/python3 tests/golden/make_adapter_numbers.py        (Debian's python3-torch and python3-numpy)

writes tests/golden/data/adapters/: FAMILY-KIND.safetensors, and FAMILY-expected.safetensors with a tensor "CASE|KEY" for each
checkpoint tensor that a case changes; and tests/golden/data/embeddings/. A case is files with strengths, "lora:0.6+dora_out:1". A weight [out, in, ...] is told by
W' X, X [in ..., 2] of a fixed rule (probe below); a vector by its values. Weights are merged in float64 by the definitions of
ComfyUI 0.8.0's comfy/weight_adapter: this file states the formulas, no code of it is used.
"""
import json
import pathlib
import struct

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "data"
OUT = DATA / "adapters"
U = "model.diffusion_model."
EPS = torch.finfo(torch.float32).eps
STRENGTHS = ("1", "0.6", "-0.5")
RANK = 2


# --- files -----------------------------------------------------------------------------------------------------------
def read_safetensors(path):
    kinds = {"F16": np.float16, "F32": np.float32}
    blob = path.read_bytes()
    size = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, view in header.items():
        if view["dtype"] not in kinds:
            continue
        begin, end = (8 + size + at for at in view["data_offsets"])
        values = np.frombuffer(blob[begin:end], kinds[view["dtype"]]).reshape(view["shape"])
        out[name] = torch.from_numpy(values.astype(np.float64))
    return out


def write_safetensors(path, tensors, half):
    header, data = {}, b""
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name].numpy().astype(np.float16 if half else np.float32))
        header[name] = {"dtype": "F16" if half else "F32", "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# --- layers: (family's checkpoint key, LDM name, diffusers name); text layers have Hugging Face's name twice -----------
class Layer:
    def __init__(self, key, name, diffusers=None, rows=None, vector=False):
        self.key, self.name, self.diffusers = key, name, diffusers or name
        self.rows = rows            # of a tensor that holds several layers: (which, of how many)
        self.vector = vector        # a norm's weight
        self.text = not key.startswith(U)


def unet(name, diffusers, **more):
    return Layer(f"{U}{name}.weight", name, diffusers, **more)


def hugging(prefix, name, **more):
    return Layer(f"{prefix}.transformer.text_model.encoder.layers.{name}.weight",
                 f"text_model.encoder.layers.{name}", **more)


def open_clip(prefix, block, name, **more):
    return Layer(f"{prefix}.model.transformer.resblocks.{block}", f"text_model.encoder.layers.{name}", **more)


def block(number, place):
    """Layers of an attention block, input_blocks.NUMBER.1 being down_blocks.PLACE."""
    ldm, other = f"input_blocks.{number}.1.", f"down_blocks.{place}."
    inner = "transformer_blocks.0."
    return {
        "proj_in": unet(ldm + "proj_in", other + "proj_in"),
        "q": unet(ldm + inner + "attn1.to_q", other + inner + "attn1.to_q"),
        "v": unet(ldm + inner + "attn1.to_v", other + inner + "attn1.to_v"),
        "out": unet(ldm + inner + "attn1.to_out.0", other + inner + "attn1.to_out.0"),
        "cross_q": unet(ldm + inner + "attn2.to_q", other + inner + "attn2.to_q"),
        "cross_k": unet(ldm + inner + "attn2.to_k", other + inner + "attn2.to_k"),
        "norm": unet(ldm + inner + "norm1", other + inner + "norm1", vector=True),
        "group": unet(ldm + "norm", other + "norm", vector=True),
    }


def convolutions():
    return {
        "conv_in": unet("input_blocks.0.0", "conv_in"),
        "conv_out": unet("out.2", "conv_out"),
        "conv": unet("input_blocks.1.0.in_layers.2", "down_blocks.0.resnets.0.conv1"),
        "emb": unet("input_blocks.1.0.emb_layers.1", "down_blocks.0.resnets.0.time_emb_proj"),
        "down": unet("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
        "up": unet("output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv"),
        "res_norm": unet("input_blocks.1.0.out_layers.0", "down_blocks.0.resnets.0.norm2", vector=True),
    }


def family_sd1():
    te = "cond_stage_model"
    text = {"te_k": hugging(te, "0.self_attn.k_proj"), "te_fc": hugging(te, "1.mlp.fc2"),
            "te_norm": hugging(te, "0.layer_norm2", vector=True)}
    return "golden-sd1", {**block(4, "1.attentions.0"), **convolutions(), **text}, ("lora_te_", "text_encoder.", "clip_l")


def family_sd2():
    te = "cond_stage_model"
    text = {"te_k": open_clip(te, "0.attn.in_proj_weight", "0.self_attn.k_proj", rows=(1, 3)),
            "te_fc": open_clip(te, "0.mlp.c_fc.weight", "0.mlp.fc1"),
            "te_norm": open_clip(te, "0.ln_2.weight", "0.layer_norm2", vector=True)}
    layers = {**block(1, "0.attentions.0"), **convolutions(), **text}
    for name in ("down", "up"):  # one residual block a level here: these are elsewhere
        del layers[name]
    return "tiny-sd2", layers, ("lora_te_", "text_encoder.", "clip_h")


def family_sdxl():
    one, two = "conditioner.embedders.0", "conditioner.embedders.1"
    text = {"te_k": hugging(one, "0.self_attn.k_proj"), "te_fc": hugging(one, "1.mlp.fc2"),
            "te_norm": hugging(one, "0.layer_norm2", vector=True),
            "te2_v": open_clip(two, "0.attn.in_proj_weight", "0.self_attn.v_proj", rows=(2, 3)),
            "te2_fc": open_clip(two, "0.mlp.c_proj.weight", "0.mlp.fc2")}
    label = {"label": unet("label_emb.0.2", "add_embedding.linear_2")}
    return "tiny-sdxl", {**block(4, "1.attentions.0"), **convolutions(), **text, **label}, \
        ("lora_te1_", "text_encoder.", "clip_l")


# --- names -----------------------------------------------------------------------------------------------------------
def is_second(layer):
    return layer.key.startswith("conditioner.embedders.1")


def name_kohya(layer, te):
    if layer.text:
        return ("lora_te2_" if is_second(layer) else te[0]) + layer.name.replace(".", "_")
    return "lora_unet_" + layer.name.replace(".", "_")


def name_kohya_diffusers(layer, te):
    return name_kohya(layer, te) if layer.text else "lora_unet_" + layer.diffusers.replace(".", "_")


def name_simpletuner(layer, te):
    return name_kohya(layer, te) if layer.text else "lycoris_" + layer.diffusers.replace(".", "_")


def name_diffusers(layer, te):
    if layer.text:
        return ("text_encoder_2." if is_second(layer) else te[1]) + layer.name
    return "unet." + layer.diffusers


def name_peft(layer, te):
    if layer.text:
        return ("text_encoder_2." if is_second(layer) else te[1]) + "base_model.model." + layer.name
    return "base_model.model." + layer.diffusers


def name_comfy(layer, te):
    if layer.text:
        return f"text_encoders.{'clip_g' if is_second(layer) else te[2]}.transformer.{layer.name}"
    return "diffusion_model." + layer.name


def name_processor(layer, te):
    del te
    return "unet." + layer.diffusers.replace(".to_", ".processor.to_").replace("to_out.0", "to_out")


# --- kinds: tensors of a layer, and the merged weight ------------------------------------------------------------------
generator = torch.Generator().manual_seed(20261121)


def noise(*shape):
    """Values that float16 holds exactly."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(torch.float16).to(torch.float64)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def flat(t):
    return t.reshape(t.shape[0], -1)


def make_lora(shape, alpha=True, mid=False):
    out, rest = shape[0], shape[1:]
    small = float(flat(torch.empty(shape)).shape[1]) ** -0.5
    parts = {"up": noise(out, RANK, *[1] * (len(shape) - 2)) * 0.5, "down": noise(RANK, *rest) * small}
    if mid:
        parts["down"] = noise(RANK, rest[0], 1, 1) * small
        parts["mid"] = noise(RANK, RANK, *rest[1:]) * 0.5
    if alpha:
        parts["alpha"] = scalar(1.5)
    return half(parts)


def half(parts):
    return {k: v.to(torch.float16).to(torch.float64) for k, v in parts.items()}


def scale_of(parts, rank):
    return parts["alpha"].item() / rank if "alpha" in parts else 1.0


def delta_lora(parts, weight):
    down = parts["down"]
    if "mid" in parts:
        down = torch.einsum("ijkl,jn->inkl", parts["mid"], flat(down))
    product = flat(parts["up"]) @ flat(down)
    return product.reshape(weight.shape) * scale_of(parts, parts["down"].shape[0])


def make_loha(shape, cores=False, alpha=True):
    out, inputs = shape[0], shape[1]
    columns = int(np.prod(shape[1:]))
    parts = {}
    for n in "12":
        parts[f"hada_w{n}_a"] = noise(RANK, out) if cores else noise(out, RANK)
        parts[f"hada_w{n}_b"] = noise(RANK, inputs if cores else columns) * (columns ** -0.25)
        if cores:
            parts[f"hada_t{n}"] = noise(RANK, RANK, *shape[2:]) * 0.5
    if alpha:
        parts["alpha"] = scalar(1.0)
    return half(parts)


def delta_loha(parts, weight):
    sides = []
    for n in "12":
        a, b = parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"]
        if f"hada_t{n}" in parts:
            sides.append(torch.einsum("ijkl,jr,ip->prkl", parts[f"hada_t{n}"], b, a))
        else:
            sides.append(a @ b)
    return (sides[0] * sides[1]).reshape(weight.shape) * scale_of(parts, parts["hada_w1_b"].shape[0])


def make_lokr(shape, one_whole, two_whole, core=False):
    out, inputs = shape[0] // 4, shape[1] // 2
    parts = {"alpha": scalar(1.5)}
    if one_whole:
        parts["lokr_w1"] = noise(4, 2) * 0.5
    else:
        parts["lokr_w1_a"], parts["lokr_w1_b"] = noise(4, RANK) * 0.5, noise(RANK, 2)
    small = float(inputs * np.prod(shape[2:])) ** -0.5
    if two_whole:
        parts["lokr_w2"] = noise(out, inputs, *shape[2:]) * small
    elif core:
        parts["lokr_t2"] = noise(RANK, RANK, *shape[2:])
        parts["lokr_w2_a"], parts["lokr_w2_b"] = noise(RANK, out) * small, noise(RANK, inputs)
    else:
        parts["lokr_w2_a"] = noise(out, RANK)
        parts["lokr_w2_b"] = noise(RANK, inputs * int(np.prod(shape[2:]))) * small
    return half(parts)


def delta_lokr(parts, weight):
    rank = None
    one = parts.get("lokr_w1")
    if one is None:
        rank = parts["lokr_w1_b"].shape[0]
        one = parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    two = parts.get("lokr_w2")
    if two is None:
        rank = parts["lokr_w2_b"].shape[0]
        if "lokr_t2" in parts:
            two = torch.einsum("ijkl,jr,ip->prkl", parts["lokr_t2"], parts["lokr_w2_b"], parts["lokr_w2_a"])
        else:
            two = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    if two.dim() == 4:
        one = one[:, :, None, None]
    scale = 1.0 if rank is None else scale_of(parts, rank)
    return torch.kron(one.contiguous(), two.contiguous()).reshape(weight.shape) * scale


def make_glora(shape, old=False):
    out, inputs, columns = shape[0], shape[1], int(np.prod(shape[1:]))
    small = 0.3 * inputs ** -0.5
    if old:
        parts = {"a1": noise(RANK, columns) * small, "a2": noise(columns, RANK), "b1": noise(RANK, columns) * small,
                 "b2": noise(out, RANK) * 0.3}
    else:
        parts = {"a1": noise(inputs, RANK) * small, "a2": noise(RANK, inputs), "b1": noise(out, RANK) * 0.3,
                 "b2": noise(RANK, *shape[1:]) * small}
    parts["alpha"] = scalar(1.5)
    return half(parts)


def delta_glora(parts, weight):
    a1, a2, b1, b2 = (flat(parts[k]) for k in ("a1", "a2", "b1", "b2"))
    if parts["b2"].shape[0] != RANK:  # the old order
        changed = flat(weight) @ a2 @ a1 + b2 @ b1
        return changed.reshape(weight.shape) * scale_of(parts, a1.shape[0])
    changed = torch.einsum("oi...,ij->oj...", torch.einsum("oi...,ij->oj...", weight, a1), a2)
    return (changed + (b1 @ b2).reshape(weight.shape)) * scale_of(parts, a2.shape[0])


def make_oft(shape, alpha, rounds=0, rescale=False):
    n, count = 8, shape[0] // 8
    parts = {"oft_blocks": noise(*([rounds] if rounds else []), count, n, n) * 0.15}
    if alpha:
        parts["alpha"] = scalar(alpha)
    if rescale:
        parts["rescale"] = 1 + 0.25 * noise(shape[0], *[1] * (len(shape) - 1))
    return half(parts)


def rotations(parts):
    q = parts["oft_blocks"] - parts["oft_blocks"].transpose(-1, -2)
    limit = parts["alpha"].item() if "alpha" in parts else 0.0
    length = torch.norm(q) + 1e-8
    if 0 < limit < length:
        q = q * limit / length
    one = torch.eye(q.shape[-1], dtype=torch.float64)
    return (one + q) @ torch.linalg.inv(one - q)


def merge_oft(parts, weight, strength):
    r = rotations(parts)
    one = torch.eye(r.shape[-1], dtype=torch.float64)
    if r.dim() == 3:
        blocks = weight.reshape(r.shape[0], r.shape[1], *weight.shape[1:])
        turned = torch.einsum("knm,kn...->km...", (r - one) * strength, blocks).reshape(weight.shape)
        return weight + strength * turned
    now = weight
    for i in range(r.shape[0]):
        apart = 2 ** i * (r.shape[-1] // 2)
        tail = now.shape[1:]
        now = now.reshape(-1, 2, apart, *tail).transpose(1, 2).reshape(-1, r.shape[-1], *tail)
        now = torch.einsum("bij,bj...->bi...", r[i] * strength + (1 - strength) * one, now)
        now = now.reshape(-1, apart, 2, *tail).transpose(1, 2).reshape(weight.shape)
    if "rescale" in parts:
        now = now * parts["rescale"]
    return weight + strength * (now - weight)


def make_difference(shape):
    return half({"diff": noise(*shape) * 0.1, "diff_b": noise(shape[0]) * 0.1})


def make_norm(shape):
    return half({"w_norm": noise(*shape) * 0.2, "b_norm": noise(*shape) * 0.2})


def with_dora(parts, shape, by_output):
    tail = [1] * (len(shape) - 2)
    side = [shape[0], 1] if by_output else [1, shape[1]]
    dora = (1.0 + 0.3 * noise(*side, *tail).abs())
    return {**parts, **half({"dora_scale": dora})}


def merge(parts, weight, strength):
    """One layer's weight with one adapter merged in."""
    if "oft_blocks" in parts:
        return merge_oft(parts, weight, strength)
    for part, delta in (("up", delta_lora), ("hada_w1_a", delta_loha), ("a1", delta_glora)):
        if part in parts:
            difference = delta(parts, weight)
            break
    else:
        whole = parts.get("diff", parts.get("w_norm"))
        difference = delta_lokr(parts, weight) if whole is None else whole.reshape(weight.shape)
    if "dora_scale" not in parts:
        return weight + strength * difference
    changed = weight + difference
    scale = parts["dora_scale"]
    if scale.shape[0] == weight.shape[0]:  # rows, measured before the change
        length = flat(weight).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
    else:                                  # inputs, measured after it
        length = flat(changed.transpose(0, 1)).norm(dim=1).reshape(1, -1, *[1] * (weight.dim() - 2))
    changed = changed * (scale / (length + EPS))
    return weight + strength * (changed - weight)


# --- how parts are called in files ------------------------------------------------------------------------------------
KOHYA = {"up": ".lora_up.weight", "down": ".lora_down.weight", "mid": ".lora_mid.weight"}
ENDINGS = {
    "kohya": KOHYA,
    "peft": {"up": ".lora_B.weight", "down": ".lora_A.weight"},
    "peft_default": {"up": ".lora_B.default.weight", "down": ".lora_A.default.weight"},
    "dots": {"up": ".lora.up.weight", "down": ".lora.down.weight"},
    "processor": {"up": "_lora.up.weight", "down": "_lora.down.weight"},
    "transformers": {"up": ".lora_linear_layer.up.weight", "down": ".lora_linear_layer.down.weight"},
}


def part_name(layer_name, part, ending):
    if part in ("a1", "a2", "b1", "b2"):
        return f"{layer_name}.{part}.weight"
    return layer_name + ENDINGS[ending].get(part, "." + part)


# --- the files of a family --------------------------------------------------------------------------------------------
def plan(layers, shape):
    """KIND: (namer, ending, {layer: parts}). Layers that the family lacks are left out."""
    lora = lambda *names, **how: {n: make_lora(shape(n), **how) for n in names if n in layers}
    some = lambda makers: {n: make(shape(n)) for n, make in makers.items() if n in layers}
    plain = ("q", "cross_k", "proj_in")
    return {
        "lora": (name_kohya, "kohya", lora(*plain, "te_k", "te_fc", "te2_v", "te2_fc", "label")),
        "locon": (name_kohya, "kohya", {**lora("conv", "down"), **lora("up", "conv_out", alpha=False)}),
        "locon_mid": (name_kohya_diffusers, "kohya", lora("conv", "down", mid=True)),
        "loha": (name_kohya, "kohya", some({
            "v": make_loha, "proj_in": lambda s: make_loha(s, alpha=False), "te_k": make_loha,
            "conv": lambda s: make_loha(s, cores=True), "conv_out": make_loha})),
        "lokr": (name_kohya, "kohya", some({
            "q": lambda s: make_lokr(s, True, True), "cross_k": lambda s: make_lokr(s, True, False),
            "proj_in": lambda s: make_lokr(s, False, False), "te_k": lambda s: make_lokr(s, False, True),
            "conv": lambda s: make_lokr(s, True, False, core=True), "conv_out": lambda s: make_lokr(s, True, True),
            "down": lambda s: make_lokr(s, True, False)})),
        "dora_out": (name_kohya, "kohya", {n: with_dora(p, shape(n), True) for n, p in {
            **lora("q", "cross_q", "proj_in", "conv", "up", "te_k"),
            **some({"out": make_loha, "cross_k": lambda s: make_lokr(s, True, False)})}.items()}),
        "dora_in": (name_kohya, "kohya", {n: with_dora(p, shape(n), False) for n, p in {
            **lora("q", "cross_q", "proj_in", "conv", "up", "te_k"),
            **some({"out": make_loha})}.items()}),
        "full": (name_kohya, "kohya", {**some({"conv_out": make_difference, "conv_in": make_difference,
                                               "norm": make_norm, "group": make_norm, "res_norm": make_norm,
                                               "te_norm": make_norm})}),
        "glora": (name_kohya, "kohya", some({"q": make_glora, "proj_in": make_glora, "conv": make_glora,
                                             "cross_k": lambda s: make_glora(s, old=True), "te_fc": make_glora})),
        "oft": (name_kohya, "kohya", some({"q": lambda s: make_oft(s, 0.0), "out": lambda s: make_oft(s, 0.5),
                                           "conv": lambda s: make_oft(s, 1000.0), "te_k": lambda s: make_oft(s, 0.5)})),
        "boft": (name_kohya, "kohya", some({"q": lambda s: make_oft(s, 0.5, rounds=2),
                                            "conv": lambda s: make_oft(s, 0.5, rounds=3, rescale=True)})),
        "kohya_diffusers": (name_kohya_diffusers, "kohya", lora("out", "conv", "emb", "label")),
        "simpletuner": (name_simpletuner, "kohya", lora("out", "cross_q")),
        "diffusers": (name_diffusers, "peft", lora("out", "cross_k", "proj_in", "te_k", "te2_fc", alpha=False)),
        "diffusers_dots": (name_diffusers, "dots", lora("q", "conv", alpha=False)),
        "transformers": (name_diffusers, "transformers", lora("te_k", "te_fc", "te2_v", alpha=False)),
        "processor": (name_processor, "processor", lora("out", "cross_k", alpha=False)),
        "peft": (name_peft, "peft", lora("out", "conv", alpha=False)),
        "peft_default": (lambda layer, te: ("unet." if not layer.text else "") + name_peft(layer, te), "peft_default",
                         lora("v", "te_k", alpha=False)),
        "comfy": (name_comfy, "peft", lora("q", "te_k", "te2_fc", alpha=False)),
    }


NAMINGS = ("kohya_diffusers", "simpletuner", "diffusers", "diffusers_dots", "transformers", "processor", "peft",
           "peft_default", "comfy")
STACKS = ("lora:0.8+dora_out:1", "dora_out:0.6+lora:0.8", "lora:0.8+dora_in:0.5", "dora_in:1+lora:0.8",
          "lora:0.5+lora:0.25", "dora_out:0.5+dora_out:0.5", "dora_in:0.5+dora_in:0.5", "dora_in:0.7+dora_out:0.7",
          "lora:1+oft:0.5+glora:0.7", "full:1+full:-0.5")


def probe(columns):
    """X [columns, 2], the same rule as in the C test."""
    i = torch.arange(2 * columns, dtype=torch.int64)
    return (((i * 7919) % 2003 - 1001).to(torch.float64) / 1001).reshape(columns, 2)


def describe(weight):
    return weight if weight.dim() == 1 else flat(weight) @ probe(flat(weight).shape[1])


def part_of(weight, rows):
    if rows is None:
        return weight
    third = weight.shape[0] // rows[1]
    return weight[rows[0] * third:(rows[0] + 1) * third]


def run_case(case, weights, layers, adapters):
    changed = {}
    for item in case.split("+"):
        kind, strength = item.split(":")
        for name, parts in adapters[kind].items():
            layer = layers[name]
            current = changed.get(layer.key, weights[layer.key]).clone()
            part = part_of(current, layer.rows)
            part[:] = merge(parts, part.clone(), float(strength))
            changed[layer.key] = current
            bias = parts.get("diff_b", parts.get("b_norm"))
            if bias is not None:
                key = layer.key[:-len(".weight")] + ".bias"
                changed[key] = changed.get(key, weights[key]) + float(strength) * bias
    return {f"{case}|{key}": describe(weight) for key, weight in changed.items()}


def make_family(label, family):
    checkpoint, layers, te = family
    weights = read_safetensors(DATA / "checkpoints" / f"{checkpoint}.safetensors")

    def shape(name):
        whole = list(weights[layers[name].key].shape)
        if layers[name].rows:
            whole[0] //= layers[name].rows[1]
        return whole

    adapters, expected = {}, {}
    for kind, (namer, ending, parts) in plan(layers, shape).items():
        adapters[kind] = parts
        tensors = {part_name(namer(layers[n], te), part, ending): value
                   for n, ps in parts.items() for part, value in ps.items()}
        write_safetensors(OUT / f"{label}-{kind}.safetensors", tensors, half=True)
        for strength in (("1",) if kind in NAMINGS else STRENGTHS):
            expected.update(run_case(f"{kind}:{strength}", weights, layers, adapters))
    for case in STACKS:
        expected.update(run_case(case, weights, layers, adapters))
    write_safetensors(OUT / f"{label}-expected.safetensors", expected, half=False)


def write_embeddings():
    """Textual inversions as torch.save has them: a tensor alone, lists, A1111's dict. All are two vectors for SD1."""
    folder = DATA / "embeddings"
    folder.mkdir(exist_ok=True)
    rows = (torch.arange(256, dtype=torch.float32) / 256).reshape(2, 128)
    torch.save(rows, folder / "bare.pt")
    torch.save([{"one": rows[:1].clone()}, {"two": rows[1:].clone()}], folder / "list.pt")
    torch.save([rows[0].clone(), rows[1].clone()], folder / "tensors.pt")
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": rows}, "name": "ramp", "step": 3},
               folder / "a1111.pt")


def main():
    OUT.mkdir(exist_ok=True)
    write_embeddings()
    for old in OUT.glob("*.safetensors"):
        old.unlink()
    for label, family in (("sd1", family_sd1()), ("sd2", family_sd2()), ("sdxl", family_sdxl())):
        make_family(label, family)
    print(sum(path.stat().st_size for path in OUT.iterdir()), "bytes in", len(list(OUT.iterdir())), "files")


if __name__ == "__main__":
    main()
