"""Files that are damaged, hostile, or something else than what is asked for. Each case writes what it needs into a folder and
gives (arguments, words): the command is refused in one line that holds the words."""
import io
import os
import pickle
import struct
import zipfile

import checkpoint_files as files
import control_files as control
from cli_case import png, safetensors

CASES = []


def case(function):
    CASES.append(function)
    return function


class Folder:
    def __init__(self, path):
        self.path = path

    def at(self, *names):
        return os.path.join(self.path, *names)

    def put(self, name, data):
        with open(self.at(name), "wb") as file:
            file.write(data)
        return self.at(name)

    def tensors(self, name, tensors, metadata=None):
        files.write(self.at(name), tensors, metadata)
        return self.at(name)


def floats(shape, value=0.0):
    count = 1
    for side in shape:
        count *= side
    return files.Tensor("F32", shape, struct.pack("<f", value) * count)


def named(names, shape=(2, 2)):
    return {name: floats(shape) for name in names}


def model(path, *more):
    return ["--model", path, *more]


def single(family):
    return os.path.join(files.GOLDEN, files.FILES[family] + ".safetensors")


# --- containers ------------------------------------------------------------------------------------------------------------

def raw(name, data, *words):
    def write(folder):
        return model(folder.put("m.safetensors", data)), words
    write.__name__ = name
    CASES.append(write)


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


BODY = b"\0" * 64
raw("empty", b"", "empty")
raw("eight_bytes", b"\x10" + b"\0" * 7, "truncated")
raw("cut_header", safetensors({"a": entry()}, BODY)[:30], "truncated", "header")
raw("cut_data", safetensors({"a": entry(offsets=(0, 16))}, b"\0" * 15), "truncated", "a")
raw("huge_header", struct.pack("<Q", 1 << 60) + b"{" + BODY, "100 MiB")
raw("header_is_no_json", struct.pack("<Q", 9) + b"{\"a\": oh}" + BODY, "bad header")
raw("header_is_a_list", struct.pack("<Q", 2) + b"[]" + BODY, "start with '{'")
raw("twice", struct.pack("<Q", 11) + b"{\"a\":1,\"a\":2}"[:11] + BODY, "bad header")
raw("overlap", safetensors({"a": entry(), "b": entry(offsets=(8, 24))}, BODY), "overlap")
raw("backwards", safetensors({"a": entry(offsets=(16, 0))}, BODY), "backwards")
raw("negative_side", safetensors({"a": entry(shape=(-2, 2))}, BODY), "not a count")
raw("shape_overflow", safetensors({"a": entry(shape=(1 << 40, 1 << 40))}, BODY), "overflows")
raw("nine_axes", safetensors({"a": entry(shape=(1,) * 9)}, BODY), "at most 8")
raw("shape_and_bytes_differ", safetensors({"a": entry(shape=(3, 2))}, BODY), "do not fit")
raw("unknown_type", safetensors({"a": entry(dtype="F4")}, BODY), "unknown dtype", "F4")
raw("metadata_is_no_text", safetensors({"__metadata__": {"a": 1}, "b": entry()}, BODY), "not a text")
raw("web_page", b"<!DOCTYPE html><html>404</html>", "web page")
raw("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "git-lfs")
raw("picture", b"\x89PNG\r\n\x1a\n" + BODY, "picture")


class Call:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def torch_zip(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
    return out.getvalue()


raw("pickle_that_calls", pickle.dumps({"a": Call()}, protocol=2), "system")
raw("zip_that_calls", torch_zip(pickle.dumps({"state_dict": Call()}, protocol=2)), "system")
raw("zip_cut", torch_zip(pickle.dumps({}, protocol=2))[:40], "zip")
raw("pickle_of_no_weights", torch_zip(pickle.dumps([1, 2, 3], protocol=2)), "state dict")


def gguf(version=3, tensors=1, kind=8, sides=(64, 2), data=b"\0" * 4096):
    name = b"input_blocks.0.0.weight"
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, 0) + struct.pack("<Q", len(name)) + name
    head += struct.pack("<I", len(sides)) + b"".join(struct.pack("<Q", side) for side in sides)
    head += struct.pack("<IQ", kind, 0)
    return head + b"\0" * (-len(head) % 32) + data


raw("gguf_of_another_version", gguf(version=9), "version")
raw("gguf_with_odd_rows", gguf(sides=(33, 2)), "rows of 33")
raw("gguf_cut", gguf(data=b""), "truncated")
raw("gguf_with_too_many_tensors", gguf(tensors=1 << 50), "tensors")
raw("gguf_of_an_unknown_type", gguf(kind=77), "type")


# --- other kinds of file ----------------------------------------------------------------------------------------------------

def kind(name, tensors, *words):
    def write(folder):
        return model(folder.tensors("m.safetensors", tensors)), words
    write.__name__ = name
    CASES.append(write)


kind("no_tensors", {}, "unknown kind")
kind("lora_as_model", named(["lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"]), "a LoRA")
kind("vae_as_model", named(["decoder.mid.block_1.norm1.weight"]), "a VAE alone")
kind("text_encoder_as_model", named(["text_model.encoder.layers.0.mlp.fc1.weight"]), "a text encoder alone")
kind("flux", named(["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"]), "Flux")
kind("sd3", named(["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"]), "SD3")
kind("controlnet_as_model", named(["control_model.input_blocks.0.0.weight"]), "ControlNet")
kind("embedding_as_model", named(["emb_params"]), "embedding")
kind("upscaler_as_model", named(["body.0.rdb1.conv1.weight"]), "upscaler")
kind("latent_as_model", named(["latent_tensor"]), "latent")
kind("something_else", named(["transformer.h.0.attn.weight"]), "unknown kind")


# --- checkpoints that do not fit together -----------------------------------------------------------------------------------

def changed(family, change):
    tensors, metadata = files.golden(family)
    change(tensors)
    return tensors, metadata


UNET = "model.diffusion_model."


@case
def a_layer_is_missing(folder):
    tensors, metadata = changed("sd2", lambda t: t.pop(UNET + "middle_block.1.proj_in.weight"))
    return model(folder.tensors("m.safetensors", tensors, metadata)), ("middle_block.1.proj_in", "missing")


@case
def a_layer_has_another_shape(folder):
    def change(tensors):
        old = tensors[UNET + "middle_block.1.proj_in.weight"]
        tensors[UNET + "middle_block.1.proj_in.weight"] = files.Tensor(old.dtype, [old.shape[0] // 2, old.shape[1] * 2],
                                                                       old.data)
    tensors, metadata = changed("sd2", change)
    return model(folder.tensors("m.safetensors", tensors, metadata)), ("middle_block.1.proj_in",)


@case
def whole_numbers_for_weights(folder):
    def change(tensors):
        old = tensors[UNET + "out.2.weight"]
        tensors[UNET + "out.2.weight"] = files.Tensor("I16", old.shape, old.data)
    tensors, metadata = changed("sd2", change)
    return model(folder.tensors("m.safetensors", tensors, metadata)), ("out.2.weight", "I16")


@case
def not_a_number(folder):
    def change(tensors):
        old = tensors[UNET + "out.2.weight"]
        tensors[UNET + "out.2.weight"] = files.Tensor("F16", old.shape, b"\0\x7e" * (len(old.data) // 2))
    tensors, metadata = changed("sd2", change)
    return model(folder.tensors("m.safetensors", tensors, metadata)), ("NaN",)


@case
def no_vae(folder):
    tensors, metadata = files.golden("sd2")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("first_stage_model.")}
    return model(folder.tensors("m.safetensors", tensors, metadata)), ("first_stage_model", "VAE")


@case
def text_encoder_of_another_family(folder):
    tensors, _ = files.golden("sd1")
    other, metadata = files.golden("sd2")
    tensors.update(files.below(other, ""))
    tensors = {name: tensor for name, tensor in tensors.items()
               if not (name.startswith(UNET) and name not in other) and not name.startswith("cond_stage_model.model.")}
    return model(folder.tensors("m.safetensors", tensors, metadata)), ("128", "64")


@case
def heads_that_do_not_divide(folder):
    tensors, _ = files.golden("sd2")
    return (model(folder.tensors("m.safetensors", tensors, {"tessera.config": '{"text_heads": 7}'})),
            ("7 heads", "text_heads"))


@case
def config_of_unknown_prediction(folder):
    tensors, _ = files.golden("sd2")
    return (model(folder.tensors("m.safetensors", tensors, {"tessera.config": '{"prediction": "x0"}'})),
            ("prediction",))


@case
def unet_with_five_channels_going_in(folder):
    tensors, metadata = files.golden("sd2")
    old = tensors[UNET + "input_blocks.0.0.weight"]
    tensors[UNET + "input_blocks.0.0.weight"] = floats([old.shape[0], 5, 3, 3])
    return model(folder.tensors("m.safetensors", tensors, metadata)), ("5 channels go into", "9 for inpainting")


# --- parts -------------------------------------------------------------------------------------------------------------------

@case
def vae_with_other_channels(folder):
    tensors, _ = files.golden("sd1")
    vae = files.below(tensors, "first_stage_model.")
    old = vae["decoder.conv_in.weight"]
    vae["decoder.conv_in.weight"] = floats([old.shape[0], 16, 3, 3])
    return model(single("sd1"), "--vae", folder.tensors("v.safetensors", vae)), ("4 channels", "VAE has 16")


@case
def vae_given_as_unet(folder):
    vae = files.vae(files.golden("sd1")[0])
    return ["--unet", folder.tensors("v.safetensors", vae)], ("a VAE alone", "a UNet")


@case
def unet_given_as_vae(folder):
    unet = files.unet(files.golden("sd2")[0])
    return (model(single("sd2"), "--vae", folder.tensors("u.safetensors", unet)),
            ("a UNet in diffusers layout", "a VAE"))


@case
def vae_given_as_text_encoder(folder):
    vae = files.vae(files.golden("sd1")[0])
    return model(single("sd1"), "--text-encoder", folder.tensors("v.safetensors", vae)), ("no CLIP text encoder",)


@case
def unet_alone(folder):
    unet = files.unet(files.golden("sd2")[0])
    return ["--unet", folder.tensors("u.safetensors", unet)], ("an SD2", "text encoder", "VAE", "give them too")


@case
def text_encoder_too_narrow(folder):
    text = files.text_parts(files.golden("sdxl")[0], "sdxl")["text_encoder"]
    unet = files.unet(files.golden("sd2")[0])
    return (["--unet", folder.tensors("u.safetensors", unet), "--text-encoder",
             folder.tensors("t.safetensors", text)], ("64", "32"))


@case
def sdxl_with_one_text_encoder(folder):
    tensors, metadata = files.golden("sdxl")
    text = files.text_parts(tensors, "sdxl")["text_encoder"]
    return (["--unet", folder.tensors("u.safetensors", files.unet(tensors), metadata), "--text-encoder",
             folder.tensors("t.safetensors", text)], ("two encoders", "96", "32"))


@case
def unet_with_an_unknown_layer(folder):
    unet = files.unet(files.golden("sd2")[0])
    unet["time_embedding.cond_proj.weight"] = floats([2, 2])
    return model(single("sd2"), "--unet", folder.tensors("u.safetensors", unet)), ("cond_proj", "no such layer")


@case
def key_projection_is_missing(folder):
    text = files.text_parts(files.golden("sd2")[0], "sd2")["text_encoder"]
    del text["text_model.encoder.layers.1.self_attn.k_proj.weight"]
    return (model(single("sd2"), "--text-encoder", folder.tensors("t.safetensors", text)),
            ("layers.1.self_attn.k_proj.weight", "missing"))


# --- diffusers folders -------------------------------------------------------------------------------------------------------

def in_folder(change):
    """A good folder, changed."""
    def write(folder):
        files.write_folder(folder.at("f"), "sd2", shards=2)
        return model(folder.at("f")), change(Folder(folder.at("f")))
    write.__name__ = change.__name__
    CASES.append(write)
    return change


@case
def folder_without_index(folder):
    os.mkdir(folder.at("f"))
    return model(folder.at("f")), ("model_index.json",)


@in_folder
def index_is_no_json(folder):
    folder.put("model_index.json", b"{oh")
    return "model_index.json", "line 1"


@in_folder
def index_of_another_family(folder):
    files.write_json(folder.at("model_index.json"), {"_class_name": "StableDiffusion3Pipeline",
                                                     "transformer": ["diffusers", "SD3Transformer2DModel"]})
    return "StableDiffusion3Pipeline", "without a UNet"


@in_folder
def index_that_is_too_large(folder):
    folder.put("model_index.json", b" " * (1 << 21))
    return "model_index.json", "limit"


SHARDS = "diffusion_pytorch_model.safetensors.index.json"


@in_folder
def shard_outside(folder):
    files.write_json(folder.at("unet", SHARDS), {"weight_map": {"a": "../../secret.safetensors"}})
    return "plain name", SHARDS


@in_folder
def shard_that_is_not_there(folder):
    files.write_json(folder.at("unet", SHARDS), {"weight_map": {"a": "none.safetensors"}})
    return ("none.safetensors",)


@in_folder
def shards_that_repeat(folder):
    first = folder.at("unet", "diffusion_pytorch_model-00001-of-00002.safetensors")
    with open(first, "rb") as source:
        folder.put("unet/diffusion_pytorch_model-00002-of-00002.safetensors", source.read())
    return "two tensors", SHARDS


@in_folder
def index_without_weights(folder):
    files.write_json(folder.at("unet", SHARDS), {"weight_map": []})
    return ("weight_map",)


@in_folder
def part_without_weights(folder):
    os.remove(folder.at("vae", "diffusion_pytorch_model.safetensors"))
    return "vae", "diffusion_pytorch_model.safetensors"


@in_folder
def part_that_is_cut(folder):
    path = folder.at("text_encoder", "model.safetensors")
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) - 1)
    return "truncated", "text_encoder"


@in_folder
def scheduler_of_samples(folder):
    files.write_json(folder.at("scheduler", "scheduler_config.json"), {"prediction_type": "sample"})
    return "sample", "v_prediction"


# --- adapters, and models of regions -----------------------------------------------------------------------------------------

def lora(layer, down, up):
    return {layer + ".lora_down.weight": floats(down), layer + ".lora_up.weight": floats(up)}


def with_lora(name, tensors, *words, family="sd1"):
    def write(folder):
        return model(single(family), "--lora", folder.tensors("l.safetensors", tensors) + ":1"), words
    write.__name__ = name
    CASES.append(write)


SDXL_LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k"
with_lora("sdxl_lora_on_sd1", lora(SDXL_LAYER, [4, 2048], [640, 4]), "l.safetensors", "made for SDXL")
with_lora("lora_of_another_width",
          lora("lora_te_text_model_encoder_layers_0_mlp_fc1", [4, 768], [3072, 4]), "l.safetensors")
with_lora("lora_with_two_ranks",
          lora("lora_te_text_model_encoder_layers_0_mlp_fc1", [4, 128], [512, 8]), "l.safetensors")
with_lora("lora_with_one_half",
          {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": floats([4, 128])}, "l.safetensors")
with_lora("model_as_lora", named(["model.diffusion_model.input_blocks.0.0.weight"]), "l.safetensors")


@case
def lora_that_is_cut(folder):
    tensors = lora(SDXL_LAYER, [4, 64], [64, 4])
    path = folder.tensors("l.safetensors", tensors)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) - 5)
    return model(single("sd1"), "--lora", path + ":1"), ("truncated",)


@case
def region_of_another_family(folder):
    return (model(single("sd1"), "--region", "box=0:0:50%:100%,prompt=a,model=" + single("sdxl")),
            ("cannot share a canvas",))


# --- control networks --------------------------------------------------------------------------------------------------------

def with_control(change):
    """A control network for golden-sd1, in the layout that change gives it."""
    def write(folder):
        tensors, words = change(control.controlnet("sd1"))
        folder.put("p.png", png(8, 8, lambda x, y: (x, y, 0)))
        return (model(single("sd1"), "--control", folder.tensors("c.safetensors", tensors), "--control-image",
                      folder.at("p.png")), words)
    write.__name__ = change.__name__
    CASES.append(write)
    return change


@with_control
def control_of_another_family(_):
    return control.controlnet_diffusers(control.controlnet("sd2")), ("c.safetensors", "64 values a token", "another family")


@with_control
def control_for_sdxl(_):
    return control.controlnet_diffusers(control.controlnet("sdxl")), ("another family",)


@with_control
def control_without_its_middle(tensors):
    tensors = control.controlnet_diffusers(tensors)
    del tensors["controlnet_mid_block.weight"]
    return tensors, ("middle_block_out.0.weight", "missing")


@with_control
def control_without_a_hint_layer(tensors):
    tensors = control.controlnet_diffusers(tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if ".blocks.5." not in name}
    return tensors, ("input_hint_block",)


@with_control
def control_with_an_unknown_layer(tensors):
    return (dict(control.controlnet_diffusers(tensors), **named(["encoder_hid_proj.weight"])),
            ("encoder_hid_proj", "no such layer"))


@with_control
def control_without_a_norm_of_attention(tensors):
    del tensors["middle_block.1.transformer_blocks.0.norm1.weight"]
    return tensors, ("middle_block.1.transformer_blocks.0.norm1", "missing")


@with_control
def control_for_nine_channels(tensors):
    old = tensors["input_blocks.0.0.weight"]
    tensors["input_blocks.0.0.weight"] = floats([old.shape[0], 9, 3, 3])
    return tensors, ("latents of 9 channels",)


@with_control
def control_that_reads_four_planes(tensors):
    tensors["input_hint_block.0.weight"] = floats([16, 4, 3, 3])
    return tensors, ("input_hint_block.0.weight", "[16, 3, 3, 3]")


@with_control
def control_for_flux(_):
    return named(["double_blocks.0.img_attn.norm.key_norm.scale", "controlnet_blocks.0.weight"]), ("Flux",)


@with_control
def lora_as_control(_):
    return lora(SDXL_LAYER, [4, 2048], [640, 4]), ("a LoRA", "neither")


@with_control
def union_with_too_many_types(tensors):
    more = {"task_embedding": floats([300, 64]), "control_add_embedding.linear_1.weight": floats([256, 256])}
    return dict(tensors, **more), ("task_embedding", "300 types")


@with_control
def union_without_its_transformer(tensors):
    more = {"task_embedding": floats([6, 64]), "control_add_embedding.linear_1.weight": floats([256, 1536])}
    return dict(tensors, **more), ("spatial_ch_projs", "missing")


@with_control
def control_lora_of_another_width(tensors):
    tensors = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] not in control.ENCODER}
    more = {"lora_controlnet": floats([0]), "input_blocks.1.0.in_layers.2.up": floats([64, 4]),
            "input_blocks.1.0.in_layers.2.down": floats([4, 320, 3, 3])}
    return dict(tensors, **more), ("input_blocks.1.0.in_layers.2.up", "another family")


@with_control
def control_lora_for_other_layers(tensors):
    more = {"lora_controlnet": floats([0]), "label_emb.0.0.up": floats([64, 4]), "label_emb.0.0.down": floats([4, 64])}
    return dict(tensors, **more), ("2 of its 2 factors", "another family")


@with_control
def difference_of_another_shape(tensors):
    tensors["input_blocks.0.0.weight"] = floats([320, 4, 3, 3])
    return (dict({"control_model." + name: tensor for name, tensor in tensors.items()}, difference=floats([0])),
            ("input_blocks.0.0.weight", "another family"))


@with_control
def adapter_of_another_family(_):
    return control.adapter_diffusers(control.adapter((64, 128, 128, 128), 768)), ("T2I-Adapter", "another family")


@with_control
def adapter_of_three_blocks_a_level(_):
    tensors = control.adapter_diffusers(control.adapter((64, 128, 256)))
    return dict(tensors, **named(["adapter.body.0.resnets.2.block1.weight"])), ("resnets.2", "no such layer")


@with_control
def light_adapter_without_its_end(_):
    tensors = control.light((64, 128, 256))
    del tensors["body.1.out_conv.weight"]
    return tensors, ("body.1.out_conv.weight", "missing")


@with_control
def adapter_of_two_planes(_):
    return control.adapter((64, 128, 256), 128), ("conv_in takes 128",)


def in_control_folder(change):
    def write(folder):
        os.mkdir(folder.at("f"))
        folder.put("p.png", png(8, 8, lambda x, y: (x, y, 0)))
        words = change(Folder(folder.at("f")))
        return model(single("sd1"), "--control", folder.at("f"), "--control-image", folder.at("p.png")), words
    write.__name__ = change.__name__
    CASES.append(write)
    return change


@in_control_folder
def control_folder_without_weights(folder):
    files.write_json(folder.at("config.json"), {})
    return "a folder without", "diffusion_pytorch_model"


@in_control_folder
def control_folder_with_a_broken_config(folder):
    folder.tensors("diffusion_pytorch_model.safetensors", control.controlnet_diffusers(control.controlnet("sd1")))
    folder.put("config.json", b"{oh")
    return "config.json", "line 1"
