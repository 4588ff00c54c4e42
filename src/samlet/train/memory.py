"""Running out of memory, said in one sentence that names the setting to lower."""

import contextlib
from collections.abc import Iterator

import torch

from samlet.errors import LimitError

# What torch says for a processor's memory; for a GPU's it has an exception of its own.
_SAID = ("can't allocate memory", "not enough memory", "DefaultCPUAllocator", "out of memory")


@contextlib.contextmanager
def advice_on_memory(size_words: str) -> Iterator[None]:
    """Turn an out-of-memory failure of the block into a sentence.

    Args:
        size_words: The settings that decide the size of a step, with their values.

    Raises:
        LimitError: Memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        raise LimitError(
            f"expected a step to fit into memory, but it ran out ({str(error).splitlines()[0]:.120}); lower "
            f"{size_words}, and raise --accumulate to keep the pictures of a step"
        ) from error


def _is_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _SAID)
