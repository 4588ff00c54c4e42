"""`onnx`: self-contained files in SAM's contract; for a detector its one network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet import backends
from samlet.errors import BackendError, InputError
from samlet.export import assembly, contract, proof
from samlet.export.contract import Contract
from samlet.export.job import Job, Made
from samlet.export.storage import narrow
from samlet.families import family
from samlet.geometry import Frame
from samlet.image import Image
from samlet.prompt import Prompt

Array = NDArray[Any]


def make(job: Job) -> Made:
    """Write `NAME.encoder.onnx` and `NAME.decoder.onnx`, or `NAME.onnx` for a detector.

    Raises:
        InputError: An option does not suit the model.
        BackendError: The files do not answer as samlet does.
    """
    if not job.is_sam:
        return _detector(job)
    options = job.options
    wanted = Contract(
        frame=options.frame or job.card.side,
        preprocess=options.preprocess,
        single=options.single,
        whole_sizes=options.whole_sizes,
    )
    contract.check(job.card, wanted)
    if wanted.frame != job.card.side and not wanted.preprocess:
        raise InputError(
            f"expected --preprocess with --frame {wanted.frame}, since only then the encoder of {job.card.name} takes "
            "such a picture; add it"
        )
    files = write_pair(job, wanted, stem=job.card.name)
    return Made(tuple(files), prove(job, wanted, *[open_file(path) for path in main_files(files)]))


def write_pair(job: Job, wanted: Contract, *, stem: str) -> list[Path]:
    """Write an encoder and a decoder in a contract."""
    contract.check(job.card, wanted)
    files: list[Path] = []
    for role, dress in (("encoder", contract.encoder), ("decoder", contract.decoder)):
        part = job.core(role)
        dress(part, job.card, wanted)
        narrow(part, job.options.precision or "float32")
        files += assembly.write(part, job.folder / f"{stem}.{role}.onnx")
    return files


def main_files(files: Sequence[Path]) -> list[Path]:
    """Leave out the files that only hold weights."""
    return [path for path in files if path.suffix == ".onnx"]


def prove(job: Job, wanted: Contract, encode: proof.Run, decode: proof.Run) -> proof.Agreement:
    """Ask two networks in a contract what samlet is asked.

    Args:
        job: The export.
        wanted: The contract they keep.
        encode: Runs the encoder.
        decode: Runs the decoder.

    Raises:
        BackendError: They answer differently.
    """
    embedded: dict[str, Array] = {}

    def answer(image: Image, prompt: Prompt) -> proof.Answer:
        frame = Frame.fit(image.hw, wanted.frame)
        if not embedded:
            feed = proof.picture_feed(image, job.card, frame, raw=wanted.preprocess)
            embedded["now"] = encode(feed)[0]
        feeds = proof.sam_feeds(embedded["now"], frame, prompt)
        kind = np.int32 if wanted.whole_sizes else np.float32
        masks, _, low_res = decode({**feeds, "orig_im_size": np.array(image.hw, kind)})
        return proof.Answer(masks[0] > 0, low_res[0])

    exact = (job.options.precision or "float32") == "float32" and wanted.frame == job.card.side
    like = replace(job.card, pad="square") if exact else None
    return proof.compare(job.card, answer, single=wanted.single, like=like)


def open_file(path: Path) -> proof.Run:
    """Open a written file with ONNX Runtime, as its users will.

    Raises:
        BackendError: ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base below Exception
        raise BackendError(
            f"expected ONNX Runtime to open the exported {path.name}, but it refused ({error!s:.200}); report this"
        ) from error

    def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
        results: Sequence[Array] = session.run(None, dict(feeds))
        return results

    return run


def _detector(job: Job) -> Made:
    refuse_sam_options(job)
    (role,) = job.card.graphs
    part = job.core(role)
    narrow(part, job.options.precision or "float32")
    files = assembly.write(part, job.folder / f"{job.card.name}.onnx")
    return Made(tuple(files), prove_detector(job, open_file(files[0])))


def refuse_sam_options(job: Job) -> None:
    """Refuse for a detector what only a prompted model has.

    Raises:
        InputError: Such an option was chosen.
    """
    options = job.options
    if options.preprocess or options.single or options.whole_sizes or options.frame:
        raise InputError(
            f"expected no --preprocess, --single, --int32-size or --frame for {job.card.name}, which has no prompts; "
            "leave them out"
        )


def prove_detector(job: Job, run: proof.Run) -> proof.Agreement:
    """Compare the outputs of a detector's network, exported and run by samlet.

    Raises:
        BackendError: They differ.
    """
    (role,) = job.card.graphs
    own = backends.create("onnx").open(role, assembly.graph_file(job.card, role), weights=job.weights)
    feeds, _ = family(job.card.family).feed(Image.load(proof.drawn_picture()), job.card)
    want = list(own.run(feeds).values())
    found = proof.Agreement(proof.gap(run(feeds), want), None, 1)
    proof.check(found)
    return found
