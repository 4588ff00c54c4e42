"""The two forms that torch saves in: a zip archive (since 1.6), and before that pickles with the numbers behind."""

from samlet.checkpoint import archive
from samlet.checkpoint.elements import Array, Growth
from samlet.checkpoint.machine import Budget, Machine
from samlet.checkpoint.refusal import RefusedError, shown
from samlet.checkpoint.tree import gather
from samlet.checkpoint.values import Storage, Stub
from samlet.checkpoint.vocabulary import storage_of
from samlet.limits import ModelFileLimits

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_VERSION = 1001

Contents = tuple[dict[str, Array], dict[str, str]]
"""Arrays by name, and facts beside them as JSON texts by name."""


def read_zip(data: memoryview, limits: ModelFileLimits) -> Contents:
    """Read the zip form.

    Raises:
        RefusedError: The file is damaged, was not written by torch, or asks for something that no model needs.
    """
    found = archive.entries(data, limits)
    roots = [name.removesuffix("/data.pkl") for name in found if name.endswith("/data.pkl")]
    if len(roots) != 1 or not all(name.startswith(roots[0] + "/") for name in found):
        raise RefusedError(
            "it is a zip archive, but not one that torch.save wrote", "give a .pt, .pth or .safetensors file"
        )
    root = roots[0]
    if f"{root}/constants.pkl" in found or any(name.startswith(f"{root}/code/") for name in found):
        raise RefusedError(
            "it is a TorchScript program, which samlet does not run", "give the weights it was made from"
        )
    order = found.get(f"{root}/byteorder")
    if order is not None and bytes(order.read(data)) != b"little":
        raise RefusedError(
            "its numbers are not little-endian", "load it with torch on the machine that wrote it"
        )
    storages: dict[str, Storage] = {}

    def persistent(named: object) -> object:
        storage = storage_of(named, extra=0)
        known = storages.setdefault(storage.key, storage)
        if known is storage:
            entry = found.get(f"{root}/data/{storage.key}")
            if entry is None:
                raise RefusedError(f"its storage {shown(storage.key)} is missing")
            storage.fill(entry.read(data))
        return _same(known, storage)

    pickle = found[f"{root}/data.pkl"].read(data)
    machine = Machine(pickle, start=0, persistent=persistent, budget=Budget.of(limits), limits=limits)
    tree = machine.run()
    if machine.position != len(pickle):
        raise RefusedError("there are bytes behind its pickle")
    return _contents(tree, len(data), limits)


def read_legacy(data: memoryview, limits: ModelFileLimits) -> Contents:
    """Read the legacy form: magic number, version, system, tree and storage keys as pickles; then the storages.

    Raises:
        RefusedError: The file is damaged, was not written by torch, or asks for something that no model needs.
    """
    storages: dict[str, Storage] = {}
    budget = Budget.of(limits)
    position = 0

    def persistent(named: object) -> object:
        # Beside storages this form mentions the classes of pickled modules, with their source code.
        if (
            isinstance(named, tuple)
            and len(named) == 4
            and named[0] == "module"
            and isinstance(named[1], Stub)
        ):
            return named[1]
        storage = storage_of(named, extra=1)
        return _same(storages.setdefault(storage.key, storage), storage)

    def value() -> object:
        nonlocal position
        machine = Machine(data, start=position, persistent=persistent, budget=budget, limits=limits)
        found = machine.run()
        position = machine.position
        return found

    if value() != _MAGIC_NUMBER or value() != _VERSION:
        raise RefusedError("it is a pickle, but not one that torch.save wrote")
    system = value()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise RefusedError(
            "its numbers are not little-endian", "load it with torch on the machine that wrote it"
        )
    tree, keys = value(), value()
    _fill(data[position:], storages, keys)
    return _contents(tree, len(data), limits)


def _fill(data: memoryview, storages: dict[str, Storage], keys: object) -> None:
    """Attach the storages, which follow each other in the order of the keys: a count, and then the numbers."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise RefusedError("its list of storages is damaged")
    if len(keys) != len(storages) or set(keys) != storages.keys():
        raise RefusedError("its list of storages is not that of its tensors")
    position = 0
    for key in keys:
        storage = storages[key]
        start = position + 8
        position = start + storage.count * storage.kind.size
        if position > len(data) or int.from_bytes(data[start - 8 : start], "little") != storage.count:
            raise RefusedError(f"its storage {shown(key)} is cut short or has another size than it claims")
        storage.fill(data[start:position])
    if position != len(data):
        raise RefusedError(f"it has {len(data) - position:,} bytes behind its last storage")


def _same(known: Storage, mentioned: Storage) -> Storage:
    if (known.kind, known.count) != (mentioned.kind, mentioned.count):
        raise RefusedError(f"its storage {shown(known.key)} is mentioned in two ways")
    return known


def _contents(tree: object, file_bytes: int, limits: ModelFileLimits) -> Contents:
    tensors, facts = gather(tree, limits)
    growth = Growth(file_bytes, limits)
    return {name: tensor.array(growth) for name, tensor in tensors.items()}, facts
