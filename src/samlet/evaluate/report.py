"""Reports of an evaluation: a table for each set, on a terminal, as Markdown, JSON and a page."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.atomic import atomic_write
from samlet.errors import OutputError
from samlet.evaluate.cases import CaseFile
from samlet.evaluate.metrics import Summary, summarise
from samlet.evaluate.protocols import SCORING_WORDS, Column, SetResult

if TYPE_CHECKING:
    from rich.table import Table

_HEADERS = ("answer", "mean", "95 % interval", "median", "failed", "objects", "seconds")
_NOT_RUN = "not run"
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
body{color:#1c1c1e;background:#fff}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}
tr.baseline td{color:#6b6b70}
code{background:#f2f2f4;padding:.1rem .3rem;overflow-wrap:anywhere}
figure{display:inline-block;margin:.5rem;max-width:100%;vertical-align:top}
img{max-width:100%;height:auto}
figcaption{font-size:.85rem;color:#6b6b70}
dt{font-weight:600}
dd{margin:0 0 .5rem 1rem}
@media(prefers-color-scheme:dark){body{color:#eee;background:#1c1c1e}code{background:#2c2c2e}td,th{border-color:#444}}
""".strip()


@dataclass(frozen=True, slots=True)
class Run:
    """What was run; it heads each report.

    Attributes:
        model: Name of the model.
        digest: Digest of the model's card: weights and preprocessing.
        command: The command line that measures the same again.
        version: Version of samlet.
    """

    model: str
    digest: str
    command: str
    version: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; ``summary`` is None if nothing was measured."""

    column: Column
    summary: Summary | None
    failures: int | None
    seconds: float | None

    def cells(self) -> tuple[str, ...]:
        """Give the row as text."""
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        if self.summary is None:
            return (self.column.title, _NOT_RUN, "", "", "", "0", seconds)
        digits = 3 if self.column.unit == "iou" else 2
        return (
            self.column.title,
            f"{self.summary.mean:.{digits}f}",
            f"{self.summary.low:.{digits}f} - {self.summary.high:.{digits}f}",
            f"{self.summary.median:.{digits}f}",
            "" if self.failures is None else str(self.failures),
            str(self.summary.objects),
            seconds,
        )


def rows(result: SetResult) -> list[Row]:
    """Summarise every column of a set; the seconds of a protocol stand in its first row."""
    found, timed = [], set()
    for column in result.plan.columns:
        measured = [entry for entry in result.objects if column.key in entry.values]
        summary = summarise(
            [entry.values[column.key] for entry in measured], [entry.picture for entry in measured]
        )
        failures = None
        if column.unit == "clicks":
            failures = int(sum(entry.values[f"{column.key}_failed"] for entry in measured))
        elif column.key == "grabcut" and result.plan.grabcut:
            failures = result.grabcut_failures
        step = column.protocol
        seconds = None if step in timed else result.seconds.get(step)
        timed.add(step)
        found.append(Row(column, summary, failures, seconds))
    return found


def remarks(result: SetResult) -> list[str]:
    """Give what a reader of the table must know beside it: how much was measured and what was not."""
    embed = result.seconds.get("embed", 0.0)
    lines = [
        f"{len(result.objects)} objects in {result.pictures} pictures; "
        f"{embed:.1f} s for encoding, {sum(result.seconds.values()):.1f} s in all."
    ]
    if result.skipped:
        lines.append(f"{result.skipped} objects skipped: nothing is left of them without the ignored pixels.")
    if result.broken:
        lines.append(f"{len(result.broken)} pictures or marks could not be used:")
        lines += [f"{entry.name}: {entry.reason}" for entry in result.broken]
    return lines


def to_dict(run: Run, results: Sequence[SetResult], *, objects: bool = True) -> dict[str, Any]:
    """Give the whole report as plain lists, dicts, texts and numbers.

    Args:
        run: What was run.
        results: One result for each set.
        objects: Whether to list the figures of each object too.
    """
    return {
        "samlet": run.version,
        "model": {"name": run.model, "digest": run.digest},
        "command": run.command,
        "scoring": SCORING_WORDS,
        "sets": [_set_dict(result, objects) for result in results],
    }


def _set_dict(result: SetResult, objects: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": result.dataset.name,
        "path": str(result.dataset.root),
        "pictures": result.pictures,
        "objects": len(result.objects),
        "skipped_objects": result.skipped,
        "broken": [{"name": entry.name, "reason": entry.reason} for entry in result.broken],
        "seconds": {step: round(seconds, 3) for step, seconds in result.seconds.items()},
        "rows": [_row_dict(row) for row in rows(result)],
    }
    if objects:
        fields["results"] = [
            {"picture": entry.picture, "region": entry.region, "area": entry.area, **entry.values}
            for entry in result.objects
        ]
    return fields


def _row_dict(row: Row) -> dict[str, Any]:
    column, summary = row.column, row.summary
    return {
        "key": column.key,
        "title": column.title,
        "protocol": column.words,
        "unit": column.unit,
        "cap": column.cap or None,
        "baseline": column.baseline,
        "mean": summary and summary.mean,
        "median": summary and summary.median,
        "interval_95": summary and [summary.low, summary.high],
        "objects": summary.objects if summary else 0,
        "failures": row.failures,
    }


def to_markdown(run: Run, results: Sequence[SetResult]) -> str:
    """Give the report as Markdown: a table for each set, then the protocols in words."""
    lines = [f"# {run.model} measured", "", f"Model digest `{run.digest}`, samlet {run.version}.", ""]
    lines += [f"    {run.command}", ""]
    for result in results:
        lines += [f"## {result.dataset.name}", "", "| " + " | ".join(_HEADERS) + " |"]
        lines.append("|---|" + "---:|" * (len(_HEADERS) - 1))
        lines += ["| " + " | ".join(row.cells()) + " |" for row in rows(result)]
        lines += ["", *(f"- {remark}" for remark in remarks(result)), ""]
    lines += ["## Protocols", "", SCORING_WORDS, ""]
    lines += [f"- **{title}**: {words}" for title, words in _protocol_words(results)]
    return "\n".join(lines) + "\n"


def to_tables(results: Sequence[SetResult]) -> list["Table"]:
    """Give a rich table for each set."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    tables = []
    for result in results:
        title, caption = escape(result.dataset.name), escape("\n".join(remarks(result)))
        # Narrow enough for 80 columns: a figure that wraps cannot be read down its column.
        table = Table(
            title=title,
            caption=caption,
            box=box.SIMPLE_HEAD,
            padding=(0, 1),
            collapse_padding=True,
            pad_edge=False,
        )
        for index, header in enumerate(_HEADERS):
            table.add_column(header, justify="right" if index else "left", no_wrap=True)
        for row in rows(result):
            table.add_row(*map(escape, row.cells()), style="dim" if row.column.baseline else None)
        tables.append(table)
    return tables


def to_words(results: Sequence[SetResult]) -> str:
    """Give the protocols in words, one paragraph each, for the terminal."""
    return "\n".join([SCORING_WORDS, *(f"{title}: {words}" for title, words in _protocol_words(results))])


def to_html(run: Run, results: Sequence[SetResult], cases: Sequence[Sequence[CaseFile]]) -> str:
    """Give the report as a page; its pictures are files beside it, and it loads nothing else.

    Args:
        run: What was run.
        results: One result for each set.
        cases: For each set its pictures.
    """
    text = html.escape
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{text(run.model)} measured</title><style>{_STYLE}</style></head><body>",
        f"<h1>{text(run.model)} measured</h1>",
        f"<p>Model digest <code>{text(run.digest)}</code>, samlet {text(run.version)}.</p>",
        f"<p><code>{text(run.command)}</code></p>",
    ]
    for result, files in zip(results, cases, strict=True):
        parts.append(f"<h2>{text(result.dataset.name)}</h2><table><thead><tr>")
        parts += [f"<th>{text(header)}</th>" for header in _HEADERS]
        parts.append("</tr></thead><tbody>")
        for row in rows(result):
            cells = "".join(f"<td>{text(cell)}</td>" for cell in row.cells())
            parts.append(f'<tr class="baseline">{cells}</tr>' if row.column.baseline else f"<tr>{cells}</tr>")
        parts.append("</tbody></table>")
        parts += [f"<p>{text(remark)}</p>" for remark in remarks(result)]
        for file in files:
            parts.append(
                f'<figure><img src="{text(file.name)}" alt="{text(file.caption)}" loading="lazy">'
                f"<figcaption>{text(file.caption)}</figcaption></figure>"
            )
    parts.append(f"<h2>Protocols</h2><p>{text(SCORING_WORDS)}</p><dl>")
    parts += [f"<dt>{text(title)}</dt><dd>{text(words)}</dd>" for title, words in _protocol_words(results)]
    parts.append("</dl></body></html>")
    return "\n".join(parts) + "\n"


def make_folder(folder: Path) -> None:
    """Make the folder of a report if it is missing; worth doing before hours of measuring.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected to write the report into the folder {folder}, but it cannot be made "
            f"({error.strerror}); choose another folder"
        ) from None


def write(
    folder: Path, run: Run, results: Sequence[SetResult], *, cases: Sequence[Sequence[CaseFile]]
) -> list[Path]:
    """Write report.json, report.md, report.html and the pictures; each file appears whole or not at all.

    Args:
        folder: Where to; made if it is missing.
        run: What was run.
        results: One result for each set.
        cases: For each set its pictures.

    Returns:
        The files, the page first.

    Raises:
        OutputError: Something cannot be written.
    """
    make_folder(folder)
    written = [atomic_write(folder / file.name, file.png) for files in cases for file in files]
    texts = {
        "report.html": to_html(run, results, cases),
        "report.md": to_markdown(run, results),
        "report.json": json.dumps(to_dict(run, results), indent=1, ensure_ascii=False) + "\n",
    }
    return [atomic_write(folder / name, text) for name, text in texts.items()] + written


def _protocol_words(results: Sequence[SetResult]) -> list[tuple[str, str]]:
    """List each protocol once, with the titles of the rows that follow it."""
    titles: dict[str, list[str]] = {}
    for result in results:
        for column in result.plan.columns:
            named = titles.setdefault(column.words, [])
            if column.title not in named:
                named.append(column.title)
    return [(", ".join(named), words) for words, named in titles.items()]
