"""A small machine that reads the pickles inside torch files without executing anything.

A pickle is a program for a stack machine whose instructions can import and call whatever Python has. This machine
knows the instructions that torch writes; those that fetch or call something go through `vocabulary`, where a name
is an entry of a table of ours or the file is refused. Python's own reader of pickles is not used, nor imported.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from samlet.checkpoint.refusal import RefusedError, shown
from samlet.checkpoint.values import Record, Stub, Tensor
from samlet.checkpoint.vocabulary import Function, check_key, instance, meaning
from samlet.limits import ModelFileLimits

_LONGEST_LINE = 256
_LONGEST_INTEGER = 32

_FORBIDDEN = {
    b"P": "PERSID",
    b"i": "INST",
    b"o": "OBJ",
    b"\x92": "NEWOBJ_EX",
    b"\x82": "EXT1",
    b"\x83": "EXT2",
    b"\x84": "EXT4",
    b"\x8b": "LONG4",
    b"\x96": "BYTEARRAY8",
    b"\x97": "NEXT_BUFFER",
    b"\x98": "READONLY_BUFFER",
    b"2": "DUP",
    b"I": "INT",
    b"L": "LONG",
    b"F": "FLOAT",
    b"S": "STRING",
    b"V": "UNICODE",
    b"p": "PUT",
    b"g": "GET",
    b"l": "LIST",
    b"d": "DICT",
}


@dataclass(slots=True)
class Budget:
    """Steps and tensors that the pickles of one file may still take."""

    steps: int
    tensors: int

    @classmethod
    def of(cls, limits: ModelFileLimits) -> "Budget":
        """Give a file its full allowance."""
        return cls(limits.max_opcodes, limits.max_tensors)

    def charge(self, steps: int) -> None:
        """Take steps.

        Raises:
            RefusedError: There are not so many left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise RefusedError("its pickle takes more steps than any model needs")


class Machine:
    """Reads one pickle.

    Attributes:
        position: The first byte behind the pickle, after `run`.
    """

    def __init__(
        self,
        data: memoryview,
        *,
        start: int,
        persistent: Callable[[object], object],
        budget: Budget,
        limits: ModelFileLimits,
    ) -> None:
        self.position = start
        self._data = data[: start + limits.max_pickle_bytes]
        self._storage_of, self._budget, self._limits = persistent, budget, limits
        self._stack: list[object] = []
        self._marked: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        """Read up to the end of the pickle and give what it describes.

        Raises:
            RefusedError: The pickle is damaged, too large, or asks for something that no model needs.
        """
        version = self._take(2)
        if version[0] != 0x80 or not 2 <= version[1] <= 5:
            raise RefusedError("its pickle is not of protocol 2 to 5")
        while (code := self._take(1)[0]) != 0x2E:  # STOP
            step = _STEPS.get(code)
            if step is None:
                name = _FORBIDDEN.get(bytes((code,)), f"number {code}")
                raise RefusedError(f"its pickle has the instruction {name}, which torch does not write")
            self._budget.charge(1)
            step(self)
            if len(self._stack) > self._limits.max_stack:
                raise RefusedError("its pickle piles up more values than any model needs")
        if len(self._stack) != 1 or self._marked:
            raise RefusedError("its pickle does not end with one value")
        return self._stack.pop()

    # Reading bytes

    def _take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self._data):
            raise RefusedError("its pickle ends in the middle, or is longer than any model's")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _line(self) -> str:
        rest = bytes(self._data[self.position : self.position + _LONGEST_LINE])
        end = rest.find(b"\n")
        if end < 0:
            raise RefusedError("its pickle has a name that does not end")
        self.position += end + 1
        return _text(rest[:end])

    # The stack

    def _take_top(self) -> object:
        if not self._stack:
            raise RefusedError("its pickle takes a value where there is none")
        return self._stack.pop()

    def _take_to_mark(self) -> list[object]:
        if not self._marked:
            raise RefusedError("its pickle closes a collection that it never opened")
        taken = self._stack
        self._stack = self._marked.pop()
        return taken

    def _top(self) -> object:
        if not self._stack:
            raise RefusedError("its pickle fills a collection where there is none")
        return self._stack[-1]

    def _mark(self) -> None:
        if len(self._marked) >= self._limits.max_marks:
            raise RefusedError("its pickle nests deeper than any model does")
        self._marked.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        self._take_top()

    def _pop_mark(self) -> None:
        self._take_to_mark()

    def _frame(self) -> None:
        self._take(8)  # a hint for streams; instructions are read one by one here

    # Plain values

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _integer(self) -> None:
        (value,) = struct.unpack("<i", self._take(4))
        self._push(value)

    def _long_integer(self) -> None:
        size = self._number(1)
        if size > _LONGEST_INTEGER:
            raise RefusedError("its pickle has a number longer than any in a model")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _floating(self) -> None:
        (value,) = struct.unpack(">d", self._take(8))
        self._push(value)

    def _text(self, size: int) -> None:
        self._push(_text(bytes(self._take(self._number(size)))))

    def _bytes(self, size: int) -> None:
        self._push(bytes(self._take(self._number(size))))

    # Collections

    def _tuple(self) -> None:
        self._push(tuple(self._take_to_mark()))

    def _short_tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise RefusedError("its pickle takes a value where there is none")
        values = tuple(self._stack[-size:])
        del self._stack[-size:]
        self._push(values)

    def _append(self) -> None:
        self._extend([self._take_top()])

    def _appends(self) -> None:
        self._extend(self._take_to_mark())

    def _extend(self, values: list[object]) -> None:
        target = self._top()
        if type(target) is not list:
            raise RefusedError("its pickle appends to something that is no list")
        target.extend(values)

    def _set_item(self) -> None:
        value, key = self._take_top(), self._take_top()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self._take_to_mark())

    def _update(self, values: list[object]) -> None:
        target = self._top()
        if type(target) is not dict or len(values) % 2:
            raise RefusedError("its pickle sets items of something that is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[check_key(key)] = value

    def _empty_set(self) -> None:
        self._budget.charge(3)  # one byte of the file becomes 216 in memory, more than anything else
        self._push(set())

    def _add_items(self) -> None:
        values = self._take_to_mark()
        target = self._top()
        if type(target) is not set:
            raise RefusedError("its pickle adds to something that is no set")
        target.update(check_key(value) for value in values)

    def _frozen_set(self) -> None:
        self._push({check_key(value) for value in self._take_to_mark()})

    # What was seen before

    def _put(self, size: int) -> None:
        self._remember(self._number(size))

    def _memoize(self) -> None:
        self._remember(len(self._memo))

    def _remember(self, index: int) -> None:
        if index > self._limits.max_opcodes:
            raise RefusedError("its pickle remembers more values than any model needs")
        self._memo[index] = self._top()

    def _get(self, size: int) -> None:
        index = self._number(size)
        if index not in self._memo:
            raise RefusedError("its pickle recalls a value that it never had")
        self._push(self._memo[index])

    # Names and what is made with them

    def _global(self) -> None:
        module = self._line()
        self._push(meaning(module, self._line()))

    def _stack_global(self) -> None:
        name, module = self._take_top(), self._take_top()
        if not isinstance(name, str) or not isinstance(module, str):
            raise RefusedError("its pickle names something by other things than texts")
        self._push(meaning(module, name))

    def _reduce(self) -> None:
        arguments, called = self._take_top(), self._take_top()
        if type(arguments) is not tuple:
            raise RefusedError("its pickle calls something without a tuple of arguments")
        made = instance(called, arguments, self._budget.charge)
        if isinstance(made, Tensor):
            self._budget.tensors -= 1
            if self._budget.tensors < 0:
                raise RefusedError(f"it has more than {self._limits.max_tensors:,} tensors")
        self._push(made)

    def _new_object(self) -> None:
        arguments, made = self._take_top(), self._take_top()
        if not isinstance(made, Stub) or type(arguments) is not tuple:
            what = made.path if isinstance(made, Function) else type(made).__name__
            raise RefusedError(f"its pickle makes an object of {shown(what)}, which no model needs")
        self._push(Record(made.path, arguments))

    def _build(self) -> None:
        state, target = self._take_top(), self._top()
        if type(target) is dict and type(state) is dict:
            return  # an OrderedDict's attributes: torch keeps version numbers there
        if isinstance(target, Record):
            if type(state) is dict and not target.state:
                target.state = state
                return
            if target.path == "numpy.dtype" and type(state) is tuple and state[1:2] in (("<",), ("|",)):
                return
        raise RefusedError(f"its pickle gives a state to {shown(_described(target))} that torch would not")

    def _persistent(self) -> None:
        self._push(self._storage_of(self._take_top()))


def _described(value: object) -> str:
    return value.path if isinstance(value, Record | Stub | Function) else type(value).__name__


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedError("its pickle has a text that is not UTF-8") from None


_STEPS: dict[int, Callable[[Machine], None]] = {
    code[0]: step
    for code, step in {
        b"(": Machine._mark,
        b"0": Machine._pop,
        b"1": Machine._pop_mark,
        b"\x95": Machine._frame,
        b"N": lambda machine: machine._push(None),
        b"\x88": lambda machine: machine._push(True),
        b"\x89": lambda machine: machine._push(False),
        b"J": Machine._integer,
        b"K": lambda machine: machine._push(machine._number(1)),
        b"M": lambda machine: machine._push(machine._number(2)),
        b"\x8a": Machine._long_integer,
        b"G": Machine._floating,
        b"X": lambda machine: machine._text(4),
        b"\x8c": lambda machine: machine._text(1),
        b"\x8d": lambda machine: machine._text(8),
        b"T": lambda machine: machine._text(4),  # BINSTRING and SHORT_BINSTRING, Python 2's texts
        b"U": lambda machine: machine._text(1),
        b"B": lambda machine: machine._bytes(4),
        b"C": lambda machine: machine._bytes(1),
        b"\x8e": lambda machine: machine._bytes(8),
        b")": lambda machine: machine._push(()),
        b"t": Machine._tuple,
        b"\x85": lambda machine: machine._short_tuple(1),
        b"\x86": lambda machine: machine._short_tuple(2),
        b"\x87": lambda machine: machine._short_tuple(3),
        b"]": lambda machine: machine._push([]),
        b"a": Machine._append,
        b"e": Machine._appends,
        b"}": lambda machine: machine._push({}),
        b"s": Machine._set_item,
        b"u": Machine._set_items,
        b"\x8f": Machine._empty_set,
        b"\x90": Machine._add_items,
        b"\x91": Machine._frozen_set,
        b"q": lambda machine: machine._put(1),
        b"r": lambda machine: machine._put(4),
        b"\x94": Machine._memoize,
        b"h": lambda machine: machine._get(1),
        b"j": lambda machine: machine._get(4),
        b"c": Machine._global,
        b"\x93": Machine._stack_global,
        b"R": Machine._reduce,
        b"\x81": Machine._new_object,
        b"b": Machine._build,
        b"Q": Machine._persistent,
    }.items()
}
