"""The work itself: a picture in, a record out. It knows nothing of engines; each of them runs this."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.atomic import not_written
from samlet.batch import annotations, sink, sources
from samlet.batch.recipe import Recipe
from samlet.batch.record import DONE, FAILED, Item, Record, Report, Task
from samlet.errors import ModelError, OutputError, SamletError
from samlet.rle import rle_area, rle_to_bbox

if TYPE_CHECKING:
    from samlet.image import Image
    from samlet.masks import Masks
    from samlet.model import Model

_DEATHS = 3


class Worker:
    """Makes records of pictures by a recipe; the model is loaded at the first picture.

    Example:
        >>> import numpy, io
        >>> from PIL import Image as Pillow
        >>> from samlet.batch import Item, Recipe, Worker
        >>> worker = Worker(Recipe(backend="fake"))
        >>> worker.record(Item(0, "none.jpg", {"path": "none.jpg"})).state
        'failed'
    """

    def __init__(self, recipe: Recipe, *, threads: int | None = None) -> None:
        """Remember what to do.

        Args:
            recipe: What is done with every picture.
            threads: Threads of the model; None lets the runtime decide.
        """
        self._recipe, self._threads = recipe, threads
        self._model: Model | None = None

    def record(self, item: Item) -> Record:
        """Work on one picture.

        Args:
            item: The picture.

        Returns:
            What became of it; a picture that cannot be used gives a record that says why.

        Raises:
            ModelError: The model cannot be used: no picture can be worked on.
        """
        sha256 = ""
        try:
            data = sources.read(item.source)
            sha256 = hashlib.sha256(data).hexdigest()
            return self._made(item, data, sha256)
        except (ModelError, OutputError):
            raise
        except SamletError as error:
            reason = str(error)
        except MemoryError:
            reason = "expected to hold the picture in memory, but there was too little; scale it down"
        except Exception as error:
            reason = f"something went wrong inside samlet ({type(error).__name__}: {error}); please report it"
        return Record(item.number, item.name, FAILED, " ".join(reason.split()), sha256=sha256)

    def work(self, task: Task, folder: Path, *, life: str = "") -> Report:
        """Work on one shard: all of its records, then all of its files, then the report.

        Args:
            task: The shard.
            folder: The output folder.
            life: Of the driver: what stays the same until it begins anew.

        Returns:
            The report, once every file of the shard is on the disk.

        Raises:
            ModelError: The model cannot be used.
            OutputError: A file cannot be written.
        """
        self._loaded()  # first, so that no picture is blamed for it
        tries = _Tries(folder, task.shard, life)
        records = []
        for item in task.items:
            dead = tries.begin(item.number)
            if dead:
                reason = (
                    f"expected to survive this picture, but the worker died {dead} times while it was at it; the "
                    "computer may lack the memory for it"
                )
                records.append(Record(item.number, item.name, FAILED, reason))
            else:
                records.append(self.record(item))
        for name in self._recipe.formats:
            writer = sink.WRITERS.get(name) or annotations.WRITERS[name]
            writer(folder, task.shard, records)
        tries.end()
        return Report(task.shard, [(one.number, len(one.masks), one.reason) for one in records])

    def _made(self, item: Item, data: bytes, sha256: str) -> Record:
        from samlet.image import Image

        image = Image.load(data, name=item.name)
        if self._recipe.prompted:
            masks = self._answers(image, item.objects or [])
        else:
            masks = self._everything(image)
        return Record(
            item.number, item.name, DONE, width=image.width, height=image.height, sha256=sha256, masks=masks
        )

    def _everything(self, image: "Image") -> list[dict[str, Any]]:
        import numpy as np

        recipe, model = self._recipe, self._loaded()
        settings: dict[str, Any] = {"by": recipe.by, "grid": recipe.grid}
        if recipe.at_most is not None and recipe.grid is None and recipe.by in ("auto", "objects"):
            from samlet.everything import Objects

            settings["objects"] = Objects(at_most=recipe.at_most)
        masks = model.everything(model.embed(image), **settings)
        masks = masks[masks.scores >= recipe.min_score]
        return _rows(masks[np.argsort(-masks.scores, kind="stable")[: recipe.at_most]])

    def _answers(self, image: "Image", objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not objects:
            return []
        from samlet.batch.quality import rated

        model = self._loaded()
        view = model.embed(image)
        rows: list[dict[str, Any]] = [{} for _ in objects]
        kinds = [tuple(part for part in ("box", "points") if part in one) for one in objects]
        for kind in sorted(set(kinds)):
            chosen = [index for index, other in enumerate(kinds) if other == kind]
            asked: dict[str, Any] = {}
            if "box" in kind:
                asked["boxes"] = [objects[index]["box"] for index in chosen]
            if "points" in kind:
                asked["points"] = [objects[index]["points"] for index in chosen]
                asked["labels"] = [objects[index]["labels"] for index in chosen]
            masks = model.segment(view, **asked, zoom=self._recipe.zoom)
            made = _rows(masks)
            if self._recipe.rated and "box" in kind:
                figures = rated(masks, asked["boxes"], [row["bbox"] for row in made])
                made = [
                    {**row, **figure, "asked": box}
                    for row, figure, box in zip(made, figures, asked["boxes"], strict=True)
                ]
            for index, row in zip(chosen, made, strict=True):
                rows[index] = self._named(row, objects[index].get("name", row["name"]))
        return rows

    def _named(self, row: dict[str, Any], name: str) -> dict[str, Any]:
        known = self._recipe.classes
        return {**row, "name": name} | ({"category": known.index(name)} if name in known else {})

    def _loaded(self) -> "Model":
        if self._model is None:
            from samlet import model

            recipe = self._recipe
            backend: Any = recipe.backend
            if backend == "fake":
                from samlet.backends.fake import FakeBackend
                from samlet.registry import resolve

                backend = FakeBackend(channels=resolve(recipe.model).embedding_channels)
            self._model = model.load(
                recipe.model,
                decoder=recipe.decoder,
                backend=backend,
                shape=recipe.shape,
                threads=self._threads,
            )
        return self._model


def _rows(masks: "Masks") -> list[dict[str, Any]]:
    return [
        {
            "score": round(float(score), 6),
            "area": rle_area(rle),
            "bbox": list(rle_to_bbox(rle)),
            "counts": rle["counts"],
            "name": "object",
        }
        for score, rle in zip(masks.scores, masks.to_rle(), strict=True)
    ]


class _Tries:
    """How often workers died at a picture while their driver lived: one picture must not stop all others.

    A shard that was begun before in the same life of the driver is worked on with a note of the picture at hand. A
    picture that outlived three workers is left alone. Deaths of all at once are nobody's fault, and not counted.
    """

    def __init__(self, folder: Path, shard: int, life: str) -> None:
        self._path = folder / "tries" / f"{shard:06d}.json"
        self._life = life
        self._deaths: dict[str, int] = {}
        self._careful = False
        with suppress(OSError, ValueError, KeyError, TypeError):
            seen = json.loads(self._path.read_text())
            if seen["life"] == life:
                self._deaths = {str(number): int(count) for number, count in seen["deaths"].items()}
                self._careful = True
                if seen["at"] is not None:
                    self._deaths[str(seen["at"])] = self._deaths.get(str(seen["at"]), 0) + 1
        self._note(None)

    def begin(self, number: int) -> int:
        """Say how many workers died at the picture if they were too many, else 0."""
        dead = self._deaths.get(str(number), 0)
        if dead >= _DEATHS:
            return dead
        if self._careful:
            self._note(number)
        return 0

    def end(self) -> None:
        with suppress(OSError):
            self._path.unlink()

    def _note(self, number: int | None) -> None:
        # Not flushed: what is lost in a power cut is a count. Replaced as a whole, so that it is never half a file.
        temporary = self._path.with_name(f".samlet-{self._path.stem}-{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps({"life": self._life, "at": number, "deaths": self._deaths}))
            os.replace(temporary, self._path)
        except OSError as error:
            raise not_written(self._path, error) from error
