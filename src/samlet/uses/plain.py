"""The form in which the functions of this package look at masks."""

from samlet.masks import Masks, StoredMasks
from samlet.runs import Runs


def stored(masks: Masks) -> StoredMasks:
    """Store masks as run lengths, if they are not yet.

    Args:
        masks: One mask a prompt.

    Raises:
        InputError: The prompts still have several candidates.
    """
    if isinstance(masks, StoredMasks):
        return masks
    return StoredMasks.of(
        masks.to_rle(compressed=False), masks.scores, masks.frame.image_hw, image=masks.image
    )


def runs_of(masks: Masks) -> list[Runs]:
    """Give the masks as stretches of pixels, in their order."""
    return [Runs.of(rle) for rle in stored(masks).rles]
