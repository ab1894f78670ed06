"""Small control networks for the golden checkpoints, in the layouts people have. Numbers come from a seed; the names of
diffusers' layouts are written down here from its own module tree. Standard library only."""
import array
import functools
import random
import struct

import checkpoint_files as files

ENCODER = ("input_blocks", "middle_block", "time_embed", "label_emb")
HINTS = (3, 16, 16, 32, 32, 96, 96, 256)


def values(random_numbers, name, shape):
    count, fan = 1, 1
    for side in shape:
        count *= side
    for side in shape[1:]:
        fan *= side
    centre, spread = (1.0 if name.endswith("weight") else 0.0, 0.1) if len(shape) == 1 else (0.0, (3.0 / fan) ** 0.5)
    numbers = array.array("f", (centre + spread * (2 * random_numbers.random() - 1) for _ in range(count)))
    return files.Tensor("F32", list(shape), numbers.tobytes())


def made(shapes, seed=1):
    numbers = random.Random(seed)
    return {name: values(numbers, name, shape) for name, shape in shapes.items()}


def controlnet(family):
    """LDM's layout."""
    return dict(whole_controlnet(family))


@functools.lru_cache(maxsize=None)
def whole_controlnet(family):
    unet = files.below(files.golden(family)[0], "model.diffusion_model.")
    shapes = {name: tensor.shape for name, tensor in unet.items() if name.split(".")[0] in ENCODER}
    sides = HINTS + (unet["input_blocks.0.0.weight"].shape[0],)
    for i in range(8):
        shapes[f"input_hint_block.{2 * i}.weight"] = [sides[i + 1], sides[i], 3, 3]
        shapes[f"input_hint_block.{2 * i}.bias"] = [sides[i + 1]]
    last = 0
    for number in range(64):
        ends = [f"input_blocks.{number}.0.{end}" for end in ("weight", "op.weight", "out_layers.3.weight")]
        found = [name for name in ends if name in shapes]
        if not found:
            break
        last = shapes[found[0]][0]
        shapes[f"zero_convs.{number}.0.weight"], shapes[f"zero_convs.{number}.0.bias"] = [last, last, 1, 1], [last]
    shapes["middle_block_out.0.weight"], shapes["middle_block_out.0.bias"] = [last, last, 1, 1], [last]
    return made(shapes)


def union(family, types):
    """The same that is told which of some types of picture it reads, in diffusers' layout."""
    tensors = controlnet(family)
    c, embed = tensors["input_blocks.0.0.weight"].shape[0], tensors["time_embed.0.weight"].shape[0]
    shapes = {"task_embedding": [types, c]}
    for name, out, taken in (("transformer_layes.0.attn.in_proj_", 3 * c, c), ("transformer_layes.0.attn.out_proj.", c, c),
                             ("transformer_layes.0.mlp.c_fc.", 4 * c, c), ("transformer_layes.0.mlp.c_proj.", c, 4 * c),
                             ("spatial_ch_projs.", c, c), ("control_add_embedding.linear_1.", embed, 256 * types),
                             ("control_add_embedding.linear_2.", embed, embed)):
        shapes[name + "weight"], shapes[name + "bias"] = [out, taken], [out]
    for name in ("transformer_layes.0.ln_1.", "transformer_layes.0.ln_2."):
        shapes[name + "weight"] = shapes[name + "bias"] = [c]
    return dict(controlnet_diffusers(tensors), **made(shapes))


def controlnet_diffusers(tensors):
    """The same as ControlNetModel names it."""
    names = {"input_hint_block.0": "controlnet_cond_embedding.conv_in",
             "input_hint_block.14": "controlnet_cond_embedding.conv_out",
             "middle_block_out.0": "controlnet_mid_block"}
    names.update({f"input_hint_block.{2 * i}": f"controlnet_cond_embedding.blocks.{i - 1}" for i in range(1, 7)})
    names.update({f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(32)})
    own = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] not in ENCODER}
    encoder = {"model.diffusion_model." + name: tensor for name, tensor in tensors.items() if name not in own}
    result = files.unet(encoder)
    files.move(result, own, names)
    return result


def adapter(channels, taken=192):
    """A full T2I-Adapter as its authors name it."""
    shapes = {"conv_in.weight": [channels[0], taken, 3, 3], "conv_in.bias": [channels[0]]}
    for i in range(2 * len(channels)):
        c = channels[i // 2]
        before = channels[max(i // 2 - 1, 0)]
        if i % 2 == 0 and before != c:
            shapes[f"body.{i}.in_conv.weight"], shapes[f"body.{i}.in_conv.bias"] = [c, before, 1, 1], [c]
        shapes[f"body.{i}.block1.weight"], shapes[f"body.{i}.block1.bias"] = [c, c, 3, 3], [c]
        shapes[f"body.{i}.block2.weight"], shapes[f"body.{i}.block2.bias"] = [c, c, 1, 1], [c]
    return made(shapes)


def adapter_diffusers(tensors):
    """The same as T2IAdapter names it."""
    result = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "body":
            level, block = divmod(int(parts[1]), 2)
            parts[1:2] = [str(level)] if parts[2] == "in_conv" else [str(level), "resnets", str(block)]
        result["adapter." + ".".join(parts)] = tensor
    return result


def light(channels):
    shapes, taken = {}, 64
    for i, c in enumerate(channels):
        n = c // 4
        shapes[f"body.{i}.in_conv.weight"], shapes[f"body.{i}.in_conv.bias"] = [n, taken, 1, 1], [n]
        for k in range(4):
            for block in ("block1", "block2"):
                name = f"body.{i}.body.{k}.{block}."
                shapes[name + "weight"], shapes[name + "bias"] = [n, n, 3, 3], [n]
        shapes[f"body.{i}.out_conv.weight"], shapes[f"body.{i}.out_conv.bias"] = [c, n, 1, 1], [c]
        taken = c
    return made(shapes)


def light_diffusers(tensors):
    return {"adapter." + name.replace(".body.", ".resnets."): tensor for name, tensor in tensors.items()}


def halves(tensors):
    """As F16."""
    return {name: files.Tensor("F16", tensor.shape, b"".join(
        struct.pack("<e", value) for value in array.array("f", tensor.data))) for name, tensor in tensors.items()}


def widened(tensors):
    """F16 as F32."""
    return {name: files.Tensor("F32", tensor.shape, array.array("f", (
        value for value, in struct.iter_unpack("<e", tensor.data))).tobytes()) for name, tensor in tensors.items()}
