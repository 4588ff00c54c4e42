"""How far exported files of `nano` agree with samlet on photographs: mean mask IoU over clicks and true boxes.

    python -m benchmarks.export_agreement ../shared/data/train/voc2007_seg_train --every 5 --limit 40

SET has images/NAME.jpg and masks/NAME.png. Each object gives one box and one click on its middle pixel; the box is
answered by token 0 and the click by the best of three, on both sides. Rows: the files of `web` by how weights are
stored, `onnx` on the square canvas, and `anylabeling`, whose pictures come at 1,024 pixels.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import samlet
from samlet import registry
from samlet.evaluate.datasets import Dataset
from samlet.export import onnx_files, proof
from samlet.export.formats import export
from samlet.export.job import Options
from samlet.families import sam
from samlet.geometry import Frame, mask_iou
from samlet.prompt import Prompt

WEB = {"web as it is: float16": None, "web, int8": "int8"}


def prompts_of(case_masks, hw):
    """A box and a click for each object."""
    for mask in case_masks:
        rows, columns = np.nonzero(mask)
        if len(rows) < 100:
            continue
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        middle = len(rows) // 2
        yield "box", Prompt.make(image_hw=hw, boxes=[box])
        yield "click", Prompt.make(image_hw=hw, points=[[columns[middle], rows[middle]]])


def best(kind, scores, masks):
    """Token 0 for a box, the best of three for a click."""
    return masks[0] if kind == "box" else masks[1 + int(np.argmax(scores[1:]))]


def web(folder, card):
    encode, decode = (onnx_files.open_file(folder / f"{role}.onnx") for role in ("encoder", "decoder"))

    def embed(image):
        feed, frame = sam.feed(image, card)
        return encode(feed)[0], frame

    def answer(view, kind, prompt):
        embedding, frame = view
        scores, low_res = decode(proof.sam_feeds(embedding, frame, prompt))
        return best(kind, scores[0], proof.masks_of(low_res[0], frame))

    return embed, answer


def contract_pair(folder, size, raw, card):
    encode, decode = (onnx_files.open_file(folder / f"nano.{role}.onnx") for role in ("encoder", "decoder"))

    def embed(image):
        frame = Frame.fit(image.hw, size)
        return encode(proof.picture_feed(image, card, frame, raw=raw))[0], frame

    def answer(view, kind, prompt):
        embedding, frame = view
        feeds = proof.sam_feeds(embedding, frame, prompt)
        masks, scores, _ = decode({**feeds, "orig_im_size": np.array(frame.image_hw, np.float32)})
        return masks[0, 0] > 0 if masks.shape[1] == 1 else best(kind, scores[0], masks[0] > 0)

    return embed, answer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("set", type=Path)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--limit", type=int, default=40)
    args = parser.parse_args()
    model, card = samlet.load(), registry.resolve("nano")
    with tempfile.TemporaryDirectory() as temporary:
        ways = {}
        for name, precision in WEB.items():
            folder = Path(temporary) / name
            export(card, format="web", folder=folder, options=Options(precision=precision))
            ways[name] = web(folder, card)
        for name, format, size, raw in (
            ("onnx, square canvas", "onnx", 512, False),
            ("anylabeling", "anylabeling", 1024, True),
        ):
            folder = Path(temporary) / name
            export(card, format=format, folder=folder, options=Options())
            ways[name] = contract_pair(folder, size, raw, card)
        ious = {name: {"box": [], "click": []} for name in ways}
        for sample in Dataset.open(args.set).select(every=args.every, limit=args.limit).samples(broken=[]):
            compare(sample, model, ways, ious)
    print(
        "| | box, mean | box, worst 5 % | click, mean | click, worst 5 % | prompts |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, kinds in ious.items():
        values = [
            f(kinds[kind])
            for kind in ("box", "click")
            for f in (np.mean, lambda each: np.quantile(each, 0.05))
        ]
        cells = [f"{value:.4f}" for value in values]
        print(f"| {name} | {' | '.join(cells)} | {sum(map(len, kinds.values()))} |")


def compare(sample, model, ways, ious):
    """Ask every way what samlet is asked about one picture."""
    image = sample.load_image()
    own = model.embed(image)
    views = {name: embed(image) for name, (embed, _) in ways.items()}
    for kind, prompt in prompts_of([region.mask for region in sample.regions], image.hw):
        found = model.session.segment(own, prompt, multimask=kind == "click")
        want = proof.masks_of((found.best() if kind == "click" else found).logits, own.frame)[0]
        for name, (_, answer) in ways.items():
            ious[name][kind].append(mask_iou(want, answer(views[name], kind, prompt)))


if __name__ == "__main__":
    main()
