"""One contestant from nothing to a mask file: python -m benchmarks.start KIND WEIGHTS THREADS PHOTO.

KIND "runtime" is ONNX Runtime alone, opened as its manual says, on samlet's graphs with their weights beside them;
WEIGHTS is their folder.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.worker import contestant, peak_mib


def runtime_alone(folder, threads, photo, target):
    """The same two networks without samlet: nothing is checked, one click is answered at the size of the picture."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    encoder, decoder = (
        onnxruntime.InferenceSession(str(Path(folder) / name), options, providers=["CPUExecutionProvider"])
        for name in ("tiny_vit_5m_encoder.onnx", "sam_decoder.onnx")
    )
    picture = Image.open(photo).convert("RGB")
    scale = 1024 / max(picture.size)
    small = picture.resize([int(side * scale + 0.5) for side in picture.size], Image.Resampling.BILINEAR)
    canvas = np.zeros((1, 3, 1024, 1024), np.float32)
    pixels = (np.asarray(small, np.float32) - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)
    canvas[0, :, : small.height, : small.width] = pixels.transpose(2, 0, 1)
    (embedding,) = encoder.run(None, {encoder.get_inputs()[0].name: canvas})
    feeds = {
        "image_embeddings": embedding,
        "point_coords": np.array([[[640 * scale, 360 * scale], [0, 0]]], np.float32),
        "point_labels": np.array([[1, -1]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }
    names = [output.name for output in decoder.get_outputs()]
    logits = dict(zip(names, decoder.run(None, feeds), strict=True))["low_res_masks"][0, 0]
    shown = logits[: round(small.height / 4), : round(small.width / 4)]
    mask = np.asarray(Image.fromarray(shown).resize(picture.size, Image.Resampling.BILINEAR)) > 0
    Image.fromarray(mask).save(target)


def main():
    kind, weights, threads, photo = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "mask.png"
        if kind.startswith("samlet-"):
            import samlet

            model = samlet.load(weights, backend=kind.split("-", 1)[1], threads=int(threads))
            model.segment(photo, points=[640, 360]).save(target)
        elif kind == "runtime":
            runtime_alone(weights, int(threads), photo, target)
        else:
            import numpy as np
            from PIL import Image

            runner = contestant(kind)(kind, weights, int(threads), "cpu")
            runner.build()
            runner.picture(photo)
            runner.embed()
            mask = runner.prompts(np.array([[640.0, 360.0]]))
            Image.fromarray(np.asarray(mask).reshape(mask.shape[-2:])).save(target)
        if not target.stat().st_size:
            raise SystemExit(1)
    print(peak_mib())


if __name__ == "__main__":
    main()
