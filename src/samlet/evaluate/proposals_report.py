"""Reports of the proposal protocol: tables for each set and a comparison of finders, for people and as JSON."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.evaluate.finders import STEPS
from samlet.evaluate.proposals import (
    AR_WORDS,
    AREAS,
    AT,
    TIME_WORDS,
    TRUTH_WORDS,
    VOID_WORDS,
    FinderResult,
    PictureResult,
    ProposalResult,
    interval,
)
from samlet.evaluate.report import Run
from samlet.evaluate.sheets import NONE, Report, Section, Sheet

WORDS = (AR_WORDS, VOID_WORDS, TRUTH_WORDS, TIME_WORDS)


def sheets(result: ProposalResult) -> list[Sheet]:
    """Make the tables of a set: recall by kind, time, and each finder against the first."""
    kinds = dict.fromkeys(kind for one in result.finders for kind in one.kinds)
    made = [_recall(result, kind) for kind in kinds]
    if any(one.pictures for one in result.finders):
        made.append(_costs(result))
        if len(result.finders) > 1:
            made.append(_comparison(result, "mask"))
    return made


def _recall(result: ProposalResult, kind: str) -> Sheet:
    rows = []
    for column, at in (*enumerate(AT), (None, "mean")):
        for one in result.finders:
            recall, ends = np.full(len(AREAS), np.nan), None
            if kind in one.kinds and column is None:
                recall = one.tally(kind).recall.mean(axis=1)
            elif kind in one.kinds and column is not None:
                recall, ends = one.tally(kind).recall[:, column], interval(*_by_picture(one, kind, column))
            whole, *parts = (_percent(value) for value in recall.tolist())
            sure = f"{_percent(ends[0])} - {_percent(ends[1])}" if ends else NONE
            rows.append((one.finder.name, str(at), whole, sure, *parts))
    headers = ("finder", "K", "all", "95 % interval", *(area for area in AREAS if area != "all"))
    return Sheet(f"{kind} AR@K in percent", headers, tuple(rows))


def _costs(result: ProposalResult) -> Sheet:
    rows = []
    for one in result.finders:
        counts = (one.mean(lambda picture: picture.timing.asked), one.mean(lambda picture: picture.proposals))
        for time in _TIMES:
            seconds = [one.mean(_seconds(time, step)) for step in _SPLIT]
            rows.append(
                (
                    one.finder.name,
                    *(NONE if value is None else f"{value:.0f}" for value in counts),
                    _TIMES[time],
                    *(NONE if value is None else f"{value:.3f}" for value in seconds),
                )
            )
    headers = ("finder", "asked", "masks", "time", *_SPLIT)
    return Sheet("a picture: prompts asked, masks proposed, seconds by step", headers, tuple(rows))


def _comparison(result: ProposalResult, kind: str) -> Sheet:
    first, *others = result.finders
    rows = []
    for one in others:
        for at, gain in zip(AT, gains(first, one, kind), strict=True):
            points = f"{100 * gain['mean']:+.1f}" if gain else NONE
            sure = f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}" if gain else NONE
            rows.append((one.finder.name, f"{kind} AR@{at}, points", points, sure))
        for step, time in product(("decoder", "total"), _TIMES):
            ours, theirs = one.mean(_seconds(time, step)), first.mean(_seconds(time, step))
            share = f"{ours / theirs:.3f}" if ours is not None and theirs else NONE
            rows.append((one.finder.name, f"{step} seconds ({_TIMES[time]}), share", share, ""))
    headers = ("finder", "figure", "difference", "95 % interval")
    return Sheet(f"compared with {first.finder.name}, picture by picture", headers, tuple(rows))


def gains(first: FinderResult, other: FinderResult, kind: str) -> list[dict[str, float] | None]:
    """Give how much another finder's recall lies above the first's, for each of `AT`, over all areas.

    Returns:
        {"mean", "low", "high"}, 0..1, the ends being the 95 % interval of the difference: both finders saw the same
        pictures, so a bootstrap that draws pictures for both at once is narrower than the two intervals are. None
        where there is no object or one of them has no such kind.
    """
    if kind not in first.kinds or kind not in other.kinds:
        return [None] * len(AT)
    found: list[dict[str, float] | None] = []
    for column in range(len(AT)):
        (ours, truths), (theirs, _) = _by_picture(other, kind, column), _by_picture(first, kind, column)
        ends = interval(ours - theirs, truths)
        mean = float((ours - theirs).sum() / max(int(truths.sum()), 1))
        found.append(ends and {"mean": mean, "low": ends[0], "high": ends[1]})
    return found


def _by_picture(one: FinderResult, kind: str, column: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    tallies = [picture.tallies[kind] for picture in one.pictures]
    return (
        np.array([tally.hits[0, column] for tally in tallies], np.float64),
        np.array([tally.truths[0] for tally in tallies], np.int64),
    )


def remarks(result: ProposalResult) -> list[str]:
    """Give what a reader of the tables must know beside them."""
    several = f" in {result.segmentations} segmentations" if result.segmentations != result.pictures else ""
    lines = [f"{result.truths} objects{several} of {result.pictures} pictures."]
    if result.peak_mib is not None:
        lines.append(f"Largest memory of the process, all finders together: {result.peak_mib:.0f} MiB.")
    if result.empty:
        lines.append(f"{result.empty} pictures have no object and were not looked at.")
    if result.broken:
        lines.append(f"{len(result.broken)} pictures or marks could not be used:")
        lines += [f"{entry.name}: {entry.reason}" for entry in result.broken]
    return lines


def report(run: Run, results: Sequence[ProposalResult]) -> Report:
    """Make the report; in its fields recall is 0..1, None without objects.

    Args:
        run: What was run.
        results: One result for each set.
    """
    sections = [
        Section(result.dataset.name, sheets(result), remarks(result), _set_dict(result)) for result in results
    ]
    return Report(run, "proposals", sections, WORDS, _finder_words(results))


def _set_dict(result: ProposalResult) -> dict[str, Any]:
    first = result.finders[0]
    return {
        "name": result.dataset.name,
        "path": str(result.dataset.root),
        "pictures": result.pictures,
        "segmentations": result.segmentations,
        "objects": result.truths,
        "pictures_without_objects": result.empty,
        "broken": [{"name": entry.name, "reason": entry.reason} for entry in result.broken],
        "peak_mib": result.peak_mib and round(result.peak_mib, 1),
        "finders": [_finder_dict(one, first) for one in result.finders],
    }


def _finder_dict(one: FinderResult, first: FinderResult) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": one.finder.name,
        "protocol": one.finder.words,
        "recall": {kind: _recall_dict(one, kind) for kind in one.kinds},
        "prompts": one.mean(lambda picture: picture.timing.asked),
        "proposals": one.mean(lambda picture: picture.proposals),
        **{name: {step: one.mean(_seconds(time, step)) for step in _SPLIT} for time, name in _FIELDS.items()},
    }
    if one is not first:
        fields["against"] = first.finder.name
        fields["gain"] = {
            kind: dict(zip(map(str, AT), gains(first, one, kind), strict=True)) for kind in one.kinds
        }
    fields["results"] = [
        {
            "picture": picture.name,
            "prompts": picture.timing.asked,
            "proposals": picture.proposals,
            **{
                name: {step: round(_seconds(time, step)(picture), 4) for step in _SPLIT}
                for time, name in _FIELDS.items()
            },
            "found": {kind: tally.hits.round(6).tolist() for kind, tally in picture.tallies.items()},
            "objects": next(iter(picture.tallies.values())).truths.tolist(),
        }
        for picture in one.pictures
    ]
    return fields


def _recall_dict(one: FinderResult, kind: str) -> dict[str, Any]:
    recall = one.tally(kind).recall
    fields: dict[str, Any] = {
        area: {str(at): _plain(recall[row, column]) for column, at in enumerate(AT)}
        for row, area in enumerate(AREAS)
    }
    for figures in fields.values():
        known = [value for value in figures.values() if value is not None]
        figures["mean"] = float(np.mean(known)) if known else None
    fields["interval_95"] = {
        str(at): interval(*_by_picture(one, kind, column)) for column, at in enumerate(AT)
    }
    return fields


def _finder_words(results: Sequence[ProposalResult]) -> dict[str, str]:
    return {one.finder.name: one.finder.words for result in results for one in result.finders}


def _seconds(time: str, step: str) -> Callable[[PictureResult], float]:
    return lambda picture: float(getattr(getattr(picture.timing, time), step))


_SPLIT = (*STEPS, "total")
_TIMES = {"clock": "clock", "cpu": "processor"}
_FIELDS = {"clock": "seconds", "cpu": "processor_seconds"}


def _percent(value: float) -> str:
    return NONE if np.isnan(value) else f"{100 * value:.1f}"


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
