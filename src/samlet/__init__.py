"""samlet: a photo and a click become a mask, without torch.

The public names below are loaded when they are first used, so that `import samlet` stays light:
it reads neither numpy nor a runtime nor a model.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samlet.card import Card
    from samlet.embedding import Embedding
    from samlet.errors import (
        BackendError,
        BusyError,
        CheckpointError,
        ChecksumError,
        EmbeddingError,
        ImageError,
        InputError,
        LimitError,
        MissingExtraError,
        ModelError,
        OutputError,
        PartialFailureError,
        PromptError,
        SamletError,
        TrainingError,
        UnknownModelError,
    )
    from samlet.image import Image
    from samlet.limits import Limits
    from samlet.masks import Masks
    from samlet.model import Model, load, models
    from samlet.prompt import Prompt

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "BusyError",
    "Card",
    "CheckpointError",
    "ChecksumError",
    "Embedding",
    "EmbeddingError",
    "Image",
    "ImageError",
    "InputError",
    "LimitError",
    "Limits",
    "Masks",
    "MissingExtraError",
    "Model",
    "ModelError",
    "OutputError",
    "PartialFailureError",
    "Prompt",
    "PromptError",
    "SamletError",
    "TrainingError",
    "UnknownModelError",
    "__version__",
    "load",
    "models",
]

_ROOMS = {
    "Card": "samlet.card",
    "Embedding": "samlet.embedding",
    "Image": "samlet.image",
    "Limits": "samlet.limits",
    "Masks": "samlet.masks",
    "Model": "samlet.model",
    "Prompt": "samlet.prompt",
    "load": "samlet.model",
    "models": "samlet.model",
}


def __getattr__(name: str) -> object:
    """Import the room that holds a public name, at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'samlet' has no attribute {name!r}")
    value: object = getattr(import_module(_ROOMS.get(name, "samlet.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, whether they are loaded yet or not."""
    return sorted({*globals(), *__all__})
