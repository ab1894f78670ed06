#!/usr/bin/env python3
"""Trains the shipped model from nothing: renders pictures, trains the VAE, then text encoder and UNet, and exports.

    train.py --minutes 24 --vae-minutes 4 --out FOLDER      one large GPU
    train.py --smoke --out FOLDER                           every stage once, on a CPU, in about a minute

Writes FOLDER/tessera-demo.safetensors (SD1 layout, F16), the same as FOLDER/tessera-demo.xz.part0, 1, ... (each under
15 MB), FOLDER/samples.png and FOLDER/log.txt. See README.md beside this file.
"""
import argparse
import os
import pathlib
import tempfile

import torch

import export
import pictures
import stages
from bpe import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
# (height, width, how many)
SIZES = [(128, 128, 120000), (128, 192, 30000), (192, 128, 30000), (192, 192, 20000), (256, 256, 16000)]
SMOKE_SIZES = [(128, 128, 24), (128, 192, 8)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--minutes", type=float, default=22, help="time for everything (default 22)")
    parser.add_argument("--vae-minutes", type=float, default=4, help="of which for the VAE (default 4)")
    parser.add_argument("--batch", type=int, default=256, help="pictures of 128x128 a step (default 256)")
    parser.add_argument("--smoke", action="store_true", help="does every stage run? a few pictures, a few steps")
    return parser.parse_args()


def main():
    options = arguments()
    os.makedirs(options.out, exist_ok=True)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    run = stages.Run(options.out, options.smoke)
    tokenizer = Tokenizer(HERE / "merges.txt")
    objects = pictures.load_objects(HERE / "sprites.npz")
    with tempfile.TemporaryDirectory() as folder:
        sets = pictures.render_all(SMOKE_SIZES if options.smoke else SIZES, objects, folder)
        run.log("pictures ready")
        vae = stages.train_vae(run, sets, options.vae_minutes, 4 if options.smoke else 64)
        latent_sets = stages.encode_all(run, vae, sets)
        run.log("latents ready")
    minutes_left = options.minutes - run.seconds() / 60
    batch = 4 if options.smoke else options.batch
    unet, text, scale = stages.train_diffusion(run, latent_sets, tokenizer, minutes_left, batch)
    export.write_checkpoint(run, export.checkpoint(unet, text, vae, scale), options.out)
    torch.cuda.empty_cache()
    steps = 2 if options.smoke else 24
    export.sample_sheet(run, unet, text, vae, scale, tokenizer, steps).save(f"{options.out}/samples.png")
    run.log("done")


if __name__ == "__main__":
    main()
