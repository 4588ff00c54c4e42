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
    files = write_networks(job)
    found = prove_networks(job, [open_file(path) for path in files])
    return Made(with_weights(files), found)


def write_networks(job: Job) -> list[Path]:
    """Write the networks of a model in the contract that the options ask for.

    Returns:
        The .onnx files: encoder and decoder, or a detector's one.

    Raises:
        InputError: An option does not suit the model.
    """
    if job.is_sam:
        wanted = _wanted(job)
        contract.check(job.card, wanted)
        if wanted.frame != job.card.side and not wanted.preprocess:
            raise InputError(
                f"expected --preprocess with --frame {wanted.frame}, since only then the encoder of {job.card.name} "
                "takes such a picture; add it"
            )
        return write_pair(job, wanted, stem=job.card.name)
    refuse_options(job, f"the detector {job.card.name}")
    (role,) = job.card.graphs
    part = job.core(role)
    narrow(part, job.options.precision or "float32")
    return [assembly.write(part, job.folder / f"{job.card.name}.onnx")[0]]


def prove_networks(job: Job, runs: Sequence[proof.Run]) -> proof.Agreement:
    """Check what `write_networks` wrote, opened by whichever runtime.

    Raises:
        BackendError: It answers differently from samlet.
    """
    return prove(job, _wanted(job), *runs) if job.is_sam else prove_detector(job, *runs)


def _wanted(job: Job) -> Contract:
    options = job.options
    return Contract(
        frame=options.frame or job.card.side,
        preprocess=options.preprocess,
        single=options.single,
        whole_sizes=options.whole_sizes,
    )


def write_pair(job: Job, wanted: Contract, *, stem: str) -> list[Path]:
    """Write an encoder and a decoder in a contract.

    Returns:
        The two .onnx files; weights that do not fit into one lie beside, under the same name with the ending .weights.
    """
    contract.check(job.card, wanted)
    files: list[Path] = []
    for role, dress in (("encoder", contract.encoder), ("decoder", contract.decoder)):
        part = job.core(role)
        dress(part, job.card, wanted)
        narrow(part, job.options.precision or "float32")
        files.append(assembly.write(part, job.folder / f"{stem}.{role}.onnx")[0])
    return files


def with_weights(files: Sequence[Path]) -> tuple[Path, ...]:
    """Add the files of weights that lie beside networks too large for one file, and come before them."""
    beside = [path.with_suffix(".weights") for path in files]
    return (*(path for path in beside if path.exists()), *files)


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


def refuse_options(job: Job, what: str) -> None:
    """Refuse the options of SAM's contract where they have no meaning; `what` names the format or model.

    Raises:
        InputError: One was chosen.
    """
    options = job.options
    if options.preprocess or options.single or options.whole_sizes or options.frame:
        raise InputError(
            f"expected no --preprocess, --single, --int32-size or --frame with {what}, which has no choice there; "
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
