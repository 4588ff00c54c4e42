"""`web`: a model for onnxruntime-web, small enough to download, with a manifest that says how to feed it.

The graphs are samlet's own: any number of prompts at once, any picture whose canvas is as the manifest says, and
low-res logits, which the page enlarges. Weights lie beside the graphs, because a page can then show the progress of one
download and keep it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samlet.errors import InputError
from samlet.export import assembly, onnx_files, proof
from samlet.export.contract import name_grid
from samlet.export.job import Job, Made
from samlet.export.storage import Precision, narrow

MANIFEST = "manifest.json"
VERSION = 1
ROLES = ("encoder", "decoder", "objects")

_PRECISION: Mapping[str, Precision] = {"encoder": "float16", "decoder": "float16", "objects": "float16"}
"""Stored as, unless --weights says otherwise; int8 would change clicks too much, see docs/how-to/export.md."""


def make(job: Job) -> Made:
    """Write `manifest.json` and, for each network, ROLE.onnx and ROLE.weights.

    Raises:
        InputError: The model takes no prompts, or an option was chosen that has no meaning here.
        BackendError: The files do not answer as samlet does.
    """
    if not job.is_sam:
        raise InputError(
            f"expected a model that takes clicks and boxes for web, got {job.card.name}; "
            "choose one of SAM's family, such as nano"
        )
    onnx_files.refuse_options(job, "web")
    files: list[Path] = []
    parts: dict[str, Any] = {}
    for role in (role for role in ROLES if role in job.card.graphs):
        part = job.core(role)
        name_grid([*part.model.graph.input, *part.model.graph.output])
        precision = job.options.precision or _PRECISION[role]
        narrow(part, precision)
        graph, weights = assembly.write(part, job.folder / f"{role}.onnx", beside=True)
        files += [graph, weights]
        parts[role] = {
            "graph": graph.name,
            "weights": weights.name,
            "inputs": part.inputs,
            "outputs": part.outputs,
            "stored_as": precision,
        }
    encode, decode = (onnx_files.open_file(job.folder / f"{role}.onnx") for role in ROLES[:2])
    found = proof.compare_own(
        job.card, encode, decode, canvas=job.card, exact=job.options.precision == "float32"
    )
    manifest = job.folder / MANIFEST
    manifest.write_text(json.dumps(_manifest(job, parts, files, found), indent=1) + "\n", "utf-8")
    return Made((*files, manifest), found)


def _manifest(
    job: Job, parts: Mapping[str, Any], files: list[Path], found: proof.Agreement
) -> dict[str, Any]:
    card = job.card
    return {
        "format": "samlet-web",
        "version": VERSION,
        "model": card.name,
        "title": card.title,
        "licence": card.licence,
        "weights_licence": card.weights_licence,
        "digest": card.digest,
        **parts,
        "side": card.side,
        "pad": card.pad,
        "mean": list(card.mean),
        "std": list(card.std),
        "stride": card.stride,
        "embedding_channels": card.embedding_channels,
        "logits_per_cell": 4,
        "agreement": {"mask_iou": round(found.iou or 0.0, 4), "prompts": found.cases},
        "files": {
            path.name: {
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        },
    }
