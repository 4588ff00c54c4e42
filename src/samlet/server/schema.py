"""The forms of JSON that the API takes and gives, for checking and for /openapi.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from samlet import everything

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Point = Annotated[list[Number], Field(min_length=2, max_length=2)]
Box = Annotated[list[Number], Field(min_length=4, max_length=4)]
Label = Literal[1, 0, -1]
Format = Literal["rle", "polygons", "png"]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Prompt(_Form):
    """What to cut out; coordinates are picture pixels, (0, 0) is the top-left corner."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"points": [[220, 110], [40, 200]], "labels": [1, 0], "format": "rle"}},
    )

    points: list[Point] | list[list[Point]] | None = Field(
        default=None, description="clicks (x, y) of one prompt, or a list of them for each of N prompts"
    )
    labels: list[Label] | list[list[Label]] | None = Field(
        default=None,
        description="one for each point: 1 the object, 0 not the object, -1 padding; all 1 if left out",
    )
    boxes: list[Box] | Box | None = Field(
        default=None, description="x0, y0, x1, y1 of one or N boxes; with points they pair up"
    )
    hint_from: Id | None = Field(
        default=None, description="id of an earlier answer for the same prompts, to refine it"
    )
    multimask: bool = Field(default=False, description="three candidates for each prompt instead of one mask")
    format: Format = "rle"
    tolerance: float = Field(
        default=1.0, ge=0, le=100, description="how far polygons may leave the outline, in pixels"
    )


class Everything(_Form):
    """Find everything in the picture, without a prompt."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"at_most": 56, "format": "rle"}})

    at_most: int = Field(
        default=everything.Objects().at_most,
        ge=1,
        le=320,
        description="most masks, and most boxes that prompt for them",
    )
    min_area: int = Field(default=0, ge=0, le=10**9, description="pixels; smaller masks are left out")
    grid: str | None = Field(
        default=None,
        pattern=r"^\d{1,2}x\d{1,2}$",
        description="SAM's way, as 16x16; slow. Left out: boxes of objects",
    )
    format: Format = "rle"
    tolerance: float = Field(default=1.0, ge=0, le=100)


class Text(_Form):
    """Find what words name."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"find": "a dog"}})

    find: str | list[str] = Field(description="one text, or up to 16", min_length=1, max_length=400)
    at_most: int | None = Field(default=None, ge=1, le=320, description="most masks for each text")
    threshold: float | None = Field(default=None, ge=-100, le=100, description="lowest score")
    format: Format = "rle"
    tolerance: float = Field(default=1.0, ge=0, le=100)


class Facts(_Form):
    """One picture that the server holds."""

    id: str = Field(examples=["Xq0m5GzJ6v5y1mJr1oZbqg"])
    model: str = Field(examples=["nano"])
    width: int = Field(examples=[1280])
    height: int = Field(examples=[720])
    milliseconds: float | None = Field(default=None, description="time that embedding it took")
    expires: float = Field(description="seconds after its last use at which it is forgotten", examples=[3600])


class Rle(_Form):
    """A mask as COCO's compressed run lengths."""

    size: list[int] = Field(description="height, width", examples=[[720, 1280]])
    counts: str


class Polygon(_Form):
    """One connected part of a mask."""

    exterior: list[list[float]]
    holes: list[list[list[float]]]


class Mask(_Form):
    """One mask; of `rle`, `polygons` and `png` it has the one that was asked for."""

    score: float | None = Field(description="the network's own guess of the overlap with the truth, 0 to 1")
    box_xyxy: list[int] = Field(description="x0, y0, x1, y1 in pixels, the ends exclusive; zeros if empty")
    area: int = Field(description="pixels")
    rle: Rle | None = None
    polygons: list[Polygon] | None = None
    png: str | None = Field(default=None, description="base64 of a black and white PNG")
    label: str | None = Field(default=None, description="of what was asked for by text")


class Answer(_Form):
    """Masks in the order of the prompts; with `multimask`, three for each."""

    id: str | None = Field(
        default=None, description="for `hint_from`; null where the answer cannot be refined"
    )
    masks: list[Mask]
    milliseconds: float


class Objects(_Form):
    """Boxes of objects, best first."""

    boxes: list[list[float]]
    scores: list[float]
    milliseconds: float


class Refusal(_Form):
    """What went wrong, in one sentence, with an id that the operator finds in the log."""

    error: str
    id: str


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not there."""
    return {name: value for name, value in fields.items() if value is not None}
