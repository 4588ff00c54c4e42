"""Prompts for pictures that nobody labelled: the teacher is asked at random places, and its masks become objects.

Each object gives a box or its most interior point, the teacher answers that prompt, and the answer is what the student
is to give for the same prompt. So distilling masks needs a bare folder of pictures, as distilling embeddings does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samlet.train.promptable import GRID, Promptable
from samlet.train.sampling import corrective_click, depth

SMALLEST, LARGEST = 0.002, 0.9  # share of the picture that an object covers
JITTER = 0.06  # of a box's sides


@dataclass
class Asked:
    """N prompts with the teacher's answers; P of them on each of B pictures, N = B * P.

    Attributes:
        coords: (N, 2 + rounds, 2) pixels of the decoder's canvas.
        labels: (N, 2 + rounds).
        target: (N, 4, h, w) 0 or 1, the teacher's four masks.
        score: (N, 4) what the teacher thinks of them.
        valid: (N, h, w) 1 inside the picture.
        keep: (N,) 1 where the prompt is of use: the teacher found something of a sensible size there.
        box: (N,) bool, whether it is a box.
    """

    coords: Tensor
    labels: Tensor
    target: Tensor
    score: Tensor
    valid: Tensor
    keep: Tensor
    box: Tensor


@torch.no_grad()
def ask_teacher(
    teacher: Promptable, taught: Tensor, scaled: Tensor, *, prompts: int, columns: int, dice: torch.Generator
) -> Asked:
    """Find objects with the teacher's decoder and let it answer a box or a point for each.

    Args:
        teacher: Its decoder is used.
        taught: (B, 256, h, w) its embeddings.
        scaled: (B, 2) height and width of each picture on its canvas.
        prompts: P.
        columns: Points a prompt has room for, at least 2.
        dice: CPU generator.
    """
    b, device = len(taught), taught.device
    n = b * prompts
    many = taught.repeat_interleave(prompts, 0)
    size_xy = scaled.flip(-1).repeat_interleave(prompts, 0)  # (N, 2)
    cells = taught.shape[2] * teacher.stride // GRID, taught.shape[3] * teacher.stride // GRID
    valid = inside_of(size_xy, cells)
    nothing, has = taught.new_zeros(n, 1, *cells), taught.new_zeros(n)
    first = torch.rand(n, 1, 2, generator=dice).to(device) * (size_xy.unsqueeze(1) - 1)
    pad = first.new_zeros(n, 1, 2), first.new_full((n, 1), -1.0)
    score, masks = teacher.decode(
        many, torch.cat([first, pad[0]], 1), torch.cat([torch.ones_like(pad[1]), pad[1]], 1), nothing, has
    )
    best = 1 + score[:, 1:].argmax(1)
    found = (masks[torch.arange(n, device=device), best] > 0) & (valid > 0)  # (N, h, w)
    share = found.flatten(1).float().mean(1) / valid.flatten(1).mean(1).clamp(min=1e-6)
    keep = ((share >= SMALLEST) & (share <= LARGEST)).float()
    box = torch.arange(n, device=device) % 2 == 0
    coords, labels = first.new_zeros(n, columns, 2), first.new_full((n, columns), -1.0)
    corners = jittered(boxes_of(found), size_xy, dice)
    middle = middles_of(found)
    coords[:, 0] = torch.where(box[:, None], corners[:, 0], middle)
    coords[:, 1] = torch.where(box[:, None], corners[:, 1], coords[:, 1])
    labels[:, 0], labels[:, 1] = torch.where(box, 2.0, 1.0), torch.where(box, 3.0, -1.0)
    score, masks = teacher.decode(many, coords, labels, nothing, has)
    target = (masks > 0).float() * valid.unsqueeze(1)
    keep = keep * (target[:, 0].flatten(1).sum(1) > 0)
    return Asked(coords, labels, target, score, valid, keep, box)


def inside_of(size_xy: Tensor, cells: tuple[int, int]) -> Tensor:
    """(N, h, w): 1 on cells of the mask grid whose middle lies in the picture of (N, 2) width and height."""
    y = GRID * torch.arange(cells[0], device=size_xy.device) + GRID / 2
    x = GRID * torch.arange(cells[1], device=size_xy.device) + GRID / 2
    rows, columns = y[None] < size_xy[:, 1:], x[None] < size_xy[:, :1]
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).float()


def boxes_of(masks: Tensor) -> Tensor:
    """(N, h, w) bool -> (N, 2, 2) corners in canvas pixels; of an empty mask the first cell."""
    h, w = masks.shape[1:]
    y, x = torch.arange(h, device=masks.device), torch.arange(w, device=masks.device)
    rows, columns = masks.any(2), masks.any(1)
    x0 = torch.where(columns, x, w).amin(1).clamp(max=w - 1)
    y0 = torch.where(rows, y, h).amin(1).clamp(max=h - 1)
    x1, y1 = torch.where(columns, x, 0).amax(1) + 1, torch.where(rows, y, 0).amax(1) + 1
    corners = torch.stack(
        [torch.stack([x0, y0], -1), torch.stack([x1.maximum(x0 + 1), y1.maximum(y0 + 1)], -1)], 1
    )
    return corners.float() * GRID


def jittered(corners: Tensor, size_xy: Tensor, dice: torch.Generator) -> Tensor:
    """Move the corners of (N, 2, 2) boxes a little, as people do, inside the picture."""
    sides = (corners[:, 1] - corners[:, 0]).unsqueeze(1)
    noise = torch.randn(corners.shape, generator=dice).to(corners.device).clamp(-2, 2) * JITTER * sides
    moved = (corners + noise).clamp(min=0).minimum(size_xy.unsqueeze(1))
    low = moved[:, 0].minimum(moved[:, 1] - 2).clamp(min=0)
    return torch.stack([low, moved[:, 1].maximum(low + 2)], 1)


def middles_of(masks: Tensor) -> Tensor:
    """(N, h, w) bool -> (N, 2) canvas pixels of the most interior cell."""
    deep = depth(masks.unsqueeze(1), rounds=24).flatten(1)
    place = deep.argmax(1)
    w = masks.shape[2]
    return torch.stack([place % w, place // w], -1).float() * GRID + (GRID - 1) / 2


def correct(asked: Asked, answers: Tensor, column: int, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add a click on the deepest difference between the student's and the teacher's first mask.

    Args:
        asked: The prompts; not changed.
        answers: (N, h, w) the student's logits.
        column: Where the click goes.
        dice: CPU generator.

    Returns:
        The coords and labels with the click.
    """
    xy, label = corrective_click(answers, asked.target[:, 0], asked.valid, dice)
    coords, labels = asked.coords.clone(), asked.labels.clone()
    coords[:, column], labels[:, column] = xy[:, 0], label[:, 0]
    return coords, labels
