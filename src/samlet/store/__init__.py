"""Where model files lie and how they get there: size and digest first, before anybody parses a byte.

Bytes are read once: what is parsed is what was hashed, so that swapping a file between the two is of no use.
"""

from samlet.store.derived import keep
from samlet.store.files import copy_to, describe, fetch, locate, name_by_content, read_graph, read_verified
from samlet.store.first_use import record_first_use
from samlet.store.hub import fetch_from_hub, parse_reference
from samlet.store.layout import cache_folder

__all__ = [
    "cache_folder",
    "copy_to",
    "describe",
    "fetch",
    "fetch_from_hub",
    "keep",
    "locate",
    "name_by_content",
    "parse_reference",
    "read_graph",
    "read_verified",
    "record_first_use",
]
