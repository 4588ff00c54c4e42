"""Where the pictures of a batch are: what the words of its command stand for, and the bytes of one picture."""

from collections.abc import Iterator, Sequence

from samlet.data import places
from samlet.data.dataset import Dataset, named_kind
from samlet.data.places import Listed, read

__all__ = ["Listed", "listed", "read"]


def listed(inputs: Sequence[str]) -> Iterator[Listed]:
    """List the pictures that the words of a command stand for.

    Args:
        inputs: What `samlet.data.places.listed` takes, and data sets by kind, such as "coco:annotations.json".

    Yields:
        The pictures, in no order.

    Raises:
        InputError: An input is not there, cannot be read, or holds no pictures.
    """
    for text in inputs:
        if named_kind(text) is None:
            yield from places.listed([text], alone=len(inputs) == 1)
        else:
            for item in Dataset.open(text, boxes=True).items:
                yield Listed(item.file_name, item.source, places.stamp(item.source))
