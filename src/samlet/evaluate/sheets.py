"""What every report of a protocol is made of: sheets of figures, remarks, pictures and the protocol in words.

A protocol makes one `Section` for each set; this module puts them on the terminal and into report.md and report.json.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.atomic import atomic_write
from samlet.evaluate.report import Run, make_folder

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

NONE = "-"
"""Stands where there is no figure."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table: the first column is text, the others are figures."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of a report: the name of its file, what it shows, and the PNG."""

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Section:
    """What was measured on one set.

    Attributes:
        name: Of the set.
        sheets: The tables.
        remarks: What a reader of the tables must know beside them.
        fields: The same and more as plain lists, dicts, texts and numbers.
        figures: Pictures.
    """

    name: str
    sheets: Sequence[Sheet]
    remarks: Sequence[str]
    fields: Mapping[str, Any]
    figures: Sequence[Figure] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report.

    Attributes:
        run: What was run.
        noun: What was measured, for the heading: "proposals".
        sections: One for each set.
        words: The protocol, one paragraph each.
        names: What each name in the tables stands for.
    """

    run: Run
    noun: str
    sections: Sequence[Section]
    words: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Give the report as Markdown: the tables of each set, then the protocol in words."""
        run = self.run
        lines = [f"# {run.model}: {self.noun} measured", ""]
        lines += [f"Model digest `{run.digest}`, samlet {run.version}.", "", f"    {run.command}", ""]
        for section in self.sections:
            lines += [f"## {section.name}", ""]
            for sheet in section.sheets:
                lines += [f"{sheet.title[0].upper()}{sheet.title[1:]}:", ""]
                lines.append("| " + " | ".join(sheet.headers) + " |")
                lines.append("|---|" + "---:|" * (len(sheet.headers) - 1))
                lines += ["| " + " | ".join(row) + " |" for row in sheet.rows]
                lines.append("")
            for figure in section.figures:
                lines += [f"![{figure.caption}]({figure.name})", ""]
            lines += [*(f"- {remark}" for remark in section.remarks), ""]
        lines += ["## Protocol", "", *(f"- {words}" for words in self.words)]
        lines += [f"- **{name}**: {words}" for name, words in self.names.items()]
        return "\n".join(lines) + "\n"

    def to_tables(self) -> list["Table | Text"]:
        """Give rich tables for each set, and the remarks below them."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        shown: list[Table | Text] = []
        for section in self.sections:
            for sheet in section.sheets:
                table = Table(
                    title=escape(f"{section.name}: {sheet.title}"),
                    box=box.SIMPLE_HEAD,
                    padding=(0, 1),
                    collapse_padding=True,
                    pad_edge=False,
                )
                for index, header in enumerate(sheet.headers):
                    table.add_column(header, justify="right" if index else "left", no_wrap=not index)
                for row in sheet.rows:
                    table.add_row(*map(escape, row))
                shown.append(table)
            shown.append(Text("\n".join((section.name, *section.remarks)) + "\n"))
        return shown

    def to_words(self) -> str:
        """Give the protocol in words, one paragraph each, for the terminal."""
        return "\n".join([*self.words, *(f"{name}: {words}" for name, words in self.names.items())])

    def to_dict(self, *, results: bool = True) -> dict[str, Any]:
        """Give the whole report as plain lists, dicts, texts and numbers.

        Args:
            results: Whether to list the figures of each picture too, which lie under the key "results".
        """
        sets = [dict(section.fields) for section in self.sections]
        return {
            "samlet": self.run.version,
            "model": {"name": self.run.model, "digest": self.run.digest},
            "command": self.run.command,
            "protocol": list(self.words),
            "sets": sets if results else _without_results(sets),
        }

    def write(self, folder: Path) -> list[Path]:
        """Write report.md, report.json and the pictures; each file appears whole or not at all.

        Args:
            folder: Where to; made if it is missing.

        Returns:
            The files, report.md first.

        Raises:
            OutputError: Something cannot be written.
        """
        make_folder(folder)
        texts = {
            "report.md": self.to_markdown(),
            "report.json": json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n",
        }
        written = [atomic_write(folder / name, text) for name, text in texts.items()]
        figures = [figure for section in self.sections for figure in section.figures]
        return written + [atomic_write(folder / figure.name, figure.png) for figure in figures]


def _without_results(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_results(one) for key, one in value.items() if key != "results"}
    return [_without_results(one) for one in value] if isinstance(value, list) else value
