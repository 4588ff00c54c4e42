"""The predictors of Ultralytics' documentation: one picture, many prompts."""

from collections.abc import Iterable, Mapping
from typing import Any

from samlet.compat.ultralytics.fast_sam import FastSAM, Selection, chosen_from
from samlet.compat.ultralytics.results import Results
from samlet.compat.ultralytics.sam import SAM
from samlet.errors import InputError


class SAMPredictor:
    """Holds a picture and answers prompts about it; Ultralytics calls it `models.sam.Predictor`.

    Example:
        >>> predictor = SAMPredictor(overrides={"model": "nano"})  # doctest: +SKIP
        >>> predictor.set_image("dogs.jpg")  # doctest: +SKIP
        >>> predictor(bboxes=[439, 437, 524, 709])[0].masks.xy  # doctest: +SKIP
    """

    def __init__(self, cfg: Any = None, overrides: Mapping[str, Any] | None = None) -> None:
        """Load the model.

        Args:
            cfg: Accepted without effect.
            overrides: Keywords of `SAM.predict` for every call, and the model as "model".
        """
        self.options = dict(overrides or {})
        self.sam = SAM(self.options.pop("model", "sam_b.pt"))

    def set_image(self, image: Any) -> None:
        """Take a picture, as a path, a Pillow image or an array in BGR order, and encode it.

        Raises:
            ImageError: There is no picture, or a broken one.
        """
        self.sam.look(image)

    def reset_image(self) -> None:
        """Forget the picture."""
        self.sam.look(None)

    def __call__(self, source: Any = None, stream: bool = False, **options: Any) -> Any:
        """Answer prompts about the picture that was set, or about others; see `SAM.predict`."""
        return self.sam.predict(source, stream, **{**self.options, **options})


class FastSAMPredictor:
    """Finds everything once and chooses among it as often as you like.

    Example:
        >>> predictor = FastSAMPredictor(overrides={"model": "FastSAM-s.pt"})  # doctest: +SKIP
        >>> everything = predictor("dogs.jpg")  # doctest: +SKIP
        >>> predictor.prompt(everything, bboxes=[[200, 200, 300, 300]])  # doctest: +SKIP
    """

    def __init__(self, cfg: Any = None, overrides: Mapping[str, Any] | None = None) -> None:
        """Load the model.

        Args:
            cfg: Accepted without effect.
            overrides: Keywords of `FastSAM.predict` for every call, and the model as "model".
        """
        self.options = dict(overrides or {})
        self.fast = FastSAM(
            self.options.pop("model", "FastSAM-x.pt"), scorer=self.options.pop("scorer", None)
        )

    def __call__(self, source: Any = None, stream: bool = False, **options: Any) -> Any:
        """Find everything; see `FastSAM.predict`."""
        return self.fast.predict(source, stream, **{**self.options, **options})

    def prompt(
        self,
        results: Results | Iterable[Results],
        bboxes: Any = None,
        points: Any = None,
        labels: Any = None,
        texts: Any = None,
    ) -> list[Results]:
        """Choose among what was found; see `FastSAM.predict` for the prompts.

        Args:
            results: What a call gave, left as it is.
            bboxes: Boxes.
            points: Points.
            labels: Labels of the points.
            texts: Phrases.

        Returns:
            A result for each of those given.

        Raises:
            InputError: The results are something else.
            PromptError: The prompts make no sense or lie outside the picture.
            MissingExtraError: There are texts but no scorer.
        """
        if results is None:
            raise InputError("expected results of an earlier call, got None; pass those")
        selection = Selection.read(bboxes, points, labels, texts)
        each = [results] if isinstance(results, Results) else list(results)
        return [chosen_from(result, selection, self.fast.scorer) for result in each]
