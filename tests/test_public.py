"""The public surface: what it exports, how light it is, and that every name explains itself."""

import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import samlet
from samlet import errors

ROOT = Path(__file__).parent.parent
PUBLIC = {
    "load", "models", "Model", "Image", "Prompt", "Embedding", "Masks", "Card", "Limits", "__version__",
    "SamletError", "InputError", "ImageError", "LimitError", "PromptError", "EmbeddingError", "ModelError",
    "UnknownModelError", "CheckpointError", "ChecksumError", "MissingExtraError", "BusyError", "BackendError",
    "PartialFailureError", "OutputError", "TrainingError",
}  # fmt: skip
PROBE = """
import json, sys, time
start = time.perf_counter()
import samlet
seconds = time.perf_counter() - start
first = sorted(sys.modules)
samlet.Model, samlet.load, samlet.Masks
print(json.dumps({"seconds": seconds, "first": first, "second": sorted(sys.modules)}))
"""
HEAVY = {
    "torch",
    "onnxruntime",
    "cv2",
    "scipy",
    "rich",
    "fastapi",
    "safetensors",
    "PIL.JpegImagePlugin",
    "pickle5",
}


@pytest.fixture(scope="module")
def probe() -> dict[str, object]:
    """Import samlet in a process of its own, three times, and keep the fastest."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n{PROBE}"
    runs = [
        json.loads(
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
        )
        for _ in range(3)
    ]
    return min(runs, key=lambda run: float(run["seconds"]))


def test_exports() -> None:
    assert set(samlet.__all__) == PUBLIC
    assert set(dir(samlet)) >= PUBLIC
    assert samlet.__all__ == sorted(samlet.__all__)
    for name in PUBLIC:
        assert getattr(samlet, name) is not None
    every_error = {name for name, item in vars(errors).items() if isinstance(item, type)}
    assert every_error <= PUBLIC
    with pytest.raises(AttributeError, match="nonsense"):
        samlet.nonsense  # noqa: B018


def test_import_is_light(probe: dict[str, object]) -> None:
    first = set(probe["first"])  # type: ignore[call-overload]
    assert not first & (HEAVY | {"numpy", "PIL"})
    assert not set(probe["second"]) & HEAVY  # type: ignore[call-overload]
    assert float(str(probe["seconds"])) < 0.3


def test_version_is_pyprojects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert samlet.__version__ == project["version"]


def documented() -> list[tuple[str, object]]:
    """List the public names, and the public members of the classes among them."""
    items: list[tuple[str, object]] = []
    for name in sorted(PUBLIC - {"__version__"}):
        item = getattr(samlet, name)
        items.append((name, item))
        if inspect.isclass(item):
            for key, member in vars(item).items():
                target = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if not key.startswith("_") and (inspect.isfunction(target) or isinstance(target, property)):
                    items.append((f"{name}.{key}", target))
    return items


@pytest.mark.parametrize(
    ("name", "item"), documented(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_docstrings(name: str, item: object) -> None:
    text = getattr(item, "__doc__", None)
    assert text, f"{name} has no docstring"
    assert not text.startswith(f"{name}("), f"{name} has only the docstring that dataclass makes"
    first = text.strip().splitlines()[0]
    assert first.endswith((".", ":")), f"{name}: the first line is no sentence"
    if inspect.isfunction(item):
        parameters = [key for key in inspect.signature(item).parameters if key not in ("self", "cls")]
        undocumented = [key for key in parameters if f"{key}:" not in text]
        assert len(parameters) <= 1 or not undocumented, f"{name} does not explain {undocumented}"
