"""MobileSAM's encoder, warm: every backend of samlet beside the reference in PyTorch, on the same weights.

    python -m benchmarks.encoder_speed --photo samples/coffee.jpg --rounds 5
    python -m benchmarks.encoder_speed --int8 PHOTOS --rounds 5     # int8 too, calibrated with that folder's pictures
    python -m benchmarks.encoder_speed --device cuda --batch 16     # with a GPU: low precision, compiled, in batches

Weights are random, which changes no timing. The photograph is made 1280 x 720; "padded" rows put it into SAM's square
of 1024 x 1024, "fit" rows into 576 x 1024. All take turns in one process, and rows give the median over the rounds of
the wall time and of its ratio to the reference in the same round, and the median processor time, which holds on a busy
machine too. With --batch, rows are for so many pictures in one call, and milliseconds are per picture.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from tests.random_mobile_sam import save

import samlet
from samlet.errors import SamletError
from samlet.export.int8 import quantize
from samlet.families import family
from samlet.image import Image
from samlet.registry import resolve


def reference(weights, device):
    """The original encoder, in evaluation mode after its weights are loaded."""
    import mobile_sam

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = mobile_sam.sam_model_registry["vit_t"](checkpoint=str(weights)).image_encoder
    encoder = encoder.eval().to(device)

    def run(feeds):
        with torch.inference_mode():
            return encoder(torch.tensor(feeds["image"], device=device)).cpu()

    return run


def rows(weights, args):
    """Name, shape and function of each row; what this machine lacks is said and left out."""
    backends = ["onnx", "openvino", "openvino:bf16", "torch", "torch:bf16"]
    if args.int8:
        backends.insert(3, "openvino:int8")
    if args.device != "cpu":
        low = [f"torch:{args.device},{kind}" for kind in ("f32", "f16", "bf16")]
        backends = [*low, *(f"{name},compile" for name in low)]
    if args.batch > 1:  # the exported graphs take one picture at a time
        backends = [name for name in backends if name.startswith("torch")]
    yield "reference", "padded", reference(weights, args.device)
    for shape in ("padded", "fit"):
        for name in backends:
            try:
                model = samlet.load(weights, backend=name, shape=shape, threads=args.threads)
            except SamletError as error:
                print(f"left out: {name}: {error}")
                continue
            yield name, shape, model.session._encoder.run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photo", type=Path, default=Path("samples/coffee.jpg"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--int8", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    picture = Image.load(np.asarray(PILImage.open(args.photo).convert("RGB").resize((1280, 720))))
    with tempfile.TemporaryDirectory() as folder:
        weights = save(Path(folder) / "mobile_sam.pt")
        card = resolve(weights)
        if args.int8:
            quantize(card, sorted(args.int8.glob("*.jpg")), most=8)  # one form serves both shapes
        ways = [(name, shape, run) for name, shape, run in rows(weights, args)]
        feeds = {}
        for shape in ("padded", "fit"):
            one, _ = family(card.family).feed(picture, card.shaped(shape))
            feeds[shape] = {key: np.repeat(array, args.batch, axis=0) for key, array in one.items()}
        for _, shape, run in ways:
            run(feeds[shape])
        wall, cpu = ([[] for _ in ways] for _ in range(2))
        for _ in range(args.rounds):
            for index, (_, shape, run) in enumerate(ways):
                started, spent = time.perf_counter(), time.process_time()
                run(feeds[shape])
                cpu[index].append((time.process_time() - spent) / args.batch)
                wall[index].append((time.perf_counter() - started) / args.batch)
    print("| encoder | shape | ms | times faster | processor ms |\n|---|---|---:|---:|---:|")
    for index, (name, shape, _) in enumerate(ways):
        ratio = statistics.median(a / b for a, b in zip(wall[0], wall[index], strict=True))
        times = [f"{1e3 * statistics.median(kind[index]):.0f}" for kind in (wall, cpu)]
        print(f"| {name} | {shape} | {times[0]} | {ratio:.2f} | {times[1]} |")


if __name__ == "__main__":
    main()
