"""ONNX Runtime's own int8 beside float32: encoders of nano and MobileSAM, time and masks.

    python -m benchmarks.onnx_int8 --calibrate PHOTOS --rounds 5
    python -m benchmarks.onnx_int8 --calibrate PHOTOS --rounds 0 --set SET --every 12

"dynamic" quantises linear layers when they run; "static" puts scales measured on pictures into the graph (QDQ, one
scale a channel for weights), for linear layers, or for convolutions too. Ways take turns, figures are medians of
milliseconds on two threads. With --set, nano's masks are held against the truth and against float32, as
`benchmarks.agreement` does. It needs the `onnx` package.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime import quantization
from tests.random_mobile_sam import save

import samlet
from benchmarks import agreement
from samlet.backends.onnx import _OnnxGraph
from samlet.evaluate.datasets import Dataset
from samlet.families import family
from samlet.image import Image
from samlet.packed import pack_model
from samlet.registry import resolve

WAYS = ("dynamic", "static, linear layers", "static, all")


class Pictures(quantization.CalibrationDataReader):
    """Feeds of some pictures."""

    def __init__(self, card, paths):
        self.feeds = (family(card.family).feed(Image.load(path), card)[0] for path in paths)

    def get_next(self):
        return next(self.feeds, None)


def options(*, optimise=True):
    found = onnxruntime.SessionOptions()
    found.intra_op_num_threads, found.log_severity_level = 2, 3
    found.add_session_config_entry("session.force_spinning_stop", "1")
    level = onnxruntime.GraphOptimizationLevel
    found.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_ENABLE_BASIC
    return found


def forms(card, folder, paths):
    """Write the encoder in float32 and quantised; paths by way."""
    graph = pack_model(card, roles=["encoder"])["encoder"]
    plain, folded = graph.packed.with_name(f"{graph.name}.onnx"), folder / "folded.onnx"
    shutil.copy(graph.packed, folder)  # those that folding leaves alone are still looked for there
    # Weights reach products through transpositions: unless these are folded, nothing is found to quantise.
    basic = options(optimise=False)
    basic.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(plain), basic, providers=["CPUExecutionProvider"])
    found = {"float32": plain}
    for way in WAYS:
        found[way] = folder / f"{way.replace(', ', '-').replace(' ', '-')}.onnx"
        kinds = ["Conv", "MatMul", "Gemm"] if way.endswith("all") else ["MatMul", "Gemm"]
        if way == "dynamic":
            quantization.quantize_dynamic(
                folded, found[way], op_types_to_quantize=kinds, per_channel=True,
                weight_type=quantization.QuantType.QInt8, extra_options={"MatMulConstBOnly": True},
            )  # fmt: skip
        else:
            quantization.quantize_static(
                folded, found[way], Pictures(card, paths), op_types_to_quantize=kinds, per_channel=True,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )  # fmt: skip
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calibrate", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--most", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", type=Path)
    parser.add_argument("--every", type=int, default=12)
    args = parser.parse_args()
    paths = sorted(args.calibrate.glob("*.jpg"))[: args.most]
    with tempfile.TemporaryDirectory() as folder:
        names = {"nano": "nano"}
        if args.rounds:
            names["MobileSAM"] = str(save(Path(folder) / "mobile_sam.pt"))
            print("| encoder | way | ms | times faster |\n|---|---|---:|---:|")
        for name, which in names.items():
            card = resolve(which)
            place = Path(folder) / name
            place.mkdir()
            sessions = {
                way: onnxruntime.InferenceSession(str(path), options(), providers=["CPUExecutionProvider"])
                for way, path in forms(card, place, paths).items()
            }
            feeds, _ = family(card.family).feed(Image.load(paths[0]), card)
            times = {way: [] for way in sessions}
            for number in range(args.rounds and args.rounds + 1):
                for way, session in sessions.items():
                    started = time.perf_counter()
                    session.run(None, feeds)
                    if number:
                        times[way].append(time.perf_counter() - started)
            for way, row in times.items() if args.rounds else ():
                ratio = statistics.median(a / b for a, b in zip(times["float32"], row, strict=True))
                print(f"| {name} | {way} | {1e3 * statistics.median(row):.0f} | {ratio:.2f} |", flush=True)
            if name == "nano" and args.set:
                masks(args, sessions)


def masks(args, sessions):
    """Print what quantising changes in nano's masks."""
    models = {"plain": samlet.load("nano", threads=2)}
    for way in WAYS:
        models[way] = samlet.load("nano", threads=2)
        models[way].session._encoder = _OnnxGraph("encoder", sessions[way], keep=None)
    found, _ = agreement.measure(Dataset.open(args.set).select(every=args.every), models)
    print(
        "| way | objects | box | change | same | click | change | same |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for way in models:
        cells = []
        for kind in ("box", "click"):
            truth, same = np.mean(found[way, kind], axis=0)
            plain = np.mean(found["plain", kind], axis=0)[0]
            cells += [f"{truth:.4f}", f"{truth - plain:+.4f}", f"{same:.4f}"]
        print(f"| {way} | {len(found[way, 'box'])} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
