"""What a pickle may leave behind: storages, tensors that lie in them, and inert records of everything else."""

from dataclasses import dataclass, field
from math import prod

from samlet.checkpoint.elements import Array, Growth, Kind, check_counts, check_shape, span, view
from samlet.checkpoint.refusal import RefusedError
from samlet.limits import MODEL_FILE_LIMITS


@dataclass(slots=True, eq=False)
class Storage:
    """A run of numbers of one kind.

    Attributes:
        kind: What the numbers are.
        key: What the file calls it.
        count: How many numbers it holds.
        data: Its bytes, exactly `count` numbers; None until they were found (the legacy form has them at the end).
    """

    kind: Kind
    key: str
    count: int
    data: memoryview | None = None

    def fill(self, data: memoryview) -> None:
        """Attach the bytes.

        Raises:
            RefusedError: Their number is another one than the storage's.
        """
        if len(data) != self.count * self.kind.size:
            raise RefusedError(f"a storage in it claims {self.count:,} numbers and has {len(data):,} bytes")
        self.data = data


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor that lies in a storage; made by `Tensor.of`, which checks that it really does.

    Attributes:
        storage: Where its numbers are.
        offset: Its first number.
        shape: Its sizes.
        strides: Its steps, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, storage: object, offset: object, shape: object, strides: object) -> "Tensor":
        """Check what a file says about a tensor, in exact whole numbers.

        Raises:
            RefusedError: It is no tensor, or reaches beyond its storage, or repeats the storage's numbers.
        """
        if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise RefusedError("a tensor in it is not described by a storage, a size and strides")
        sides, steps = check_shape(shape, MODEL_FILE_LIMITS), check_counts(strides)
        (start,) = check_counts((offset,))
        if len(sides) != len(steps):
            raise RefusedError("a tensor in it has not as many strides as axes")
        if start + span(sides, steps) > storage.count:
            raise RefusedError("a tensor in it lies outside its storage")
        if prod(sides) > storage.count:
            raise RefusedError("a tensor in it claims more numbers than its storage holds")
        return cls(storage, start, sides, steps)

    def array(self, growth: Growth) -> Array:
        """Make the array; a view of the file where possible.

        Raises:
            RefusedError: Copies take too much memory.
        """
        data = self.storage.data
        if data is None:
            raise RefusedError("a storage in it has no bytes")
        start = self.offset * self.storage.kind.size
        return view(data[start:], self.storage.kind, self.shape, self.strides, growth)


@dataclass(frozen=True, slots=True)
class Stub:
    """The name of a class that is not needed to run; calling it gives a `Record`."""

    path: str


@dataclass(slots=True, eq=False)
class Record:
    """What remains of an object of a class that is not needed: its class's name, its arguments, its state.

    The state is plain data in a dict of its own, never attributes: no name in it means anything to Python.
    """

    path: str
    arguments: tuple[object, ...] = ()
    state: dict[object, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is only mentioned: a dtype, a method that a module keeps, a builtin type."""

    path: str
