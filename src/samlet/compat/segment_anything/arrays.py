"""Between numpy, in which samlet works, and the tensors of those who have torch; torch is never imported here.

Whoever uses tensors has imported torch already, so it is found among the loaded modules or not needed.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = Any
"""A torch tensor where torch is loaded, else a numpy array."""


def loaded_torch() -> Any:
    """Give the torch module if somebody has imported it, else None."""
    module = sys.modules.get("torch")
    return module if hasattr(module, "from_numpy") else None  # half imported, it lacks its names


def is_tensor(value: object) -> bool:
    """Whether a value is a torch tensor."""
    torch = loaded_torch()
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any) -> NDArray[Any]:
    """Give a tensor's numbers, or anything else as an array; half precision becomes float32.

    Args:
        value: A tensor on any device, an array, or nested lists.
    """
    if not is_tensor(value):
        return np.asarray(value)
    torch = loaded_torch()
    tensor = value.detach().cpu()
    array: NDArray[Any] = (
        tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    ).numpy()
    return array


def to_tensor(array: NDArray[Any], *like: Any) -> Tensor:
    """Give an array as a tensor where torch is loaded, else as it is.

    Args:
        array: Writable; the tensor shares its memory when it stays on the CPU.
        like: The first tensor among these says on which device the result belongs.
    """
    torch = loaded_torch()
    if torch is None:
        return array
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    devices = [value.device for value in like if is_tensor(value)]
    return tensor.to(devices[0]) if devices else tensor
