"""
The plots, as SVG.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median, quantiles
from typing import Any

from table import Row

# Okabe and Ito's colours, which those with a colour vision deficiency can
# tell apart; the markers differ too.
_COLOURS = ("#000000", "#999999", "#e69f00", "#f0e442", "#d55e00", "#56b4e9")
_COLOURS += ("#0072b2", "#009e73", "#cc79a7")
_MARKERS = "osvh*^DPX"


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and the same numbers make the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks"})
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path, title: str, description: str) -> None:
    figure.savefig(
        path,
        metadata={"Title": title, "Description": description, "Date": None},
        facecolor="white",
        bbox_inches="tight",
    )
    lines = (line.rstrip() for line in path.read_text().splitlines())
    path.write_text("\n".join(lines) + "\n")


def bars(rows: list[Row], names: tuple[str, ...], path: Path) -> None:
    """
    One panel for each row, one bar for each rival.
    """
    pyplot = _pyplot()
    figure, panels = pyplot.subplots(
        -(-len(rows) // 3), 3, figsize=(12, 2.8 * -(-len(rows) // 3)), squeeze=False
    )
    for panel in panels.flat[len(rows) :]:
        panel.remove()
    for row, panel in zip(rows, panels.flat):
        shown = [name for name in names if row.values.get(name)]
        heights = [median(row.values[name]) for name in shown]
        errors = []
        for name, height in zip(shown, heights):
            some = row.values[name]
            low, _, high = quantiles(some, n=4) if len(some) > 2 else (height,) * 3
            errors.append((max(0, height - low), max(0, high - height)))
        panel.barh(
            shown,
            heights,
            xerr=list(zip(*errors)),
            color=[_COLOURS[names.index(name)] for name in shown],
            error_kw={"elinewidth": 1, "ecolor": "#444444"},
        )
        panel.invert_yaxis()
        better = "more" if row.moreIsBetter else "less"
        panel.set_title(f"{row.title}, {row.unit}\n({better} is better)", fontsize=10)
    figure.tight_layout()
    title = "Rates, CPU time and memory of each rival"
    _save(figure, path, title, f"{title}, medians with their quartiles.")
    pyplot.close(figure)


def lines(
    medians: dict[str, list[tuple[int, float]]], names: tuple[str, ...], path: Path
) -> None:
    """
    Seconds of a drain over the number of connections.
    """
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(7, 5))
    for name, points in medians.items():
        index = names.index(name)
        panel.loglog(
            *zip(*points),
            color=_COLOURS[index],
            marker=_MARKERS[index],
            linewidth=2.5 if name == "twisted_term" else 1.2,
            label=name,
        )
    panel.set_xlabel("idle keep-alive connections")
    panel.set_ylabel("seconds until the last client sees FIN")
    title = "Time to drain idle connections"
    panel.set_title(title)
    panel.grid(True, which="both", color="#dddddd")
    panel.legend()
    _save(figure, path, title, f"{title}, on logarithmic axes.")
    pyplot.close(figure)
