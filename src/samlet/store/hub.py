"""Files of Hugging Face repositories that a user names himself, private ones too, through `huggingface_hub`.

The built-in models do not come this way: their cards name an address and a digest.
"""

import re
from importlib import import_module
from pathlib import Path

from samlet.errors import InputError, MissingExtraError, ModelError
from samlet.store import layout

_REFERENCE = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+?))?/(?P<file>[\w.+-]+(/[\w.+-]+)*)", re.ASCII
)


def parse_reference(reference: str) -> tuple[str, str, str | None]:
    """Take a reference to a file of a repository apart.

    Args:
        reference: "hf://owner/name/path/of/file" or, with a branch, tag or commit, "hf://owner/name@v1/file".

    Returns:
        Repository, path of the file in it, and revision or None.

    Raises:
        InputError: It is no such reference.

    Example:
        >>> parse_reference("hf://someone/private-sam/weights/best.pt")
        ('someone/private-sam', 'weights/best.pt', None)
    """
    match = _REFERENCE.fullmatch(reference)
    parts = match["file"].split("/") if match else [".."]
    if match is None or ".." in parts or "." in parts:
        raise InputError(
            f"expected a file as hf://owner/repository/file, got {reference!r:.200}; "
            "name the repository and the file in it"
        )
    return match["repo"], match["file"], match["revision"]


def fetch_from_hub(repo: str, file_name: str, revision: str | None = None) -> Path:
    """Download a file of a Hugging Face repository with the user's own login, or find it in its cache.

    Args:
        repo: "owner/name".
        file_name: Path of the file in the repository.
        revision: Branch, tag or commit; None for the repository's default.

    Returns:
        Where the file lies. Nobody published a digest that could be compared: see `record_first_use`.

    Raises:
        MissingExtraError: `huggingface_hub` is not installed.
        ModelError: There is no such file, no permission or no network.
    """
    try:
        hub = import_module("huggingface_hub")
    except ImportError:
        raise MissingExtraError(
            f"expected huggingface_hub to fetch {file_name} from {repo}, but it is not installed; "
            "install it with pip install 'samlet[hub]'"
        ) from None
    try:
        found = hub.hf_hub_download(
            repo_id=repo, filename=file_name, revision=revision, local_files_only=layout.is_offline()
        )
    except Exception as error:  # its errors come from several libraries, and change
        reason = str(error).strip().split("\n", 1)[0][:200] or type(error).__name__
        raise ModelError(
            f"expected to fetch {file_name} from the Hugging Face repository {repo}, but it failed ({reason}); "
            "check the names, your login (hf auth login) and the network, or give the path of a file"
        ) from error
    return Path(found)
