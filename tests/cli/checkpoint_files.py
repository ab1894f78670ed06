"""Checkpoints taken apart and written in other layouts, for the tests: diffusers folders, Hugging Face text encoders, bare
UNets. The names are written down here from diffusers' own module tree, not from the library's tables. Standard library
only."""
import json
import os
import struct

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "data", "checkpoints")


class Tensor:
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, list(shape), data

    def same(self, other):
        return (self.dtype, self.shape, self.data) == (other.dtype, other.shape, other.data)


def read(path):
    """{name: Tensor}, metadata"""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        body = file.read()
    metadata = header.pop("__metadata__", {})
    return {name: Tensor(entry["dtype"], entry["shape"], body[entry["data_offsets"][0]:entry["data_offsets"][1]])
            for name, entry in header.items()}, metadata


def write(path, tensors, metadata=None):
    header, place = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [place, place + len(tensor.data)]}
        place += len(tensor.data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(tensor.data for tensor in tensors.values()))


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


def below(tensors, prefix):
    return {name[len(prefix):]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def move(to, source, renames):
    """Every tensor of source whose layer is in renames {LDM layer: diffusers layer} or lies below one."""
    for name, tensor in source.items():
        layer = name
        while layer not in renames:
            layer = layer.rpartition(".")[0]
            assert layer, "no name for " + name
        to[renames[layer] + name[len(layer):]] = tensor


def resnet_names(ldm, diffusers):
    return {ldm + ".in_layers.0": diffusers + ".norm1", ldm + ".in_layers.2": diffusers + ".conv1",
            ldm + ".emb_layers.1": diffusers + ".time_emb_proj", ldm + ".out_layers.0": diffusers + ".norm2",
            ldm + ".out_layers.3": diffusers + ".conv2", ldm + ".skip_connection": diffusers + ".conv_shortcut"}


def unet(tensors):
    """The UNet as UNet2DConditionModel names it: walks the blocks as its __init__ builds them."""
    source = below(tensors, "model.diffusion_model.")
    names = {"input_blocks.0.0": "conv_in", "time_embed.0": "time_embedding.linear_1",
             "time_embed.2": "time_embedding.linear_2", "out.0": "conv_norm_out", "out.2": "conv_out",
             "label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2",
             "middle_block.1": "mid_block.attentions.0"}
    names.update(resnet_names("middle_block.0", "mid_block.resnets.0"))
    names.update(resnet_names("middle_block.2", "mid_block.resnets.1"))
    has = lambda start: any(name.startswith(start + ".") for name in source)
    level = block = 0
    for number in range(1, 64):
        at = f"input_blocks.{number}"
        if has(at + ".0.op"):
            names[at + ".0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            level, block = level + 1, 0
        elif has(at):
            names.update(resnet_names(at + ".0", f"down_blocks.{level}.resnets.{block}"))
            names[at + ".1"] = f"down_blocks.{level}.attentions.{block}"
            block += 1
    level = block = 0
    for number in range(64):
        at = f"output_blocks.{number}"
        names.update(resnet_names(at + ".0", f"up_blocks.{level}.resnets.{block}"))
        up = next((k for k in (1, 2) if has(f"{at}.{k}.conv")), 0)
        if up != 1:
            names[at + ".1"] = f"up_blocks.{level}.attentions.{block}"
        block += 1
        if up:
            names[f"{at}.{up}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
            level, block = level + 1, 0
    result = {}
    move(result, source, names)
    return result


def vae(tensors, old=False):
    """The VAE as AutoencoderKL names it; old: as it named the attention before 2023."""
    source, names = below(tensors, "first_stage_model."), {"quant_conv": "quant_conv",
                                                           "post_quant_conv": "post_quant_conv"}
    attention = (("query", "key", "value", "proj_attn") if old else ("to_q", "to_k", "to_v", "to_out.0"))
    levels = 1 + max(int(name.split(".")[2]) for name in source if name.startswith("decoder.up."))
    for half in ("encoder", "decoder"):
        names.update({half + ".conv_in": half + ".conv_in", half + ".norm_out": half + ".conv_norm_out",
                      half + ".conv_out": half + ".conv_out",
                      half + ".mid.block_1": half + ".mid_block.resnets.0",
                      half + ".mid.block_2": half + ".mid_block.resnets.1",
                      half + ".mid.attn_1.norm": half + ".mid_block.attentions.0.group_norm"})
        for ldm, diffusers in zip(("q", "k", "v", "proj_out"), attention):
            names[f"{half}.mid.attn_1.{ldm}"] = f"{half}.mid_block.attentions.0.{diffusers}"
    for level in range(levels):
        names[f"encoder.down.{level}.downsample"] = f"encoder.down_blocks.{level}.downsamplers.0"
        names[f"decoder.up.{level}.upsample"] = f"decoder.up_blocks.{levels - 1 - level}.upsamplers.0"
        for block in range(4):
            names[f"encoder.down.{level}.block.{block}"] = f"encoder.down_blocks.{level}.resnets.{block}"
            names[f"decoder.up.{level}.block.{block}"] = f"decoder.up_blocks.{levels - 1 - level}.resnets.{block}"
    result = {}
    move(result, source, names)
    result = {name.replace("nin_shortcut", "conv_shortcut"): tensor for name, tensor in result.items()}
    for name, tensor in result.items():
        if ".attentions." in name and len(tensor.shape) == 4:
            result[name] = Tensor(tensor.dtype, tensor.shape[:2], tensor.data)
    return result


def split_rows(tensor, count):
    size, rows = len(tensor.data) // count, tensor.shape[0] // count
    return [Tensor(tensor.dtype, [rows] + tensor.shape[1:], tensor.data[i * size:(i + 1) * size])
            for i in range(count)]


def transpose(tensor):
    rows, columns = tensor.shape
    width = len(tensor.data) // (rows * columns)
    cell = lambda r, c: tensor.data[(r * columns + c) * width:(r * columns + c + 1) * width]
    return Tensor(tensor.dtype, [columns, rows], b"".join(cell(r, c) for c in range(columns) for r in range(rows)))


def clip_hf(tensors, prefix):
    return below(tensors, prefix)


def open_clip_hf(tensors, prefix):
    """OpenCLIP's text encoder as Hugging Face's CLIPTextModelWithProjection names it."""
    result = {"text_model.embeddings.position_ids": Tensor("I64", [1, 2], struct.pack("<qq", 0, 1))}
    single = {"token_embedding.weight": "text_model.embeddings.token_embedding.weight",
              "positional_embedding": "text_model.embeddings.position_embedding.weight",
              "ln_final.weight": "text_model.final_layer_norm.weight",
              "ln_final.bias": "text_model.final_layer_norm.bias", "logit_scale": "logit_scale"}
    for name, tensor in below(tensors, prefix).items():
        if name in single:
            result[single[name]] = tensor
        elif name == "text_projection":
            result["text_projection.weight"] = transpose(tensor)
        else:
            number, _, rest = name[len("transformer.resblocks."):].partition(".")
            layer = f"text_model.encoder.layers.{number}."
            if rest.startswith("attn.in_proj_"):
                for letter, part in zip("qkv", split_rows(tensor, 3)):
                    result[f"{layer}self_attn.{letter}_proj.{rest[len('attn.in_proj_'):]}"] = part
                continue
            for ldm, hugging in (("attn.out_proj", "self_attn.out_proj"), ("mlp.c_fc", "mlp.fc1"),
                                 ("mlp.c_proj", "mlp.fc2"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2")):
                rest = rest.replace(ldm, hugging)
            result[layer + rest] = tensor
    return result


CLASSES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
FILES = {"sd1": "golden-sd1", "sd2": "tiny-sd2", "sdxl": "tiny-sdxl"}


def text_parts(tensors, family):
    """The text encoders' tensors in Hugging Face's layout, by folder."""
    if family == "sd1":
        return {"text_encoder": clip_hf(tensors, "cond_stage_model.transformer.")}
    if family == "sd2":
        return {"text_encoder": open_clip_hf(tensors, "cond_stage_model.model.")}
    return {"text_encoder": clip_hf(tensors, "conditioner.embedders.0.transformer."),
            "text_encoder_2": open_clip_hf(tensors, "conditioner.embedders.1.model.")}


def golden(family):
    return read(os.path.join(GOLDEN, FILES[family] + ".safetensors"))


def write_shards(folder, stem, tensors, count):
    names, shards, index = sorted(tensors), [{} for _ in range(count)], {}
    for i, name in enumerate(names):
        shards[i % count][name] = tensors[name]
        index[name] = f"{stem}-{i % count + 1:05d}-of-{count:05d}.safetensors"
    for i, shard in enumerate(shards):
        write(os.path.join(folder, f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors"), shard)
    write_json(os.path.join(folder, stem + ".safetensors.index.json"), {"metadata": {}, "weight_map": index})


def write_folder(folder, family, shards=1, fp16=False, old=False):
    """A diffusers folder of a golden checkpoint."""
    tensors, metadata = golden(family)
    config = json.loads(metadata.get("tessera.config", "{}"))
    parts = dict(text_parts(tensors, family), unet=unet(tensors), vae=vae(tensors, old))
    index = {"_class_name": CLASSES[family], "_diffusers_version": "0.27.0", "safety_checker": [None, None],
             "scheduler": ["diffusers", "EulerDiscreteScheduler"]}
    for part, content in parts.items():
        os.makedirs(os.path.join(folder, part))
        text = part.startswith("text")
        index[part] = ["transformers", "CLIPTextModel"] if text else ["diffusers", "Model"]
        stem = "model" if text else "diffusion_pytorch_model"
        if part == "unet" and shards > 1:
            write_shards(os.path.join(folder, part), stem, content, shards)
        else:
            end = ".fp16.safetensors" if fp16 else ".safetensors"
            write(os.path.join(folder, part, stem + end), content, {"format": "pt"})
        heads = {"text_encoder": "text_heads", "text_encoder_2": "text2_heads"}.get(part)
        write_json(os.path.join(folder, part, "config.json"),
                   {"num_attention_heads": config[heads]} if heads in config else {"_class_name": "x"})
    os.makedirs(os.path.join(folder, "scheduler"))
    write_json(os.path.join(folder, "scheduler", "scheduler_config.json"),
               {"prediction_type": "v_prediction" if config.get("prediction") == "v" else "epsilon"})
    write_json(os.path.join(folder, "model_index.json"), index)
    return tensors
