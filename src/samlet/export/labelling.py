"""`anylabeling` and `x-anylabeling`: a model that these labelling programs load from a folder.

Both scale a picture to fit into 1,024 x 684 pixels and feed it, padded to exactly that, as float32 (684, 1024, 3); the
graph does everything else. They append a padding point to every prompt and look at `masks[0][0]` alone.
"""

import json
import re
from typing import Literal

from samlet.errors import InputError
from samlet.export import onnx_files
from samlet.export.contract import Contract
from samlet.export.job import Job, Made

Program = Literal["anylabeling", "x-anylabeling"]

FRAME, LOW = 1024, 682  # the program adds the last two rows itself


def make(job: Job, program: Program) -> Made:
    """Write `NAME.yaml`, `NAME.encoder.onnx` and `NAME.decoder.onnx`.

    Args:
        job: The export.
        program: Which of the two programs; X-AnyLabeling's file names a provider too.

    Raises:
        InputError: The model takes no prompts, or an option was chosen that these programs fix.
        BackendError: The files do not answer as samlet does.
    """
    if not job.is_sam:
        raise InputError(
            f"expected a model that takes clicks and boxes for {program}, got {job.card.name}; "
            "choose one of SAM's family, such as mobile_sam"
        )
    onnx_files.refuse_options(job, program)
    wanted = Contract(frame=FRAME, preprocess=True, single=True)
    stem = re.sub(r"[^a-z0-9_-]", "_", job.card.name)
    files = onnx_files.write_pair(job, wanted, stem=stem)
    config = job.folder / f"{stem}.yaml"
    config.write_text(_yaml(job, stem, program), "utf-8")
    found = onnx_files.prove(job, wanted, *map(onnx_files.open_file, files))
    return Made((*onnx_files.with_weights(files), config), found, (f"load {config.name} as a custom model",))


def _yaml(job: Job, stem: str, program: Program) -> str:
    """Write the file that the program reads; JSON's texts are YAML's too."""
    fields: dict[str, str | int] = {
        "type": "segment_anything",
        "name": stem,
        **({"provider": "samlet"} if program == "x-anylabeling" else {}),
        "display_name": job.card.title,
        "encoder_model_path": f"{stem}.encoder.onnx",
        "decoder_model_path": f"{stem}.decoder.onnx",
        "input_size": FRAME,
        "max_width": FRAME,
        "max_height": LOW,
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())
