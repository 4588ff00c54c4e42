"""What `samlet.load()` hands out: a session with pictures and prompts in the forms that people have them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from samlet import backends, registry
from samlet.backends.base import Backend
from samlet.card import Card
from samlet.draft import Draft
from samlet.embedding import Embedding
from samlet.errors import InputError, ModelError
from samlet.image import Image
from samlet.instances import SETTINGS, rules_of
from samlet.limits import DEFAULT_LIMITS, Limits
from samlet.masks import Masks, StoredMasks
from samlet.prompt import Prompt
from samlet.session import Session
from samlet.zoom import second_look

if TYPE_CHECKING:
    from samlet.everything import Grid, Objects
    from samlet.regions import Scorer
    from samlet.text import Detector

ImageLike = str | Path | bytes | NDArray[Any] | PillowImage.Image | Image
"""Whatever `Image.load` makes a picture of."""


class Model:
    """A loaded model; any number of threads may use it at once.

    Example:
        >>> import samlet
        >>> model = samlet.load()  # doctest: +SKIP
        >>> masks = model.segment("samples/dogs.jpg", points=[520, 360])  # doctest: +SKIP
        >>> masks.save("dog.png")  # doctest: +SKIP
    """

    def __init__(self, session: Session, *, limits: Limits = DEFAULT_LIMITS) -> None:
        """Wrap a session; most people call `samlet.load` instead.

        Args:
            session: The model on its backend.
            limits: Bounds on pictures and prompts.
        """
        self._session = session
        self._limits = limits
        self._borrowed: Session | None = None  # nano's, once its object head is needed

    def __repr__(self) -> str:
        """Say which model it is."""
        return f"<Model: {self.card.name}>"

    @property
    def session(self) -> Session:
        """The card on its backend: the door for people who build their own interface on samlet."""
        return self._session

    @property
    def card(self) -> Card:
        """What the model is, where it comes from and how well it does."""
        return self._session.card

    def embed(self, image: ImageLike, *, decode: Literal["whole", "draft"] = "whole") -> Embedding:
        """Do the expensive half of the work, once for a picture.

        Args:
            image: A path, encoded bytes, an RGB array (H, W, 3), a Pillow image or an `Image`.
            decode: "draft" decodes a large JPEG at a half, a quarter or an eighth of its size, which takes a third of
                the time and moves edges of masks slightly. Masks have the picture's own size all the same,
                but the embedding holds no picture: drawing asks for one, and small boxes are not looked at twice.

        Returns:
            The embedding; prompt it as often as you like, or save it.

        Raises:
            InputError: `decode` is neither of the two, or is "draft" for a picture that is decoded already or a
                model that is not of SAM's kind.
            ImageError: There is no picture, or a broken one.
            LimitError: The picture is too large.
            BackendError: The runtime failed.
        """
        if decode not in ("whole", "draft"):
            raise InputError(f"expected decode 'whole' or 'draft', got {decode!r:.80}; choose one of the two")
        if decode == "draft":
            # Draft.load refuses what is no file.
            return self._session.embed(Draft.load(image, side=self.card.side, limits=self._limits))
        return self._session.embed(Image.load(image, limits=self._limits))

    def embed_many(self, images: Sequence[ImageLike], *, at_once: int = 8) -> list[Embedding]:
        """Embed several pictures; the torch backend takes up to `at_once` of them in one call.

        Args:
            images: Pictures in any form that `embed` takes.
            at_once: Most pictures in one call, at least 1.

        Returns:
            Embeddings in the order of the pictures.

        Raises:
            ImageError: One of them is no picture, or broken.
            LimitError: One of them is too large.
            InputError: `at_once` is below 1.
            BackendError: The runtime failed.
        """
        return self._session.embed_many(
            [Image.load(image, limits=self._limits) for image in images], at_once=at_once
        )

    def segment(  # noqa: PLR0913  the parts of a prompt, each with its own keyword
        self,
        view: Embedding | ImageLike,
        *,
        points: ArrayLike | list[Any] | None = None,
        labels: ArrayLike | list[Any] | None = None,
        boxes: ArrayLike | None = None,
        hint: ArrayLike | None = None,
        multimask: bool = False,
        zoom: Literal["off", "auto"] = "off",
    ) -> Masks:
        """Cut out what the prompt points at.

        Args:
            view: An embedding, or a picture that is embedded on the way.
            points: (2,) one point, (K, 2) K points on one object, (N, K, 2) N prompts; picture pixels (x, y).
            labels: One label a point: 1 foreground, 0 background, -1 padding; None makes them all foreground.
            boxes: (4,) or (N, 4) as x0, y0, x1, y1 in picture pixels; with points they pair up by N.
            hint: `Masks.hint` of an earlier answer for the same picture, to refine it.
            multimask: Whether to give three candidates for each prompt; `Masks.best` picks one.
            zoom: "auto" looks twice at boxes that are small in the picture, at the price of an encoding each, and
                from near at small objects with four clicks or more, at the price of one encoding for all further
                clicks on the same view; pass the hint of the answer before. It needs the picture: an embedding
                loaded from disk is looked at once.

        Returns:
            Masks in prompt order, with the picture and the prompt for drawing.

        Raises:
            InputError: The zoom is neither "off" nor "auto".
            PromptError: The prompt makes no sense or lies outside the picture.
            LimitError: The picture or the prompt is too large.
            ImageError: There is no picture, or a broken one.
            EmbeddingError: Another model made the embedding.
            BackendError: The runtime failed.
        """
        if zoom not in ("off", "auto"):
            raise InputError(f"expected zoom 'off' or 'auto', got {zoom!r:.80}; choose one of the two")
        if not isinstance(view, Embedding):
            # The prompt first: a wrong one should not cost an encoding.
            view = Image.load(view, limits=self._limits)
        prompt = Prompt.make(
            image_hw=view.hw if isinstance(view, Image) else view.frame.image_hw,
            points=points,
            labels=labels,
            boxes=boxes,
            hint=hint,
            limits=self._limits,
        )
        embedding = self._session.embed(view) if isinstance(view, Image) else view
        masks = self._session.segment(embedding, prompt, multimask=multimask)
        if zoom == "auto":
            masks = second_look(self._session, embedding, prompt=prompt, masks=masks, multimask=multimask)
        return replace(masks, image=embedding.image, prompt=prompt)

    def everything(
        self,
        view: Embedding | ImageLike,
        *,
        by: Literal["auto", "objects", "grid", "hierarchical", "regions"] = "auto",
        grid: "Grid | str | None" = None,
        objects: "Objects | None" = None,
        detector: "Model | None" = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> StoredMasks:
        """Find everything in a picture.

        Args:
            view: An embedding, or a picture that is embedded on the way.
            by: "objects" prompts with boxes of objects (MobileSAMv2's way), from the model's own object head or
                from `detector`; "grid" clicks on a grid (SAM's way), "hierarchical" on a coarse one first and on
                finer ones only where neighbouring clicks found different masks; "regions" takes what FastSAM's one
                pass found. "auto" is "grid" if a grid is given, "regions" for FastSAM, else "objects", with nano's
                head for models that have none.
            grid: Settings of the grid, or its size as "32x32".
            objects: How boxes are chosen and masks are ranked.
            detector: A model that finds boxes: object_aware, or one with an object head.
            progress: Called with the prompts done and the prompts in all.

        Returns:
            Masks stored as run lengths, best first, with facts about each (`StoredMasks.facts`).

        Raises:
            InputError: The model cannot do what `by` says, or the grid is none.
            LimitError: The picture is too large.
            ImageError: There is no picture, or a broken one.
            EmbeddingError: Another model made the embedding.
            BackendError: The runtime failed.
        """
        from samlet import everything
        from samlet.families import fastsam

        picture = self._picture(view)
        finds_regions = self.card.family == "fastsam"
        if by == "auto":
            by = "regions" if finds_regions else "grid" if grid is not None else "objects"
        if by not in ("objects", "grid", "hierarchical", "regions") or (by == "regions") != finds_regions:
            raise InputError(
                f"expected by='regions' for FastSAM and 'objects', 'grid' or 'hierarchical' for other models, got "
                f"{by!r:.40} for {self.card.name}; choose one that fits"
            )
        if by == "regions":
            embedding = picture if isinstance(picture, Embedding) else self._session.embed(picture)
            return fastsam.instances(embedding, self.card)
        if by == "objects":
            wanted = objects if objects is not None else everything.Objects()
            helper = detector.session if detector is not None else self._finder()
            return everything.objects(self._session, picture, wanted, detector=helper, progress=progress)
        settings = everything.Grid.parse(grid, self.card) if not isinstance(grid, everything.Grid) else grid
        coarse = everything.COARSE if by == "hierarchical" else 1
        return everything.everything(self._session, picture, settings, coarse=coarse, progress=progress)

    def text(
        self,
        view: Embedding | ImageLike,
        texts: str | Sequence[str],
        *,
        scorer: "Scorer | None" = None,
        detector: "Detector | None" = None,
        at_most: int | None = 1,
        threshold: float | None = None,
    ) -> StoredMasks:
        """Find what words name.

        Args:
            view: An embedding, or a picture that is embedded on the way.
            texts: One text or several.
            scorer: Rates regions by text, such as `samlet.text.load_clip`; everything in the picture is found first,
                then the best regions are chosen. None takes the CLIP that lies in the cache's `by_hand`.
            detector: Finds boxes by text, such as `samlet.text.load_detector`; they prompt the model instead.
            at_most: Most regions for each text; None for no bound. A detector has none.
            threshold: Lowest score of a region or box; None takes none for a scorer, 0.25 for a detector.

        Returns:
            Stored masks, possibly none, with `facts["text"]`, the text of each; to_coco(labels=facts["text"]).

        Raises:
            MissingExtraError: There is neither a scorer nor a detector nor a CLIP on this computer.
            InputError: The texts or a number make no sense.
            BackendError: The runtime failed.
        """
        from samlet import text

        picture = self._picture(view)
        if detector is not None:
            bound = 0.25 if threshold is None else threshold
            return text.segment_text(self._session, picture, texts, detector, box_threshold=bound)
        rate = text.default_scorer() if scorer is None else scorer
        found = self.everything(picture)
        return text.pick(found, found.image, texts, rate, at_most=at_most, threshold=threshold)

    def _picture(self, view: Embedding | ImageLike) -> Embedding | Image:
        return view if isinstance(view, Embedding) else Image.load(view, limits=self._limits)

    def _finder(self) -> Session | None:
        """Give the session whose object head finds boxes for this model; None if it is its own."""
        if self._session.has_objects:
            return None
        if self._borrowed is None:
            self._borrowed = load("nano").session
        return self._borrowed


def load(  # noqa: PLR0913  each is a choice of its own
    name: str | Path = "nano",
    *,
    decoder: str | Path | None = None,
    backend: str | Backend = "onnx",
    shape: Literal["auto", "padded", "fit"] = "auto",
    size: int | None = None,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    settings: Mapping[str, float | int | bool | str] | None = None,
) -> Model:
    """Load a model.

    Args:
        name: A name that `samlet.models` lists (its weights are downloaded at the first use), or the path of a
            file: .pt, .pth or .safetensors in the layout of SAM, MobileSAM, EfficientViT-SAM or FastSAM, one
            trained with samlet, or a .toml card. Nothing in such a file is executed.
        decoder: File with SAM's prompt encoder and mask decoder, for an encoder that comes without.
        backend: "onnx"; "openvino" or "torch" (each needs the extra of that name), with options after a colon, such as
            "openvino:bf16" (see `samlet.backends.create`); or a backend of your own.
        shape: "padded" puts pictures into SAM's square, "fit" pads them no further than the network needs, which
            halves the cost of a wide photograph and moves edges of masks slightly; "auto" takes what the model was
            trained with: the square for official models, "fit" for nano.
        size: Longest side of pictures in the network, a multiple of its stride; None for the side it was trained with.
            A smaller one is faster and less exact: 256 takes nano a third of the time of its own 512. SAM and
            MobileSAM learned their own side by heart and lose much with another.
        threads: Threads for one run; None lets the runtime decide.
        limits: Bounds on pictures and prompts.
        settings: Settings of a detector's or FastSAM's card to replace, such as {"swap_channels": True} or
            {"border_snap": 0}; `samlet.instances.SETTINGS` lists them.

    Returns:
        The model, ready.

    Raises:
        UnknownModelError: There is no model of that name.
        ModelError: A file is missing or damaged, or there is no such backend.
        MissingExtraError: The backend's runtime is not installed.
        BackendError: The runtime refuses the model.
        InputError: The number of threads is below 1, the shape is none of the three, the size is no multiple of the
            stride, or the model has no such setting.
    """
    card = _set(registry.resolve(name, decoder=decoder), settings or {}).shaped(shape)
    if size is not None:
        card = card.resized(size)
    runtime = backends.create(backend) if isinstance(backend, str) else backend
    if not callable(getattr(runtime, "open", None)):
        raise ModelError(
            f"expected a backend ({', '.join(backends.NAMES)}) or an object with open(), got "
            f"{type(runtime).__name__}; name one of them"
        )
    return Model(Session(card, runtime, threads=threads), limits=limits)


def _set(card: Card, settings: Mapping[str, float | int | bool | str]) -> Card:
    known = SETTINGS if card.family in ("fastsam", "object_aware") else tuple(card.settings)
    for name in settings:
        if name not in known:
            raise InputError(
                f"expected settings that {card.name} has ({', '.join(known) or 'none'}), got {name!r:.40}; correct it"
            )
    changed = replace(card, settings={**card.settings, **settings}) if settings else card
    if known is SETTINGS:
        rules_of(changed)  # out of range: say so now
    return changed


def models() -> list[str]:
    """List the names of the models that `load` knows.

    Example:
        >>> "nano" in models()
        True
    """
    return list(registry.cards())
