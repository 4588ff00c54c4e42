"""The exception tree, its exit codes and HTTP statuses; and the network guard of this test suite."""

import dataclasses
import inspect
import re
import socket

import pytest

from samlet import errors
from samlet.limits import DEFAULT_LIMITS, Limits

TABLE = [
    # class, parent, exit code, HTTP status
    ("SamletError", Exception, 70, 500),
    ("InputError", "SamletError", 2, 400),
    ("ImageError", "InputError", 2, 415),
    ("LimitError", "InputError", 2, 413),
    ("PromptError", "InputError", 2, 422),
    ("EmbeddingError", "InputError", 2, 422),
    ("ModelError", "SamletError", 3, 503),
    ("UnknownModelError", "ModelError", 3, 404),
    ("CheckpointError", "ModelError", 3, 503),
    ("ChecksumError", "CheckpointError", 3, 503),
    ("MissingExtraError", "ModelError", 3, 501),
    ("BusyError", "SamletError", 4, 429),
    ("BackendError", "SamletError", 5, 500),
    ("TrainingError", "SamletError", 5, 500),
    ("PartialFailureError", "SamletError", 6, 500),
    ("OutputError", "SamletError", 7, 507),
]


@pytest.mark.parametrize(("name", "parent", "exit_code", "http_status"), TABLE)
def test_each_error_has_its_place_and_codes(name, parent, exit_code, http_status):
    error = getattr(errors, name)
    assert error.__bases__ == (getattr(errors, parent) if isinstance(parent, str) else parent,)
    assert (error.exit_code, error.http_status) == (exit_code, http_status)


def test_table_names_every_error():
    found = {
        name
        for name, member in inspect.getmembers(errors, inspect.isclass)
        if member.__module__ == errors.__name__
    }
    assert found == {row[0] for row in TABLE}


def test_the_drawn_tree_is_the_real_one():
    drawn = re.findall(r"^\s+(\w+Error) +(\d+) +(\d+) ", errors.__doc__, flags=re.MULTILINE)
    assert [(name, int(code), int(status)) for name, code, status in drawn] == [
        (name, code, status) for name, _, code, status in TABLE
    ]


def test_limits_cannot_be_changed_by_a_request():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT_LIMITS.max_pixels = 1
    assert dataclasses.replace(DEFAULT_LIMITS, max_pixels=1).max_pixels == 1
    assert Limits() == DEFAULT_LIMITS


@pytest.mark.parametrize("call", ["connect", "connect_ex", "sendto", "getaddrinfo"])
def test_the_guard_refuses_the_network(call):
    kind = socket.SOCK_DGRAM if call == "sendto" else socket.SOCK_STREAM
    with (
        socket.socket(socket.AF_INET, kind) as outside,
        pytest.raises(AssertionError, match="without network"),
    ):
        if call == "getaddrinfo":
            socket.getaddrinfo("example.org", 80)
        elif call == "sendto":
            outside.sendto(b"x", ("192.0.2.1", 9))
        else:
            getattr(outside, call)(("192.0.2.1", 9))


def test_the_guard_allows_this_machine():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getpeername() == server.getsockname()
