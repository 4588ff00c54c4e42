"""Where a call with `save=True` puts its files: runs/segment/predict, predict2 and so on."""

from pathlib import Path

from samlet.compat.ultralytics.results import Results, drawing_name
from samlet.compat.ultralytics.settings import Settings
from samlet.errors import OutputError

_MOST = 100_000


class Run:
    """The files of one call; the folder is made when the first result is saved.

    Attributes:
        settings: What to save, and where.
    """

    def __init__(self, settings: Settings) -> None:
        """Plan the files.

        Args:
            settings: What to save, and where.
        """
        self.settings = settings
        self._folder: Path | None = None
        self._stems: set[str] = set()

    def save(self, result: Results) -> None:
        """Save what the settings ask for, and note the folder in the result.

        Raises:
            OutputError: A folder or file cannot be written.
        """
        settings = self.settings
        if not settings.saves:
            return
        self._folder = self._folder or _made(settings.folder, settings.exist_ok)
        source = Path(result.path)
        stem, number = source.stem, 1
        while stem in self._stems:  # two folders may hold pictures of one name
            number += 1
            stem = f"{source.stem}{number}"
        self._stems.add(stem)
        result.save_dir = str(self._folder)
        if settings.save:
            result.save(self._folder / drawing_name(stem + source.suffix), **settings.drawing)
        if settings.save_txt:
            result.save_txt(self._folder / "labels" / f"{stem}.txt", save_conf=settings.save_conf)
        if settings.save_crop:
            result.save_crop(self._folder / "crops", f"{stem}.jpg")


def _made(folder: Path, exist_ok: bool) -> Path:
    """Make a folder of that name, numbered unless it may exist already."""
    for number in range(1, _MOST):
        target = folder if number == 1 else folder.with_name(f"{folder.name}{number}")
        try:
            target.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(
                f"expected a folder {target}, but it cannot be made ({error.strerror}); pass project= and name="
            ) from error
        return target
    raise OutputError(f"expected a free name for a folder like {folder}, found none; pass name=")
