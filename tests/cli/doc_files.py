"""The files that the commands of docs/ name, made from the golden checkpoints, so that the commands can run. Standard library only."""
import array
import os
import random
import shutil

import checkpoint_files as files
from cli_case import png

LORA = os.path.join(files.GOLDEN, "..", "loras", "lora-kohya.safetensors")
HINT = [3, 16, 16, 32, 32, 96, 96, 256]  # channels of a ControlNet's input_hint_block, which ends in those of the network


def random_tensor(shape, seed, scale=0.02):
    rng, count = random.Random(seed), 1
    for side in shape:
        count *= side
    return files.Tensor("F32", shape, array.array("f", (rng.uniform(-scale, scale) for _ in range(count))).tobytes())


def control_net(unet):
    """A ControlNet in LDM's layout: the UNet's encoder, a hint block, and convolutions of 1 x 1."""
    net = {"control_model." + name: tensor for name, tensor in unet.items()
           if name.split(".")[0] in ("time_embed", "label_emb", "input_blocks", "middle_block")}
    wide = unet["input_blocks.0.0.bias"].shape[0]

    def conv(name, out, into, k):
        net[f"control_model.{name}.weight"] = random_tensor([out, into, k, k], name)
        net[f"control_model.{name}.bias"] = random_tensor([out], name + "b")

    sides = HINT + [wide]
    for i in range(8):
        conv(f"input_hint_block.{2 * i}", sides[i + 1], sides[i], 3)
    blocks = {int(name.split(".")[1]) for name in unet if name.startswith("input_blocks.")}
    channels = wide
    for i in sorted(blocks):
        for name in (f"input_blocks.{i}.0.out_layers.3.bias", f"input_blocks.{i}.0.op.bias"):
            if name in unet:
                channels = unet[name].shape[0]
        conv(f"zero_convs.{i}.0", channels, channels, 1)
    conv("middle_block_out.0", channels, channels, 1)
    return net


def lora(unet, rank=2):
    """A LoRA on the keys of the first cross-attention."""
    name = min(name for name in unet if name.endswith("attn2.to_k.weight"))
    out, into = unet[name].shape
    key = "lora_unet_" + name[:-len(".weight")].replace(".", "_")
    return {key + ".lora_up.weight": random_tensor([out, rank], "up", 0.5),
            key + ".lora_down.weight": random_tensor([rank, into], "down", 0.5)}


def inpainting(tensors):
    """The same network with 9 channels going in, of which the new ones have zeros for weights."""
    name = "model.diffusion_model.input_blocks.0.0.weight"
    old = tensors[name]
    row = len(old.data) // old.shape[0]
    data = b"".join(old.data[i * row:(i + 1) * row] + b"\0" * (row * 5 // 4) for i in range(old.shape[0]))
    return dict(tensors, **{name: files.Tensor(old.dtype, [old.shape[0], 9, 3, 3], data)})


def write_pictures(folder):
    for name, pixel in (("room.png", lambda x, y: (x * 4, y * 4, 128)), ("mask.png", lambda x, y: (255 * (x > 32),) * 3),
                        ("room-depth.png", lambda x, y: (y * 4,) * 3)):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(png(64, 64, pixel))


def write_family(folder, family, names):
    """A family's checkpoint under each of the names, as a folder, and its parts and adapters in files of their own."""
    stem = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}[family]
    tensors, metadata = files.golden(family)
    parts = files.text_parts(tensors, family)
    unet = files.below(tensors, "model.diffusion_model.")

    def path(name):
        return os.path.join(folder, name)

    for name in names:
        os.symlink(os.path.realpath(os.path.join(files.GOLDEN, files.FILES[family] + ".safetensors")), path(name))
    files.write(path(stem + "-inpainting.safetensors"), inpainting(tensors), metadata)
    files.write_folder(path(stem + "-folder"), family)
    files.write(path(stem + "-unet.safetensors"), files.unet(tensors), metadata)
    files.write(path(stem + "-vae.safetensors"), files.vae(tensors))
    clips = {"sd1": ["clip_l"], "sd2": ["clip_h"], "sdxl": ["clip_l", "clip_g"]}[family]
    for name, part in zip(clips, sorted(parts)):
        files.write(path(name + ".safetensors"), parts[part])
    files.write(path("edges.safetensors"), control_net(unet))
    shutil.copy(path("edges.safetensors"), path("depth.safetensors"))
    files.write(path("xl-hero.safetensors"), lora(unet))
    os.mkdir(path("loras"))
    for name in ("style", "hero", "loras/hero", "lcm-lora"):
        if family == "sd1":
            shutil.copy(LORA, path(name + ".safetensors"))
        else:
            files.write(path(name + ".safetensors"), lora(unet))
    os.mkdir(path("embeddings"))
    width = next(tensor.shape[1] for name, tensor in tensors.items() if "token_embedding" in name)
    files.write(path("embeddings/bad-hands.safetensors"), {"emb_params": random_tensor([2, width], "bad")})
    write_pictures(folder)
