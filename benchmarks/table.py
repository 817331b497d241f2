"""
The table: a row for each measurement, a column for each rival.
"""

from __future__ import annotations

from statistics import median, quantiles
from typing import NamedTuple, Optional


class Row(NamedTuple):
    """
    A measurement: each rival's values, one for each round.
    """

    title: str
    unit: str
    form: str
    values: dict[str, list[float]]

    @property
    def moreIsBetter(self) -> bool:
        """
        Is it a rate?
        """
        return self.unit in ("1/s", "MB/s")

    def ratio(self, name: str, first: str) -> Optional[float]:
        """
        The median of the ratios to C{first} in the same round.
        """
        pairs = zip(self.values.get(name, ()), self.values.get(first, ()))
        ratios = [mine / its for mine, its in pairs if its]
        return median(ratios) if ratios and self.unit else None

    def cell(self, name: str, first: str) -> str:
        """
        The median, the ratio to C{first}, and the spread.
        """
        values = self.values.get(name)
        if not values:
            return "-"
        text = format(median(values), self.form)
        ratio = self.ratio(name, first)
        if ratio is not None:
            text += f" ({ratio:.2f})"
        return text + (f" ±{spread(values):.0%}" if len(values) > 2 else "")


def spread(values: list[float]) -> float:
    """
    Half the distance between the quartiles, as a part of the median.
    """
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle if middle else 0.0


def behind(rows: list[Row], name: str, first: str, margin: float) -> list[str]:
    """
    Where C{name} is behind C{first} by more than C{margin}, and how much.
    """
    found = []
    for row in rows:
        ratio = row.ratio(name, first)
        if ratio is None:
            continue
        if ratio < 1 - margin if row.moreIsBetter else ratio > 1 + margin:
            found.append(f"{row.title}, {row.unit} ({ratio:.2f})")
    return found


def compared(rows: list[Row], name: str, other: str) -> list[str]:
    """
    C{name}, as a ratio to C{other}, where both were measured.
    """
    ratios = [(row, row.ratio(name, other)) for row in rows]
    return [
        f"{name} to {other}, {row.title}, {row.unit}: {ratio:.2f}."
        for row, ratio in ratios
        if ratio is not None
    ]


def cells(rows: list[Row], names: tuple[str, ...]) -> list[list[str]]:
    """
    The table, with its header.
    """
    table = [["", "", *names]]
    for row in rows:
        table.append(
            [row.title, row.unit, *(row.cell(name, names[0]) for name in names)]
        )
    return table


def text(table: list[list[str]]) -> str:
    """
    For a terminal.
    """
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for row in table:
        padded = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def rst(title: str, table: list[list[str]]) -> str:
    """
    For the documentation.
    """
    lines = [f".. csv-table:: {title}", "   :header-rows: 1", "   :stub-columns: 1", ""]
    for row in table:
        quoted = ('"' + cell.replace('"', '""') + '"' for cell in row)
        lines.append("   " + ", ".join(quoted))
    return "\n".join([*lines, ""])
