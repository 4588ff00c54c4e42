"""Rows of the parity report. Signature: `record(row: dict[str, str | float]) -> None`; call it from any parity test.

A row needs "part" (the table it belongs to, for instance "SamPredictor on 30 pictures") and "name" (the line in that
table, for instance "one click"); every other entry is a number under the name of its column. Rows of the same part
and name are one line of the report: it counts them and shows the worst, which is the largest number of a column, or
the smallest where the column's name begins with "min", or the sum where it begins with "sum". Where
$SAMLET_PARITY_TABLE names no file, `record` does nothing.

    SAMLET_PARITY=all SAMLET_PARITY_TABLE=rows.jsonl python -m pytest -m parity
    python -m tests.parity_table rows.jsonl > docs/parity.md
"""

import json
import os
import sys
from pathlib import Path

HEAD = """# Agreement with the original implementations

Written by `make parity`: the reference and samlet compute the same thing from the same random weights (norm
statistics and attention biases included); each line is the worst of its cases. Differences of logits and embeddings
are relative to their standard deviation.

FastSAM's network is compared by hand, because its only reference is AGPL-licensed: `benchmarks/yolo_raw_outputs.py`
(ultralytics 8.4.190, random weights, 256 x 320, sizes s and x, reg_max 16, 20 and 26) gave equal scores, coefficients
and prototypes, boxes within 7.2e-7, and the deploy form within 1.8e-12 in float64.
"""


def record(row):
    """Append a row to the file that $SAMLET_PARITY_TABLE names."""
    path = os.environ.get("SAMLET_PARITY_TABLE")
    missing = {"part", "name"} - row.keys()
    if missing:
        raise ValueError(f"expected a row with part and name, got {sorted(row)}; add them")
    if path:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def report(lines):
    """Turn the lines that `record` wrote into Markdown."""
    parts = {}
    for row in map(json.loads, lines):
        parts.setdefault(row.pop("part"), {}).setdefault(row.pop("name"), []).append(row)
    text = [HEAD]
    for part, names in parts.items():
        columns = list(dict.fromkeys(key for rows in names.values() for row in rows for key in row))
        text += [
            f"## {part}\n",
            f"| case | number | {' | '.join(columns)} |",
            "|---|---" + "|---" * len(columns) + "|",
        ]
        for name, rows in names.items():
            cells = [_cell(column, [row[column] for row in rows if column in row]) for column in columns]
            text.append(f"| {name} | {len(rows)} | {' | '.join(cells)} |")
        text.append("")
    return "\n".join(text)


def _cell(column, values):
    if not values:
        return ""
    if column.startswith("sum"):
        return f"{sum(values):,}"
    return f"{min(values):.6f}" if column.startswith("min") else f"{max(values):.2g}"


if __name__ == "__main__":
    print(report(Path(sys.argv[1]).read_text("utf-8").splitlines()), end="")
