"""The comparison as tables, Markdown, JSON and a sheet of masks side by side."""

import io
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet import drawing
from samlet.compare.measure import BOUNDARY_F, BOUNDARY_IOU, FEW, SLOW_MS, Cost, Scores, Times, labels_of
from samlet.compare.questions import BOX_WORDS, CLICK_WORDS, PAIR_WORDS
from samlet.evaluate.contours import BAND_SHARE, WITHIN
from samlet.evaluate.metrics import summarise
from samlet.image import Image
from samlet.prompt import Prompt

if TYPE_CHECKING:
    from rich.table import Table

_CELL = 360
_BLANK = (238, 238, 240)
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was found.

    Attributes:
        picture: Name of the picture's file.
        image: The picture.
        prompt: What every model was asked about it.
        costs: One a model.
        scores: Against people's masks and the reference's, possibly none.
        command: The command line that measures the same again.
        version: Version of samlet.
        threads: Threads of each model as asked for; None if the runtime decided.
    """

    picture: str
    image: Image
    prompt: Prompt
    costs: Sequence[Cost]
    scores: Sequence[Scores]
    command: str
    version: str
    threads: int | None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of everything mode that some model ran, in order."""
        return tuple(dict.fromkeys(kind for cost in self.costs for kind in cost.everything))


Grid = tuple[str, list[str], list[list[str]]]
"""A table: its title, its head, and its rows with their titles first."""


def grids(found: Comparison, *, ranges: bool = True) -> list[Grid]:
    """Give every table as texts.

    Args:
        found: What was measured.
        ranges: Whether medians come with the range of the rounds; a terminal has no room for them.

    Returns:
        The costs, then one table for each of the scores that has figures.
    """
    scored = [_scored(scores, labels_of(found.costs)) for scores in found.scores if scores.figures]
    return [_costs(found, ranges), *scored]


def remarks(found: Comparison) -> list[str]:
    """Say what a reader must know beside the tables, sentence by sentence."""
    height, width = found.image.hw
    threads = "as many threads as the runtime takes" if found.threads is None else f"{found.threads} threads"
    rounds = max(len(cost.encoder.ms) for cost in found.costs)
    lines = [
        f"{found.picture}, {width} x {height} pixels; {_machine()}; samlet {found.version}, {threads}.",
        f"encoder: preparing and encoding the picture. decoder: answering {_asked(found.prompt)}, the mask made at the "
        f"picture's size. Medians of {rounds} round{'s' * (rounds > 1)} in which the models take turns, after one that "
        f"does not count; an encoder of more than {SLOW_MS / 1000:g} s is timed {FEW} times, the first included.",
        "everything: one run each, with the median time of the encoder; the number of masks in brackets; objects takes "
        "nano's object head where a model has none. memory: peak resident memory of the model's own process, runtime, "
        "Python and that head included.",
    ]
    lines += [
        f"{cost.contestant.label} chooses among regions that its one network finds: that network is the encoder, and "
        "decoder is making the regions' masks and choosing."
        for cost in found.costs
        if cost.contestant.finds_regions
    ]
    unknown = [cost.contestant.label for cost in found.costs if not cost.contestant.facts["published"]]
    if unknown:
        lines.append(
            f"Weights that nobody published: {', '.join(unknown)}. If nobody trained them either, their times and "
            "sizes mean something, their masks and what these score mean nothing."
        )
    if found.scores:
        lines.append(
            f"click: {CLICK_WORDS}. box: {BOX_WORDS}. two clicks: {PAIR_WORDS}. Single masks, means over objects with "
            f"the number of objects; {BOUNDARY_IOU} takes a band of {BAND_SHARE:.0%} of the diagonal, {BOUNDARY_F} "
            f"edges within {WITHIN} pixels."
        )
    for scores in found.scores:
        lines.append(f"{scores.title}: {scores.words} Pictures: {scores.seen}, left out: {scores.skipped}.")
        lines += [
            f"{scores.title}: {entry.name} could not be used: {entry.reason}" for entry in scores.broken
        ]
    return lines


def to_dict(found: Comparison) -> dict[str, Any]:
    """Give the whole comparison as plain lists, dicts, texts and numbers."""
    height, width = found.image.hw
    return {
        "samlet": found.version,
        "command": found.command,
        "machine": _machine(),
        "picture": {"name": found.picture, "width": width, "height": height},
        "prompt": {name: _listed(getattr(found.prompt, name)) for name in ("points", "labels", "boxes")},
        "threads": found.threads,
        "models": [_cost_dict(cost) for cost in found.costs],
        "scores": [_scores_dict(scores) for scores in found.scores],
    }  # fmt: skip


def to_markdown(found: Comparison, *, sheet: str | None = None) -> str:
    """Give the comparison as Markdown.

    Args:
        found: What was measured.
        sheet: Name of the picture with the masks, if it lies beside.
    """
    lines = [f"# {', '.join(labels_of(found.costs))} on {found.picture}", ""]
    for title, head, rows in grids(found):
        lines += [f"## {title}", "", "| " + " | ".join(map(_escaped, head)) + " |"]
        lines.append("|---|" + "---:|" * (len(head) - 1))
        lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
        lines.append("")
    if sheet is not None:
        lines += [f"![masks side by side]({sheet})", ""]
    lines += [f"- {remark}" for remark in remarks(found)]
    lines += ["", "Measured by:", "", f"    {found.command}", ""]
    return "\n".join(lines)


def to_tables(found: Comparison) -> "list[Table]":
    """Give rich tables."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    tables = []
    for title, head, rows in grids(found, ranges=False):
        table = Table(
            title=escape(title), box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False
        )
        for number, name in enumerate(head):
            table.add_column(escape(name), justify="left" if number == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        tables.append(table)
    return tables


def sheet_png(found: Comparison) -> bytes:
    """Draw every model's masks side by side: a row for the prompt, then rows for its kinds of everything mode."""
    cells: list[PillowImage.Image] = []
    captions: list[str] = []
    for cost in found.costs:
        cells.append(drawing.overlay(found.image, cost.answer.masks(), prompt=found.prompt))
        captions.append(f"{cost.contestant.label}: {_asked(found.prompt)}, {_ms(cost.decoder.median)}")
    for row in range(max(len(cost.everything) for cost in found.costs)):
        for cost in found.costs:
            if row < len(cost.everything):
                kind, reply = list(cost.everything.items())[row]
                cells.append(drawing.overlay(found.image, reply.masks()))
                captions.append(f"{cost.contestant.label}: {kind}, {len(reply)} masks, {_seconds(reply.ms)}")
            else:
                cells.append(PillowImage.new("RGB", (found.image.width, found.image.height), _BLANK))
                captions.append("")
    sheet = drawing.contact_sheet(cells, len(found.costs), captions, cell=_CELL)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _costs(found: Comparison, ranges: bool) -> Grid:
    costs, times = found.costs, _range if ranges else _middle
    facts = [cost.contestant.facts for cost in costs]
    rows = [
        [f"parameters, {part}", *(_millions(one["parameters"][part]) for one in facts)]
        for part in ("encoder", "decoder", "all")
    ]
    rows.append(["file", *(f"{one['bytes'] / 1e6:,.1f} MB" for one in facts)])
    rows.append(["encoder", *(times(cost.encoder) for cost in costs)])
    rows.append(["decoder", *(times(cost.decoder) for cost in costs)])
    for kind in found.kinds:
        replies = [cost.everything.get(kind) for cost in costs]
        rows.append(
            [
                f"everything, {kind}",
                *(_NONE if one is None else f"{_seconds(one.ms)} ({len(one)})" for one in replies),
            ]
        )
    for what, title in (("prompt", "memory, one prompt"), ("everything", "memory, everything")):
        if what == "prompt" or found.kinds:
            rows.append([title, *(_mib(cost.memory.get(what)) for cost in costs)])
    return "cost on this machine", ["", *labels_of(costs)], rows


def _scored(scores: Scores, names: Sequence[str]) -> Grid:
    rows = []
    for figure in scores.figures:
        count = len(scores.pictures[figure])
        cells = []
        for name in names:
            values = scores.values.get(name, {}).get(figure, [])
            cells.append(f"{sum(values) / len(values):.3f}" if values else _NONE)
        rows.append([figure, *cells, f"{count}"])
    return scores.title, ["mean IoU unless said otherwise", *names, "objects"], rows


def _cost_dict(cost: Cost) -> dict[str, Any]:
    facts = cost.contestant.facts
    return {
        "model": cost.contestant.words,
        "label": cost.contestant.label,
        "card": {key: facts[key] for key in ("name", "title", "family", "digest", "published")},
        "parameters": facts["parameters"],
        "bytes": facts["bytes"],
        "load_ms": round(facts["load_ms"], 2),
        "encoder_ms": {"median": round(cost.encoder.median, 3), "rounds": [round(ms, 3) for ms in cost.encoder.ms]},
        "decoder_ms": {"median": round(cost.decoder.median, 3), "rounds": [round(ms, 3) for ms in cost.decoder.ms]},
        "answer": {"masks": list(cost.answer.rles), "scores": list(cost.answer.scores)},
        "everything": {
            kind: {"ms": round(reply.ms, 3), "masks": list(reply.rles), "scores": list(reply.scores)}
            for kind, reply in cost.everything.items()
        },
        "peak_memory_mib": {what: None if mib is None else round(mib, 1) for what, mib in cost.memory.items()},
    }  # fmt: skip


def _scores_dict(scores: Scores) -> dict[str, Any]:
    figures = []
    for figure in scores.figures:
        for label, values in scores.values.items():
            summary = summarise(values.get(figure, []), scores.pictures[figure])
            if summary is not None:
                figures.append(
                    {
                        "figure": figure,
                        "model": label,
                        "mean": summary.mean,
                        "median": summary.median,
                        "interval_95": [summary.low, summary.high],
                        "objects": summary.objects,
                    }
                )
    return {
        "title": scores.title,
        "words": scores.words,
        "pictures": scores.seen,
        "skipped_objects": scores.skipped,
        "broken": [{"name": entry.name, "reason": entry.reason} for entry in scores.broken],
        "figures": figures,
    }


def _listed(part: NDArray[Any] | None) -> list[Any] | None:
    return None if part is None else list(part.tolist())


def _asked(prompt: Prompt) -> str:
    """Say in words what was asked."""
    parts = []
    if prompt.points is not None and prompt.points.size:
        count = prompt.points.shape[1]
        parts.append("a click" if count == 1 else f"{count} clicks")
    if prompt.boxes is not None:
        parts.append("a box" if len(prompt.boxes) == 1 else f"{len(prompt.boxes)} boxes")
    return " and ".join(parts)


def _machine() -> str:
    name = platform.processor() or platform.machine() or "an unknown processor"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        pass
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _range(times: Times) -> str:
    return f"{_ms(times.median)} ({_number(min(times.ms))} to {_number(max(times.ms))})"


def _middle(times: Times) -> str:
    return _ms(times.median)


def _ms(value: float) -> str:
    return f"{_number(value)} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _seconds(ms: float) -> str:
    return f"{ms / 1000:,.2f} s"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M" if count else "none"


def _mib(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.0f} MiB"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
