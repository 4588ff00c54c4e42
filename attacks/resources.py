"""Pickles that would use up time or memory: small files, large work."""

import struct

from attacks.assembly import START, STOP, called, name, number, storage, tensor, text, torch_file, weights
from attacks.table import Attack, collect

RESOURCES: list[Attack] = []
_bomb = collect("pickle", RESOURCES)


def _laughs() -> bytes:
    """Push a list of lists of lists, ten times the one below on each of thirty levels."""
    made = b"](" + text("ha") * 10 + b"eq\x00"
    for level in range(30):
        made += b"0](" + bytes((ord("h"), level)) * 10 + bytes((ord("e"), ord("q"), level + 1))
    return made


@_bomb("a key of type list")
def billion_laughs() -> bytes:
    """Nest lists that hold the same list ten times, and ask for all of it as a set."""
    return torch_file(weights(called(name("__builtin__", "set"), _laughs()))).bytes()


@_bomb("it holds no tensors")
def billion_laughs_in_a_fact() -> bytes:
    """Nest lists in what is kept beside the tensors, where somebody may write all of it down."""
    made = name("ultralytics.nn.tasks", "SegmentationModel") + b")\x81}" + text("names") + _laughs() + b"sb"
    return torch_file(START + b"}" + text("model") + made + b"s" + STOP).bytes()


@_bomb("a key of type tuple")
def hash_that_never_ends() -> bytes:
    """Use nested tuples as a key: hashing them takes twice as long on every level."""
    key = b")q\x00"
    for level in range(100):
        key += b"0" + bytes((ord("h"), level)) * 2 + b"\x86" + bytes((ord("q"), level + 1))
    return torch_file(weights(b"}" + key + b"Ns")).bytes()


@_bomb("its pickle has a key of type int, where torch has texts and numbers")
def keys_that_collide() -> bytes:
    """Fill a dict with numbers that all have one hash."""
    keys = b"".join(number(index * (2**61 - 1)) + b"N" for index in range(9_000))
    return torch_file(weights(b"}(" + keys + b"u")).bytes()


@_bomb("its pickle takes more steps than any model needs")
def sets_of_a_long_list() -> bytes:
    """Copy one long list again and again."""
    numbers = b"".join(b"J" + struct.pack("<i", index) for index in range(9_000))
    copies = (name("__builtin__", "set") + b"h\x01\x85R0") * 10_000
    return torch_file(START + b"](" + numbers + b"eq\x01" + copies + STOP).bytes()


@_bomb("its pickle takes more steps than any model needs")
def millions_of_sets() -> bytes:
    """Make one empty set a byte, 216 times its size in memory."""
    return torch_file(b"\x80\x04](" + (b"\x8f" * 9_000 + b"e(") * 800 + b"e.").bytes()


@_bomb("its pickle takes more steps than any model needs")
def text_again_and_again() -> bytes:
    """Encode one long text again and again."""
    again = name("_codecs", "encode") + b"h\x01h\x02\x86Ra"
    return torch_file(
        START + text("x" * 2**20) + b"q\x01" + text("latin1") + b"q\x02]" + again * 5_000
    ).bytes()


@_bomb("its pickle piles up more values than any model needs")
def stack_that_grows() -> bytes:
    """Pile up values and never take one."""
    return torch_file(START + b"N" * 2_000_000 + STOP).bytes()


@_bomb("no dict of tensors")
def lists_within_lists() -> bytes:
    """Nest lists so deep that a reader that calls itself runs out of stack."""
    return torch_file(START + b"]" * 15_000 + b"a" * 14_999 + STOP).bytes()


@_bomb("its pickle nests deeper than any model does")
def marks_within_marks() -> bytes:
    """Open collections within collections."""
    return torch_file(START + b"(" * 500_000 + STOP).bytes()


@_bomb("its pickle remembers more values than any model needs")
def memo_far_away() -> bytes:
    """Remember a value at number four billion, for which a reader may make a table."""
    return torch_file(START + b"Nr\xff\xff\xff\xff" + STOP).bytes()


@_bomb("its pickle has the instruction LONG4, which torch does not write")
def long_number() -> bytes:
    """Claim a whole number of two gigabytes."""
    return torch_file(weights(b"\x8b\xff\xff\xff\x7f")).bytes()


@_bomb("its pickle ends in the middle, or is longer than any model's")
def long_text() -> bytes:
    """Claim a text of 2^62 bytes."""
    return torch_file(weights(b"\x8d" + (2**62).to_bytes(8, "little") + b"x")).bytes()


@_bomb("its pickle ends in the middle, or is longer than any model's")
def long_bytes() -> bytes:
    """Claim bytes of 2^63 - 1."""
    return torch_file(weights(b"\x8e" + (2**63 - 1).to_bytes(8, "little") + b"x")).bytes()


@_bomb("its pickle has a name that does not end")
def name_without_end() -> bytes:
    """Begin a name and never end it."""
    return torch_file(START + b"c" + b"a" * 1_000_000).bytes()


@_bomb("a tensor in it claims more numbers than its storage holds")
def tensor_from_one_number() -> bytes:
    """Spread one number over a terabyte through strides of zero."""
    return torch_file(weights(tensor(size=(2**20, 2**20), stride=(0, 0)))).bytes()


@_bomb("its tensors would take many times its size in memory")
def tensors_of_one_storage() -> bytes:
    """Mention the same half-precision storage thousands of times, each of which becomes an array of its own."""
    count = 2**20
    held = storage("1", count, "HalfStorage")
    items = text("0") + tensor(held + b"q\x07", size=(count,))
    items += b"".join(text(str(index)) + tensor(b"h\x07", size=(count,)) for index in range(1, 5_000))
    pickle = START + b"}(" + items + b"u" + STOP
    return torch_file(pickle).add("archive/data/1", bytes(2 * count)).bytes()


@_bomb("more than 10,000 tensors")
def too_many_tensors() -> bytes:
    """Mention more tensors than any network has."""
    again = b"".join(text(str(index)) + tensor(b"h\x07") + b"s" for index in range(12_000))
    return torch_file(START + storage() + b"q\x070}" + again + STOP).bytes()


def _module(children: bytes) -> bytes:
    made = name("torch.nn.modules.container", "Sequential") + b")\x81}" + text("_modules")
    return made + b"}(" + children + b"usb"


@_bomb("its modules contain each other without end")
def modules_that_share_children() -> bytes:
    """Give each module the next one twice: a walk through all of them takes 2^60 steps."""
    made = _module(text("a") + tensor()) + b"q\x00"
    for level in range(60):
        twice = b"".join(text(child) + bytes((ord("h"), level)) for child in "ab")
        made += _module(twice) + bytes((ord("q"), level + 1))
    return torch_file(START + b"(" + made + b"1}" + text("model") + b"h\x3cs" + STOP).bytes()


@_bomb("its modules contain each other without end")
def module_that_contains_itself() -> bytes:
    """Give a module itself as its child."""
    module = name("torch.nn.modules.container", "Sequential") + b")\x81q\x01"
    return torch_file(
        START + module + b"}" + text("_modules") + b"}" + text("a") + b"h\x01ssb" + STOP
    ).bytes()
