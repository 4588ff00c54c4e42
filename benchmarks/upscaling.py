"""The second half of a prompt's time by itself: SAM's upscaling and the product with a mask's weights, on ONNX Runtime.

    python -m benchmarks.upscaling --rounds 7

The same nodes as in samlet's graph with random weights, for one prompt on the 64 x 64 grid and one mask: all rows at
once and in blocks of rows, whose maps fit a core's cache, with the products alone and without GELU beside them.
Milliseconds a prompt on two threads (with --cpu, of processor time on one), medians of rounds in which the ways take
turns. It needs the `onnx` package.
"""

import argparse
import statistics
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

GRID, DIM = 64, 256


def graph(threads, *, norm=True, gelu=True):
    """Rows of tokens (n, 256) and weights of a mask (32, 1) to logits (16 n, 1)."""
    random = np.random.default_rng(0)
    shapes = {"w1": (DIM, 256), "b1": (256,), "g": (64,), "b": (64,), "w2": (64, 128), "b2": (128,)}
    weights = [
        numpy_helper.from_array((0.05 * random.standard_normal(shape)).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    weights += [
        numpy_helper.from_array(np.array(shape), name) for name, shape in (("s1", [-1, 64]), ("s2", [-1, 32]))
    ]
    nodes, last = [], "x"

    def add(kind, *inputs, **attributes):
        nonlocal last
        nodes.append(helper.make_node(kind, [last, *inputs], [f"{len(nodes)}"], **attributes))
        last = f"{len(nodes) - 1}"

    add("Gemm", "w1", "b1")
    add("Reshape", "s1")
    if norm:
        add("LayerNormalization", "g", "b", axis=-1, epsilon=1e-6)
    if gelu:
        add("Gelu")
    add("Gemm", "w2", "b2")
    if gelu:
        add("Gelu")
    add("Reshape", "s2")
    add("MatMul", "hyper")
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes, "upscaling",
        [info("x", TensorProto.FLOAT, ["n", DIM]), info("hyper", TensorProto.FLOAT, [32, 1])],
        [info(last, TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--cpu", action="store_true", help="processor time of one thread instead of the clock"
    )
    args = parser.parse_args()
    threads, clock = (1, time.process_time) if args.cpu else (2, time.perf_counter)
    random = np.random.default_rng(1)
    tokens = random.standard_normal((GRID * GRID, DIM), np.float32)
    hyper = random.standard_normal((32, 1), np.float32)
    whole = graph(threads)
    bound = whole.io_binding()
    target = onnxruntime.OrtValue.ortvalue_from_shape_and_type([16 * GRID * GRID, 1], np.float32)
    bound.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(tokens))
    bound.bind_ortvalue_input("hyper", onnxruntime.OrtValue.ortvalue_from_numpy(hyper))
    bound.bind_ortvalue_output(whole.get_outputs()[0].name, target)

    def blocks(session, rows):
        return lambda: [
            session.run(None, {"x": tokens[start : start + rows * GRID], "hyper": hyper})
            for start in range(0, len(tokens), rows * GRID)
        ]

    ways = {f"{rows} rows at a time": blocks(whole, rows) for rows in (64, 32, 16, 8, 4, 2)}
    ways["64 rows, inputs and output bound"] = lambda: whole.run_with_iobinding(bound)
    ways["64 rows, without GELU"] = blocks(graph(threads, gelu=False), 64)
    ways["64 rows, without GELU and norm: products alone"] = blocks(
        graph(threads, norm=False, gelu=False), 64
    )
    times = {way: [] for way in ways}
    for number in range(args.rounds + 1):
        for way, do in ways.items():
            started = clock()
            for _ in range(8):
                do()
            if number:
                times[way].append((clock() - started) * 1e3 / 8)
    print("| upscaling of one prompt | ms |\n|---|---:|")
    for way, row in times.items():
        print(f"| {way} | {statistics.median(row):.1f} ({min(row):.1f} to {max(row):.1f}) |")


if __name__ == "__main__":
    main()
