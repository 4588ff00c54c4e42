"""Readers that do what none may, for the test of the supervisor that has to notice; run as fuzz.child is."""

import os
import time

from fuzz import child
from fuzz.targets import Stock, Target

from samlet.errors import InputError


class Numbered(Target):
    """A target whose mutants are their numbers."""

    def mutant(self, index: int, stock: Stock) -> bytes:
        return b"%d" % index


def read(data: bytes) -> None:
    if data == b"2":
        os.abort()
    if data == b"5":
        raise KeyError("foreign")
    if data == b"6":
        raise InputError("two\nlines")
    if data == b"7":
        bytearray(2 * child.ROOM)
    if data == b"8":
        end = time.process_time() + 1.2
        while time.process_time() < end:
            pass
    if data == b"9":
        raise InputError("expected a good file, got another; send a good one")


def read_asleep(data: bytes) -> None:
    if data == b"1":
        time.sleep(1000)


if __name__ == "__main__":
    readers = {"bad": read, "asleep": read_asleep}
    child.main({name: Numbered(name, lambda: [b"good"], reader) for name, reader in readers.items()})
