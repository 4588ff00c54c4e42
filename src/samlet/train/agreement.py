"""How alike two models answer: mIoU of the student's masks with the teacher's for the same prompts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from samlet.errors import InputError
from samlet.evaluate.baselines import tight_box
from samlet.evaluate.datasets import Broken, Dataset
from samlet.evaluate.metrics import Summary, iou, summarise
from samlet.evaluate.protocols import clicks_prompt, first_click
from samlet.prompt import Prompt
from samlet.session import Session


@dataclass
class Agreement:
    """Overlap of two models' masks, object by object.

    Attributes:
        box: IoU with the teacher's mask for the object's tight box.
        click: The same for its most interior point.
        truth_box: IoU of the student's box mask with the labelled object.
        truth_click: IoU of its click mask with the labelled object.
        pictures: Name of each object's picture.
        broken: Pictures that could not be used.
    """

    box: list[float] = field(default_factory=list)
    click: list[float] = field(default_factory=list)
    truth_box: list[float] = field(default_factory=list)
    truth_click: list[float] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    def summary(self, column: str) -> Summary | None:
        """Mean, median and interval of "box", "click", "truth_box" or "truth_click"."""
        return summarise(getattr(self, column), self.pictures)


def compare(
    student: Session,
    teacher: Session,
    dataset: Dataset,
    *,
    on_picture: Callable[[Agreement], None] | None = None,
) -> Agreement:
    """Ask both models about every labelled object of a set, one box and one click each; single masks at picture size.

    Args:
        student: Who is measured.
        teacher: Whose masks are the measure.
        dataset: Pictures with masks; the labels only say where to prompt, but for the two `truth` columns.
        on_picture: Called after each picture.
    """
    found = Agreement()
    for sample in dataset.samples(broken=found.broken):
        try:
            image = sample.load_image()
        except InputError as error:
            found.broken.append(Broken(sample.name, str(error)))
            continue
        truths = [region.mask & ~sample.ignore for region in sample.regions]
        truths = [truth for truth in truths if truth.any()]
        if truths:
            boxes = Prompt.make(image_hw=image.hw, boxes=[tight_box(truth) for truth in truths])
            where, labels = clicks_prompt([[first_click(truth)] for truth in truths])
            points = Prompt.make(image_hw=image.hw, points=where, labels=labels)
            views = student.embed(image), teacher.embed(image)
            for prompt, column in ((boxes, "box"), (points, "click")):
                ours, theirs = (
                    session.segment(view, prompt).masks
                    for session, view in zip((student, teacher), views, strict=True)
                )
                for mine, other, truth in zip(ours, theirs, truths, strict=True):
                    getattr(found, column).append(iou(mine, other))
                    getattr(found, f"truth_{column}").append(iou(mine, truth, ignore=sample.ignore))
            found.pictures += [sample.name] * len(truths)
        if on_picture is not None:
            on_picture(found)
    return found
