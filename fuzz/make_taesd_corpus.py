"""Writes fuzz/corpus/taesd: TAESDs one channel wide in each layout, whole and damaged; the first byte is the model's kind.

    python3 fuzz/make_taesd_corpus.py"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "cli"))
import checkpoint_files as files  # noqa: E402
import test_taesd as taesd  # noqa: E402


def narrow(tensors):
    """One channel wherever the golden files have eight or twelve, so that no block needs a skip."""
    result = {}
    for name, tensor in tensors.items():
        shape = [1 if side in (8, 12) else side for side in tensor.shape]
        count = 2
        for side in shape:
            count *= side
        if ".skip." not in name:
            result[name] = files.Tensor(tensor.dtype, shape, tensor.data[:count])
    return result


def main():
    folder = os.path.join(HERE, "corpus", "taesd")
    os.makedirs(folder, exist_ok=True)
    whole = narrow(taesd.pair())
    encoder, decoder = taesd.half(whole, "encoder"), taesd.half(whole, "decoder")
    combined, scaled = dict(whole), dict(whole, vae_scale=taesd.scale(0.13025))
    seeds = {
        "encoder": (1, encoder), "decoder": (1, decoder), "unnamed": (0, decoder), "combined": (1, combined),
        "sdxl": (2, scaled), "not_sdxl": (1, scaled), "alone": (0, scaled), "diffusers": (1, taesd.diffusers(whole)),
        "in_checkpoint": (1, {"first_stage_model." + name: tensor for name, tensor in whole.items()}),
        "short": (1, {name: decoder[name] for name in list(decoder)[:20]}),
        "surplus": (1, dict(decoder, **{"20.weight": decoder["12.weight"]})),
        "twice": (1, dict(decoder, **{"012.weight": decoder["12.weight"]})),
        "far": (1, dict(decoder, **{"99999999999999999999.weight": decoder["12.weight"]})),
        "odd_scale": (0, dict(whole, vae_scale=taesd.scale(float("inf")))),
        "wide_scale": (1, dict(whole, vae_scale=decoder["12.weight"])),
        "flat": (1, dict(decoder, **{"1.weight": files.Tensor("F16", [36], decoder["1.weight"].data)})),
        "empty": (1, dict(decoder, **{"1.weight": files.Tensor("F16", [0, 4, 3, 3], b"")})),
    }
    for name, (kind, tensors) in seeds.items():
        path = os.path.join(folder, name)
        files.write(path, tensors)
        with open(path, "rb") as file:
            data = file.read()
        with open(path, "wb") as file:
            file.write(bytes([kind]) + data)


if __name__ == "__main__":
    main()
