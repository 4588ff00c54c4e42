"""The examples in the docstrings do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import samlet

# Rooms that need torch, or that do something when imported.
ELSEWHERE = ("samlet.nets", "samlet.export", "samlet.train", "samlet.backends.torch", "samlet.__main__")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(samlet.__path__, "samlet.", onerror=lambda name: None)
    if not module.name.startswith(ELSEWHERE)
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(importlib.import_module("samlet.geometry"))
    assert sum(bool(each.examples) for each in found) >= 10
