"""The files that a command writes for a picture: their names, their contents, and all of them or none."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samlet.errors import InputError, OutputError

if TYPE_CHECKING:
    from samlet.image import Image
    from samlet.masks import Masks

PICTURES = {"overlay": ".overlay{}.png", "mask": ".mask{}.png", "cutout": ".cutout{}.png"}
"""Formats for the eye, written once for each candidate, mask and cutout also once for each object."""

DATA = {"coco": ".coco.json", "polygons": ".polygons.json", "labelme": ".json", "yolo": ".txt"}
"""Formats for programs, one file a picture, with the best candidate of each object."""

FORMATS = (*PICTURES, *DATA)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CACHED_BYTES = 256 * 2**20


def one_line(text: str) -> str:
    """Keep a text on one line and free of what moves a terminal's cursor, whatever a file is called.

    Args:
        text: Any text.

    Example:
        >>> one_line("two  lines")
        'two lines'
    """
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def formats(
    text: str, known: Sequence[str] = FORMATS, *, option: str = "--format", what: str = "formats"
) -> tuple[str, ...]:
    """Read the value of --format, or of another option that takes names.

    Args:
        text: Names separated by commas.
        known: The names there are.
        option: The option.
        what: What its names stand for.

    Returns:
        The names, each once.

    Raises:
        InputError: A name is unknown, or there is none.

    Example:
        >>> formats("mask, coco,mask")
        ('mask', 'coco')
    """
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        got = repr(unknown[0])[:80] if unknown else "none"
        raise InputError(
            f"expected {what} after {option} ({', '.join(known)}), got {got}; separate several by commas"
        )
    return names


def file_names(
    stem: str, wanted: Sequence[str], *, objects: int, candidates: int
) -> dict[str, list[list[str]]]:
    """Name the files of one picture.

    Objects are numbered from 1 if there are several; candidates, best first, are lettered from a.

    Args:
        stem: First part of every name.
        wanted: The formats.
        objects: Objects in the picture, N.
        candidates: Candidates of each object, 1 or 3.

    Returns:
        For each format its names by candidate, and for each candidate by object; formats that hold all
        objects have one name, data formats also one candidate.

    Example:
        >>> file_names("cat", ["mask", "coco"], objects=2, candidates=1)
        {'mask': [['cat.mask-1.png', 'cat.mask-2.png']], 'coco': [['cat.coco.json']]}
        >>> file_names("cat", ["overlay"], objects=1, candidates=3)
        {'overlay': [['cat.overlay-a.png'], ['cat.overlay-b.png'], ['cat.overlay-c.png']]}
    """
    letters = LETTERS[:candidates] if candidates > 1 else [""]
    named: dict[str, list[list[str]]] = {}
    for name in wanted:
        if name in DATA:
            named[name] = [[stem + DATA[name]]]
            continue
        numbers = [str(index + 1) for index in range(objects)] if objects > 1 and name != "overlay" else [""]
        named[name] = [
            [
                stem + PICTURES[name].format(f"-{number}{letter}" if number + letter else "")
                for number in numbers
            ]
            for letter in letters
        ]
    return named


class Names:
    """Gives every picture of a run file names of its own.

    Two pictures of the same stem (`a/cat.jpg` and `b/cat.jpg`) become `cat` and `cat-2`; names that differ
    only in upper and lower case count as the same, because on many disks they are.
    """

    def __init__(self, folder: Path, pictures: Iterable[str]) -> None:
        """Start with the names of the pictures themselves, which must not be overwritten either.

        Args:
            folder: Where the files will be written.
            pictures: Paths of the pictures of the run.
        """
        here = os.path.realpath(folder)
        self._taken = {
            os.path.basename(path).casefold()
            for path in pictures
            if os.path.realpath(os.path.dirname(path) or ".") == here
        }

    def claim(
        self, stem: str, names_of: Callable[[str], dict[str, list[list[str]]]]
    ) -> dict[str, list[list[str]]]:
        """Take the names for one picture.

        Args:
            stem: The stem that the picture would like.
            names_of: Gives the names for a stem, as `file_names` does.

        Returns:
            The names, none of which anybody else in this run has.

        Example:
            >>> names = Names(Path("out"), [])
            >>> [names.claim(stem, lambda stem: {"yolo": [[stem + ".txt"]]}) for stem in ("cat", "Cat")]
            [{'yolo': [['cat.txt']]}, {'yolo': [['Cat-2.txt']]}]
        """
        number = 1
        while True:
            named = names_of(stem if number == 1 else f"{stem}-{number}")
            folded = {name.casefold() for row in named.values() for names in row for name in names}
            if not folded & self._taken:
                self._taken |= folded
                return named
            number += 1


def contents(
    image: "Image | None",
    answers: "Sequence[Masks]",
    named: Mapping[str, list[list[str]]],
    *,
    picture: str,
    folder: Path,
    label: str = "object",
) -> dict[str, bytes | None]:
    """Make the files of one picture in memory.

    Args:
        image: The picture; overlays and cut-outs need it, other formats do without.
        answers: One `Masks` of all objects for each candidate, best first.
        named: What `file_names` gave.
        picture: Path of the picture.
        folder: Where the files will be; labelme's refer to the picture from there.
        label: Category of the objects.

    Returns:
        Content by file name; None for the cutout of an empty mask, which cannot exist.

    Raises:
        InputError: There is no picture, and a format needs one.
    """
    from samlet import codecs, drawing

    png = drawing.picture_encoder("picture.png")
    files: dict[str, bytes | None] = {}
    for name, rows in named.items():
        if name in DATA:
            labels = [label] * len(answers[0])
            files[rows[0][0]] = data(name, answers[0], picture=picture, folder=folder, labels=labels).encode()
            continue
        for answer, names in zip(answers, rows, strict=True):
            if name == "mask":
                masks = cached(answer).iter_masks()
                files |= {key: codecs.mask_to_png_bytes(mask) for key, mask in zip(names, masks, strict=True)}
                continue
            if image is None:
                raise InputError(f"expected the whole picture for {name}, got a draft of it; decode it whole")
            if name == "overlay":
                files[names[0]] = png(drawing.overlay(image, cached(answer), prompt=answer.prompt))
                continue
            for file_name, mask in zip(names, cached(answer).iter_masks(), strict=True):
                files[file_name] = png(drawing.cutout(image, mask)) if mask.any() else None
    return files


def cached(answer: "Masks") -> "Masks":
    """Let masks of moderate size be made once instead of once for each format.

    Args:
        answer: Any masks.

    Returns:
        The same masks.
    """
    from samlet.masks import StoredMasks

    height, width = answer.frame.image_hw
    # Run lengths are painted faster than logits are enlarged, and there are many of them.
    if not isinstance(answer, StoredMasks) and answer.scores.size * height * width <= _CACHED_BYTES:
        _ = answer.masks
    return answer


def write(folder: Path, files: Mapping[str, bytes | None]) -> list[Path]:
    """Write all the files of a picture, or none of them.

    Args:
        folder: Where; it is made if it does not exist.
        files: Content by file name; None is left out.

    Returns:
        The paths written.

    Raises:
        OutputError: The disk is full, or the folder is a file or not writable; nothing of this picture stays.
    """
    from samlet.codecs import atomic_write

    written: list[Path] = []
    made = _make_folder(folder)
    try:
        for name, content in files.items():
            if content is not None:
                written.append(atomic_write(folder / name, content))
    except BaseException:  # Ctrl-C too
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):  # a folder that somebody else has put something into stays
            for path in made:
                path.rmdir()
        raise
    return written


def check_folder(folder: Path) -> None:
    """Refuse early what could only fail late.

    Args:
        folder: Where the files will be written.

    Raises:
        OutputError: There is a file of that name.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(
            f"expected a folder after --output, got the file {str(folder)!r}; choose another name"
        )


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder with those above it, and say which ones are new, innermost first."""
    check_folder(folder)
    missing: list[Path] = []
    for path in (folder, *folder.parents):
        if os.path.lexists(path):
            break
        missing.append(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected to make the output folder {str(folder)!r}, but it failed ({error.strerror or error}); "
            "choose another place with --output"
        ) from error
    return missing


def data(
    name: str,
    answer: "Masks",
    *,
    picture: str,
    folder: Path,
    labels: Sequence[str],
    classes: Sequence[int] | None = None,
) -> str:
    """Write masks in one of the formats `DATA`.

    Args:
        name: The format.
        answer: One mask a prompt.
        picture: Path of the picture.
        folder: Where the file will be; labelme's refer to the picture from there.
        labels: Category of each mask; YOLO has numbers instead.
        classes: Number of each mask's category for YOLO; all 0 if None.

    Returns:
        The content of the file.
    """
    file_name = os.path.basename(picture)
    if name == "yolo":
        return cached(answer).to_yolo(classes=classes)
    if name == "coco":
        content = cached(answer).to_coco(file_name=file_name, labels=labels)
    elif name == "labelme":
        content = cached(answer).to_labelme(file_name=_seen_from(folder, picture), labels=labels)
    else:
        content = _polygons(cached(answer), file_name, labels)
    # Plain ASCII: names in an unknown encoding (surrogates) survive it.
    return json.dumps(content, indent=1) + "\n"


def _polygons(answer: "Masks", file_name: str, labels: Sequence[str]) -> dict[str, object]:
    height, width = answer.frame.image_hw
    objects = [
        {
            "label": label,
            "score": round(float(score), 4),
            "polygons": [
                {"exterior": part.exterior.tolist(), "holes": [hole.tolist() for hole in part.holes]}
                for part in parts
            ],
        }
        for label, score, parts in zip(labels, answer.scores, answer.to_polygons(), strict=True)
    ]
    return {"image": file_name, "width": width, "height": height, "objects": objects}


def _seen_from(folder: Path, picture: str) -> str:
    try:
        return Path(os.path.relpath(picture, folder)).as_posix()
    except ValueError:  # another drive on Windows
        return os.path.abspath(picture)
