"""From what a torch file holds to tensors by name: a dict of tensors, dicts within a dict, or whole modules."""

import json
from collections.abc import Iterator

from samlet.checkpoint.elements import Growth
from samlet.checkpoint.refusal import RefusedError, shown
from samlet.checkpoint.values import Record, Tensor
from samlet.limits import MODEL_FILE_LIMITS, ModelFileLimits

NESTED = "/"
"""Between the name of a dict within the file and the name of a tensor in it: "model/patch_embed.seq.0.c.weight"."""

_FACTS = ("yaml", "names", "nc", "stride", "reg_max")
_HEAD = ("nc", "reg_max")  # where the last layer says it and the model does not
_DEEPEST_FACT = 8
_LONGEST_NAME = 300


def gather(root: object, limits: ModelFileLimits) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Collect the tensors of a file by name, and plain facts beside them as JSON texts.

    A pickled module gives the names that its state dict would have; of a training checkpoint the averaged module
    ("ema") is preferred. The tensors of a dict within the dict get its name and a slash in front.

    Raises:
        RefusedError: There are no tensors, or names are missing or come twice.
    """
    module = _module(root)
    tensors = dict(_unique(_of_module(module, limits) if module else _of_dict(root), limits))
    if not tensors:
        raise RefusedError("it holds no tensors by name", "give a file with the weights of a network")
    facts: dict[str, object] = {}
    if isinstance(root, dict):
        facts |= {name: value for name, value in root.items() if isinstance(name, str) and _is_scalar(value)}
    if module:
        facts |= _facts(module)
    budget = _Count(limits.max_facts)
    return tensors, {name: text for name, fact in facts.items() if (text := _json(fact, budget)) is not None}


def _module(root: object) -> Record | None:
    """Find the pickled module, if there is one."""
    candidates = [root.get("ema"), root.get("model")] if isinstance(root, dict) else [root]
    return next((value for value in candidates if isinstance(value, Record)), None)


def _unique(pairs: Iterator[tuple[str, Tensor]], limits: ModelFileLimits) -> Iterator[tuple[str, Tensor]]:
    seen: set[str] = set()
    for name, tensor in pairs:
        if name in seen:
            raise RefusedError(f"its tensor {shown(name)} comes twice")
        seen.add(name)
        if len(seen) > limits.max_tensors:
            raise RefusedError(f"it has more than {limits.max_tensors:,} tensors")
        yield name, tensor


def _of_dict(root: object) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(root, dict):
        raise RefusedError("it holds no dict of tensors", "give a file with the weights of a network")
    for key, value in root.items():
        if isinstance(value, Tensor):
            yield _name(key), value
        elif isinstance(value, dict):
            for inner, tensor in value.items():
                if isinstance(tensor, Tensor) and isinstance(inner, str):
                    yield f"{_name(key)}{NESTED}{_name(inner)}", tensor


def _name(key: object) -> str:
    if (
        not isinstance(key, str)
        or not 0 < len(key) <= _LONGEST_NAME
        or NESTED in key
        or not key.isprintable()
    ):
        raise RefusedError(f"its tensor {shown(key)} has a name that no network uses")
    return key


def _of_module(module: Record, limits: ModelFileLimits) -> Iterator[tuple[str, Tensor]]:
    """Walk a module as its state dict does: own parameters, own buffers, then the children in order."""
    left = limits.max_tensors  # also ends a walk through modules that contain themselves
    waiting = [("", module)]
    while waiting:
        prefix, record = waiting.pop()
        left -= 1
        if left < 0 or len(prefix) > _LONGEST_NAME:
            raise RefusedError("its modules contain each other without end")
        hidden = record.state.get("_non_persistent_buffers_set")
        for name, value in (_part(record, "_parameters") | _part(record, "_buffers")).items():
            if isinstance(value, Tensor) and not (isinstance(hidden, set) and name in hidden):
                yield prefix + _name(name), value
        children = [
            (f"{prefix}{_name(name)}.", child)
            for name, child in _part(record, "_modules").items()
            if isinstance(child, Record)
        ]
        waiting.extend(reversed(children))
        left -= len(children)


def _part(record: Record, name: str) -> dict[object, object]:
    part = record.state.get(name, {})
    if not isinstance(part, dict):
        raise RefusedError(f"its module {shown(record.path)} has no dict of {name}")
    return part


def _facts(module: Record) -> dict[str, object]:
    """Take what a detector says about itself from the model and from its last layer."""
    facts = {name: module.state[name] for name in _FACTS if name in module.state}
    layers = _part(module, "_modules").get("model")
    if isinstance(layers, Record) and (inner := _part(layers, "_modules")):
        head = list(inner.values())[-1]
        if isinstance(head, Record):
            facts = {name: head.state[name] for name in _HEAD if name in head.state} | facts
    return facts


class _Count:
    """How many values may still be kept."""

    def __init__(self, left: int) -> None:
        self.left = left


def _is_scalar(value: object) -> bool:
    return type(value) in (str, int, float, bool)


def _json(fact: object, budget: _Count) -> str | None:
    """Write a fact as JSON; None if it is not plain or too much of it."""
    try:
        return json.dumps(_plain(fact, budget, 0), allow_nan=False)
    except ValueError:
        return None


def _plain(value: object, budget: _Count, depth: int) -> object:
    """Copy plain data.

    Raises:
        ValueError: The value is not plain, too deep, or the budget is spent.
    """
    budget.left -= 1 + (len(value) // 64 if isinstance(value, str) else 0)
    if budget.left < 0 or depth > _DEEPEST_FACT:
        raise ValueError("too much")
    if value is None or _is_scalar(value):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, budget, depth + 1) for item in value]
    if isinstance(value, Tensor) and value.storage.count <= 64:
        numbers: object = value.array(Growth(0, MODEL_FILE_LIMITS)).tolist()
        return numbers
    raise ValueError("not plain")
