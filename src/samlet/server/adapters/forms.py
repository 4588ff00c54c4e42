"""The forms of JSON that labelling tools send. What they send besides is let pass: their next version may add some."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from samlet.server.schema import Number, Point

Share = Annotated[float, Field(ge=0, le=1)]
_EXAMPLE_IMAGE = "data:image/png;base64,iVBORw0KGgo..."


class _Open(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Mark(_Open):
    """One click or rectangle of X-AnyLabeling, in picture pixels."""

    type: Literal["point", "rectangle"]
    data: list[Number] = Field(min_length=2, max_length=4)
    label: Literal[0, 1] | None = Field(default=1, description="1 the object, 0 not the object")


class XParams(_Open):
    """What X-AnyLabeling sets in its window."""

    marks: list[Mark] = Field(default_factory=list, max_length=1024)
    text_prompt: str | None = Field(default=None, max_length=400)
    conf_threshold: Share = 0.0
    iou_threshold: Share = Field(default=0.0, description="0 leaves it to the server")
    epsilon_factor: Annotated[float, Field(ge=0, le=0.1)] = Field(
        default=0.001, description="how far polygons may leave the outline, as a share of its length"
    )


class XRequest(_Open):
    """What X-AnyLabeling sends to /v1/predict."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "model": "nano",
                "image": _EXAMPLE_IMAGE,
                "params": {"marks": [{"type": "point", "data": [220, 110], "label": 1}]},
            }
        },
    )

    model: str = Field(max_length=60)
    image: str
    params: XParams = Field(default_factory=lambda: XParams())


class OsamPrompt(_Open):
    """What osam calls a prompt."""

    points: list[Point] | None = Field(default=None, max_length=1024)
    point_labels: list[Literal[-1, 0, 1, 2, 3]] | None = Field(
        default=None, description="0 and 1 clicks, 2 and 3 corners of a box", max_length=1024
    )
    texts: list[str] | None = Field(default=None, max_length=16)
    score_threshold: float | None = None
    max_annotations: int | None = Field(default=None, ge=1, le=1000)


class OsamRequest(_Open):
    """What osam's clients send to /api/generate."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "model": "nano",
                "image": "iVBORw0KGgo...",
                "prompt": {"points": [[220, 110]], "point_labels": [1]},
            }
        },
    )

    model: str = Field(max_length=60)
    image: str
    prompt: OsamPrompt | None = None


class StudioTask(_Open):
    """One task of Label Studio."""

    data: dict[str, Any]


class StudioValue(_Open):
    """Where a region of Label Studio lies, in percent of the picture."""

    x: Number
    y: Number
    width: Number = 0
    height: Number = 0
    keypointlabels: list[str] = Field(default_factory=list)
    rectanglelabels: list[str] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list)


class StudioRegion(_Open):
    """One click or rectangle that a person made with a smart tool."""

    type: str
    value: StudioValue
    from_name: str = ""
    to_name: str = ""
    is_positive: bool | int = True
    image_rotation: float = 0


class StudioContext(_Open):
    """What a person has done so far."""

    result: list[StudioRegion] = Field(default_factory=list, max_length=1024)


class StudioParams(_Open):
    """What comes with a request for predictions."""

    context: StudioContext | None = None


class StudioRequest(_Open):
    """What Label Studio sends to /predict."""

    tasks: list[StudioTask] = Field(max_length=1000)
    label_config: str = Field(default="", max_length=200_000)
    params: StudioParams | None = None


class StudioSetup(_Open):
    """What Label Studio sends to /setup; only that it is JSON matters."""


class StudioEvent(_Open):
    """What Label Studio sends to /webhook."""

    action: str = Field(default="", max_length=100)


FORMS = (XRequest, OsamRequest, StudioRequest, StudioSetup, StudioEvent)
