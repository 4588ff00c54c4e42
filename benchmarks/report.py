"""Tables and plots from results.json: python -m benchmarks.report docs/benchmarks makes them anew."""

import json
import sys
from collections import defaultdict
from pathlib import Path

ALL = {"encoder", "decoder", "batch", "many", "thousand", "everything", "start", "sizes", "install"}
FEW, GRIDS = (1, 10, 100), ((256, 16), (1024, 32))
INK = {"mobile_sam (torch)": "#b3452c", "ultralytics (torch)": "#d98b3a", "samexporter's files (onnx)": "#8a7f3f",
       "samlet (onnx)": "#1f6f8b", "samlet (openvino)": "#3fa37a", "samlet nano": "#5b4b8a"}  # fmt: skip


def write(folder):
    """Write README.md and the plots beside results.json."""
    rows = json.loads((folder / "results.json").read_text("utf-8"))
    table = defaultdict(dict)
    for row in rows:
        if row["value"] is not None:
            table[row["what"]][row["who"]] = row
    names = list(
        dict.fromkeys(row["who"] for row in rows if row["value"] is not None and row["part"] != "install")
    )
    text = [
        _head(rows),
        _overview(table, names),
        _prompts(table, names),
        _fastsam(table, names),
        _v2(table, names),
    ]
    text += [_plain(table, names, title, words) for title, words in (
        ("Many prompts at a time, ms a prompt", "at a time"),
        ("Everything mode, grids of clicks", "grid"),
        ("From a JPEG file to a mask, by megapixels", "Mpixel"),
    )]  # fmt: skip
    text += [_install(rows), _missing(rows)]
    plots = _plots(folder, table, names)
    text += [f"![{title}]({name})\n" for name, title in plots]
    (folder / "README.md").write_text("\n".join(part for part in text if part), "utf-8")


def cell(row, *, factor=1.0, about=False):
    """Median and spread; a figure that was reckoned says so."""
    if row is None:
        return ""
    value = row["value"] * factor
    text = f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
    if about:
        return f"≈ {text}"
    if row["rounds"] > 1:
        low, high = row["low"] * factor, row["high"] * factor
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        text += f" ({low:,.{digits}f} to {high:,.{digits}f})"
    return text


def _grid(title, columns, lines, note=""):
    body = [f"## {title}\n", f"| | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
    body += [f"| {name} | {' | '.join(cells)} |" for name, cells in lines if any(cells)]
    return "\n".join([*body, "", note, ""] if note else [*body, ""])


def _head(rows):
    seen = sorted({(row["commit"], row["date"], row["machine"]) for row in rows})
    left = sorted(ALL - {row["part"] for row in rows})
    absent = f" Parts that were not run: {', '.join(left)}." if left else ""
    where = "; ".join(f"commit {commit}, {date}, {machine}" for commit, date, machine in seen)
    return f"""# samlet beside its peers

Written by `python -m benchmarks.run --photo samples/coffee.jpg --out docs/benchmarks` (parts can be run one by one; the
command's `--help` says how). All use MobileSAM's network with the same random weights, except `samlet nano`; the same
pictures, clicks and number of threads; and they take turns, each in a process of its own. Figures are medians with the
range of the rounds in brackets, where there was more than one. A click's time ends with its mask at picture size.
`samlet (openvino)` encodes on OpenVINO and decodes on ONNX Runtime, as it always does.
Measured: {where}. No GPU was at hand: `--device cuda` has not been run.{absent}
"""


def _overview(table, names):
    columns = {
        "embed 1024 x 1024, ms": "embed 1024 x 1024",
        "embed 1280 x 720, ms": "embed 1280 x 720",
        "one click, ms": "1 clicks, each",
        "64 clicks, ms each": "64 clicks, each",
        "start to mask file, s": "process start to mask file",
        "its peak memory, MiB": "peak memory, one click",
    }
    lines = [(name, [cell(table[what].get(name)) for what in columns.values()]) for name in names]
    return _grid("One picture", list(columns), lines)


def _prompts(table, names):
    counts = [(count, "clicks") for count in (1, 10, 64, 100, 256)] + [(320, "boxes"), (1024, "clicks")]
    columns = [f"{count} {kind}" for count, kind in counts]
    lines = [
        (name, [cell(table[f"{column}, each"].get(name)) for column in columns])
        for name in names
        if "exact" not in name
    ]
    return _grid("Cost of a prompt by their number, ms each", columns, lines)


def _fastsam(table, names):
    """FastSAM paper, table 1: embedding and prompts together; E is a grid of 16, 32 or 64 clicks each way."""
    lines = []
    for name in names:
        embed = table["embed 1280 x 720"].get(name)
        cells = []
        for count in FEW:
            each = table[f"{count} clicks, each"].get(name)
            cells.append(f"{embed['value'] + count * each['value']:,.0f}" if embed and each else "")
        for count, _ in GRIDS:
            each = table[f"{count} clicks, each"].get(name)
            cells.append(f"{embed['value'] + count * each['value']:,.0f}" if embed and each else "")
        each = table["1024 clicks, each"].get(name)
        cells.append(f"≈ {embed['value'] + 4096 * each['value']:,.0f}" if embed and each else "")
        lines.append((name, cells))
    note = (
        "Sums of the measured embedding (1280 x 720) and of as many measured clicks, each made into a mask of picture "
        "size, without the filters of everything mode; E64 is reckoned from the cost of a click in E32 and was not run."
    )
    return _grid(
        "FastSAM's table 1: embedding and N prompts, ms", ["1", "10", "100", "E16", "E32", "E64"], lines, note
    )


def _v2(table, names):
    """MobileSAMv2 paper, table 2: prompts and mask decoding, without the encoder."""
    lines = []
    for name in names:
        grid, boxes = table["1024 clicks, each"].get(name), table["320 boxes, each"].get(name)
        cells = [
            cell(grid and {**grid, "rounds": 1}, factor=1024),
            cell(grid, factor=4096, about=True),
            cell(boxes and {**boxes, "rounds": 1}, factor=320),
        ]
        lines.append((name, cells))
    columns = ["grid 32 x 32", "grid 64 x 64", "object-aware, 320 boxes"]
    note = "The grid of 64 is reckoned from the cost of a click in the grid of 32; finding the boxes is not in it."
    return _grid("MobileSAMv2's table 2: decoding the prompts, ms", columns, lines, note)


def _plain(table, names, title, words):
    """A table whose lines are what was measured, for those that took part."""
    lines = [what for what in table if words in what]
    there = [name for name in names if any(name in table[what] for what in lines)]
    if not there:
        return ""
    body = []
    for what in lines:
        unit = next(iter(table[what].values()))["unit"]
        cells = []
        for name in there:
            row = table[what].get(name)
            cells.append(cell(row) + (f", {row['note']}" if row and row["note"] else ""))
        body.append((f"{what}, {unit}", cells))
    return _grid(title, there, body)


def _install(rows):
    found = [row for row in rows if row["part"] == "install" and row["value"] is not None]
    if not found:
        return ""
    lines = [(row["who"], [f"{row['value']:,.0f}", row["note"]]) for row in found]
    return _grid("Installed size, MB, without bytecode", ["MB", ""], lines)


def _missing(rows):
    notes = dict.fromkeys(f"- {row['who']}: {row['note']}" for row in rows if row["value"] is None)
    return "\n".join(["## Who did not take part\n", *notes, ""]) if notes else ""


def _plots(folder, table, names):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "samlet"
    from matplotlib import pyplot

    plots = []
    counts = (1, 10, 64, 100, 256, 1024)
    pairs = [
        ("prompts.svg", "Cost of a click by the number of clicks", "clicks", "ms a click",
         {count: f"{count} clicks, each" for count in counts}),
        ("sizes.svg", "From a JPEG file to one click's mask", "megapixels", "ms",
         {size: f"file of {size} Mpixel to mask" for size in (0.3, 1, 3, 12, 50)}),
    ]  # fmt: skip
    for file_name, title, x_label, y_label, points in pairs:
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for name in names:
            line = [(x, table[what][name]["value"]) for x, what in points.items() if name in table[what]]
            if len(line) > 1:
                axes.plot(*zip(*line, strict=True), marker="o", label=name, color=INK.get(name))
        if not axes.lines:
            pyplot.close(figure)
            continue
        axes.set(title=title, xlabel=x_label, ylabel=y_label, xscale="log", yscale="log")
        ticks = [x for x, what in points.items() if table[what]]
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if str(value).lstrip("0.")[:1] in "25" else ""
        )
        axes.tick_params(axis="y", which="minor", labelsize="small")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small")
        figure.savefig(folder / file_name, metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
        plots.append((file_name, title))
    return plots


if __name__ == "__main__":
    write(Path(sys.argv[1]))
