"""The names that a torch file may mention, and what each of them means here. Everything else is refused by name.

Nothing is looked up in Python: a name of the file is a key of these tables or the file is refused. The functions
are ours, take the values of the pickle machine, and make such values.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from samlet.checkpoint.elements import KINDS, Kind
from samlet.checkpoint.refusal import RefusedError, shown
from samlet.checkpoint.values import Name, Record, Storage, Stub, Tensor

Charge = Callable[[int], None]
"""Pays for copied elements out of the machine's budget of steps; raises `RefusedError` when it is spent."""

_LONGEST = 200
_INERT = ("ultralytics.", "torch.nn.modules.")
_PATHS = ("pathlib", "pathlib._local")
_NUMPY_SCALARS = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "u1": "<B", "b1": "<?"}


@dataclass(frozen=True, slots=True)
class Function:
    """A name that may be called."""

    path: str
    call: Callable[[Sequence[object], Charge], object]


@dataclass(frozen=True, slots=True)
class StorageName:
    """The name of a storage class, which says what the numbers of a storage are."""

    kind: Kind


Meaning = Function | StorageName | Stub | Name


def meaning(module: str, name: str) -> Meaning:
    """Say what a name in a file stands for.

    Raises:
        RefusedError: It is on no list.
    """
    path = f"{module}.{name}"
    if len(path) > _LONGEST or not all(part.isidentifier() for part in path.split(".")):
        raise _unknown(path)
    if module in ("__builtin__", "builtins"):
        path = f"builtins.{name}"
    if path in _FUNCTIONS:
        return Function(path, _FUNCTIONS[path])
    if module == "torch" and name in STORAGES:
        return StorageName(STORAGES[name])
    if path in _NAMES:
        return Name(path)
    if module in _PATHS and name.endswith("Path") and "." not in name:
        return Function("pathlib.Path", _path)
    if path == "types.SimpleNamespace":
        return Stub(path)
    if module.startswith(_INERT):
        return _inert(path, name)
    raise _unknown(path)


def instance(of: object, arguments: Sequence[object], charge: Charge) -> object:
    """Call a name: run our function for it, or make a record if it is only a stub.

    Raises:
        RefusedError: It is nothing that may be called, or is called in another way than torch does.
    """
    if isinstance(of, Function):
        return of.call(arguments, charge)
    if isinstance(of, Stub):
        return Record(of.path, tuple(arguments))
    called = of.path if isinstance(of, Name) else type(of).__name__
    raise RefusedError(f"its pickle calls {shown(called)}, which no model needs")


def _inert(path: str, name: str) -> Meaning:
    """A class of the two libraries, or the one method that a detection head keeps of its own class."""
    if "." not in name:
        return Stub(path)
    if name.endswith(".forward") and name.count(".") == 1:
        return Name(path)
    raise _unknown(path)


def _unknown(path: str) -> RefusedError:
    return RefusedError(
        f"its pickle names {shown(path)}, which no model needs; nothing of it was executed",
        "do not open it with anything else, get the model from its publisher",
    )


def _odd(path: str) -> RefusedError:
    return RefusedError(f"its pickle calls {path} in another way than torch does")


def _ordered_dict(arguments: Sequence[object], charge: Charge) -> object:
    if arguments:
        raise _odd("collections.OrderedDict")
    return {}


def _tensor(arguments: Sequence[object], charge: Charge) -> object:
    # (storage, offset, size, stride[, requires_grad, backward_hooks[, metadata]])
    if len(arguments) not in (4, 6, 7):
        raise _odd("torch._utils._rebuild_tensor_v2")
    return Tensor.of(*arguments[:4])


def _parameter(arguments: Sequence[object], charge: Charge) -> object:
    # (tensor, requires_grad, backward_hooks[, state])
    if len(arguments) not in (3, 4) or not isinstance(arguments[0], Tensor):
        raise _odd("torch._utils._rebuild_parameter")
    return arguments[0]


def _size(arguments: Sequence[object], charge: Charge) -> object:
    if len(arguments) != 1 or not isinstance(arguments[0], tuple):
        raise _odd("torch.Size")
    return arguments[0]


def _device(arguments: Sequence[object], charge: Charge) -> object:
    if not 1 <= len(arguments) <= 2 or not isinstance(arguments[0], str):
        raise _odd("torch.device")
    return arguments[0]


def _set(arguments: Sequence[object], charge: Charge) -> object:
    if len(arguments) != 1 or not isinstance(arguments[0], list):
        raise _odd("builtins.set")
    charge(len(arguments[0]))
    return {check_key(element) for element in arguments[0]}


def _slice(arguments: Sequence[object], charge: Charge) -> object:
    return Record("builtins.slice", tuple(arguments))


def _getattr(arguments: Sequence[object], charge: Charge) -> object:
    # A detection head keeps `Detect.forward` as an attribute. Nothing is fetched: the answer is its name.
    if len(arguments) == 2 and isinstance(arguments[0], Stub) and arguments[1] == "forward":
        return Name(f"{arguments[0].path}.forward")
    asked = arguments[1] if len(arguments) == 2 else None
    raise RefusedError(f"its pickle asks getattr for {shown(asked)}, which no model needs")


def _path(arguments: Sequence[object], charge: Charge) -> object:
    parts = [part for part in arguments if isinstance(part, str)]
    charge(sum(len(part) for part in parts))
    if len(parts) != len(arguments):
        raise _odd("pathlib.Path")
    return "/".join(parts).replace("//", "/", 1)


def _encode(arguments: Sequence[object], charge: Charge) -> object:
    # How old pickle protocols write bytes.
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        raise _odd("_codecs.encode")
    charge(len(arguments[0]))
    return arguments[0].encode("latin-1", "replace")


def _dtype(arguments: Sequence[object], charge: Charge) -> object:
    return Record("numpy.dtype", tuple(arguments))


def _scalar(arguments: Sequence[object], charge: Charge) -> object:
    if len(arguments) == 2 and isinstance(arguments[0], Record) and arguments[0].path == "numpy.dtype":
        kind, data = (*arguments[0].arguments, None)[0], arguments[1]
        form = _NUMPY_SCALARS.get(kind) if isinstance(kind, str) else None
        if form and isinstance(data, bytes) and len(data) == struct.calcsize(form):
            number: object = struct.unpack(form, data)[0]
            return number
    raise _odd("numpy's scalar")


def check_key(key: object) -> str | int | None:
    """Accept as keys of dicts and elements of sets what torch files have: texts and small numbers.

    A nested tuple hashes in exponential time, and large numbers can be chosen to collide.

    Raises:
        RefusedError: It is anything else.
    """
    if key is None or type(key) is str or type(key) is bool or (type(key) is int and abs(key) < 2**31):
        return key
    raise RefusedError(
        f"its pickle has a key of type {type(key).__name__}, where torch has texts and numbers"
    )


_FUNCTIONS: dict[str, Callable[[Sequence[object], Charge], object]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.slice": _slice,
    "builtins.getattr": _getattr,
    "_codecs.encode": _encode,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}
STORAGES = {
    f"{name}Storage": KINDS[kind]
    for name, kind in {
        "Half": "F16",
        "BFloat16": "BF16",
        "Float": "F32",
        "Double": "F64",
        "Char": "I8",
        "Short": "I16",
        "Int": "I32",
        "Long": "I64",
        "Byte": "U8",
        "Bool": "BOOL",
    }.items()
}
_NAMES = {
    *(f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64", "half", "float", "double")),
    *(f"torch.{name}" for name in ("int8", "int16", "int32", "int64", "uint8", "bool", "long", "int")),
    *(f"builtins.{name}" for name in ("list", "dict", "tuple", "int", "float", "bool", "str")),
}


def storage_of(persistent: object, extra: int) -> Storage:
    """Read a persistent id, the way torch mentions a storage: ("storage", class, key, location, count).

    Args:
        persistent: What the pickle hands over.
        extra: How many empty elements may follow: the legacy form has one.

    Raises:
        RefusedError: It is something else.
    """
    if isinstance(persistent, tuple) and len(persistent) == 5 + extra and persistent[0] == "storage":
        _, named, key, _, count = persistent[:5]
        if any(element is not None for element in persistent[5:]):
            raise RefusedError("it has views of storages, which torch stopped to write long ago")
        good = isinstance(named, StorageName) and isinstance(key, str) and type(count) is int
        if good and key.isascii() and key.isdigit() and 0 <= count < 2**48:
            return Storage(named.kind, key, count)
    raise RefusedError("its pickle mentions a storage in another way than torch does")
