"""Which tags a Label Studio project has: read from its labelling configuration, which comes from outside."""

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from samlet.errors import InputError

_KINDS = {
    "brushlabels": "brush",
    "brush": "brush",
    "polygonlabels": "polygon",
    "polygon": "polygon",
}
_LONGEST = 200_000


@dataclass(frozen=True)
class Control:
    """One tag that holds regions.

    Attributes:
        name: Its name in results.
        labels: Labels that it knows; empty if it has none.
    """

    name: str
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Controls:
    """What a project offers for results.

    Attributes:
        image: Name of the tag that shows the picture, if there is one.
        value: Where a task holds its picture, if the tag says so.
        kinds: Tags for brushes and polygons, by kind.
    """

    image: str | None = None
    value: str | None = None
    kinds: dict[str, list[Control]] = field(default_factory=dict)

    def named(self, kind: str, label: str | None) -> str | None:
        """Give the name of the tag of a kind that knows a label; None if there is no such tag."""
        for control in self.kinds.get(kind, []):
            if label is None or not control.labels or label in control.labels:
                return control.name
        return None

    def picture_of(self, data: dict[str, Any]) -> str:
        """Find a task's picture.

        Raises:
            InputError: There is none.
        """
        key = (
            self.value
            if self.value in data
            else next((k for k, v in data.items() if isinstance(v, str)), None)
        )
        found = data.get(key) if key is not None else None
        if not isinstance(found, str) or not found:
            raise InputError("expected a task with a picture, got none; check the project's <Image> tag")
        return found


def read_controls(config: str) -> Controls:
    """Read a labelling configuration.

    Args:
        config: XML; empty if the client sent none.

    Raises:
        InputError: It is too long, no XML, or declares entities, which no project needs.
    """
    if not config.strip():
        return Controls()
    # A document type is where XML hides files and bombs; a labelling configuration has none.
    if len(config) > _LONGEST or "<!" in config.replace("<!--", ""):
        raise InputError(
            f"expected a labelling configuration of at most {_LONGEST:,} characters without a document type, got "
            "another; send the project's own"
        )
    try:
        root = ElementTree.fromstring(config)
    except (ElementTree.ParseError, ValueError, RecursionError):
        raise InputError(
            "expected a labelling configuration as XML, got another text; send the project's"
        ) from None
    image = value = None
    kinds: dict[str, list[Control]] = {}
    for tag in root.iter():
        kind = _KINDS.get(str(tag.tag).lower())
        if str(tag.tag).lower() == "image" and image is None:
            image, value = tag.get("name"), (tag.get("value") or "").lstrip("$") or None
        elif kind is not None and tag.get("name"):
            labels = frozenset(str(each.get("alias") or each.get("value")) for each in tag.iter("Label"))
            kinds.setdefault(kind, []).append(Control(str(tag.get("name")), labels))
    return Controls(image, value, kinds)
