"""The page of the originals' faults names a test for each; a test that was renamed or lost is missed here."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_fault_has_its_test() -> None:
    page = (ROOT / "docs" / "explanation" / "mended.md").read_text()
    rows = [
        line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| the original")
    ]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/\w+\.py)::(test_\w+)`", row)
        assert named, f"no test is named for: {row}"
        for file, name in named:
            source = (ROOT / file).read_text()
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file} has no {name}"
