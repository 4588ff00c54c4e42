"""Sample masks of a run as one picture, so that a person sees early what a number hides."""

import numpy as np
from PIL import Image as PillowImage
from torch import Tensor

from samlet import drawing
from samlet.image import Image
from samlet.prompt import Prompt
from samlet.train.lessons import Lesson
from samlet.train.promptable import GRID
from samlet.train.teacher_prompts import Asked

CELL = 240


def comparison(
    lesson: Lesson, asked: Asked, answers: Tensor, *, ratio: int, at_most: int
) -> PillowImage.Image:
    """Draw prompts with the teacher's mask on the left and the student's on the right.

    Args:
        lesson: The pictures.
        asked: Prompts of them, P each.
        answers: (N, h, w) bool, the student's masks on the grid of `GRID` pixels of the teacher's canvas.
        ratio: The student's canvas pixels to one of the teacher's.
        at_most: Prompts that are drawn.
    """
    per_picture = len(asked.coords) // len(lesson.pixels)
    chosen = [i for i in range(len(asked.coords)) if float(asked.keep[i])]
    chosen = chosen[:: max(1, len(chosen) // at_most)][:at_most] or [0]
    panels, captions = [], []
    for i in chosen:
        number = i // per_picture
        height, width = (int(side) * ratio for side in lesson.scaled[number])
        image = Image(np.ascontiguousarray(lesson.pixels[number, :height, :width]))
        if asked.box[i]:
            prompt = Prompt.make(image_hw=image.hw, boxes=(asked.coords[i, :2].reshape(4) * ratio).tolist())
        else:
            prompt = Prompt.make(image_hw=image.hw, points=(asked.coords[i, :1] * ratio).tolist())
        for who, mask in (("teacher", asked.target[i, 0] > 0), ("student", answers[i])):
            large = np.kron(mask.cpu().numpy(), np.ones((GRID * ratio, GRID * ratio), np.bool_))
            fitted = np.zeros(image.hw, np.bool_)
            part = large[: image.height, : image.width]
            fitted[: part.shape[0], : part.shape[1]] = part
            panels.append(drawing.overlay(image, [fitted], prompt=prompt))
            captions.append(f"{lesson.keys[number][-24:]}, {who}")
    return drawing.contact_sheet(panels, 4, captions, cell=CELL)
