"""
The table of servers, and its picture: what is made of the reports of
C{term-probe}, without a server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from .probing import benchmark
from .support import once

_SVG = "{http://www.w3.org/2000/svg}"


def case(name: str, *verdicts: str, expected: Any = 9) -> dict[str, Any]:
    """
    What C{--json} says of one.
    """
    rounds = [
        {
            "verdict": verdict,
            "status": None if verdict == "loses data" else 200,
            "received": n,
            "expected": expected,
            "end": "RST",
            "closedFirst": None,
        }
        for n, verdict in enumerate(verdicts)
    ]
    counts = {verdict: verdicts.count(verdict) for verdict in verdicts}
    worst = "loses data" if "loses data" in verdicts else verdicts[0]
    return {"name": name, "verdict": worst, "counts": counts, "rounds": rounds}


def report(verdict: str, *cases: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": verdict, "cases": [*cases]}


def deployed(end: Any, **lost: bool) -> dict[str, Any]:
    cases = {name: [{"lost": False}, {"lost": one}] for name, one in lost.items()}
    return {"rounds": [{"end": end, "cases": cases}]}


CLEAN = report("clean", case("polite", "clean"))
LOSES = report(
    "loses data",
    case("upload", "resets"),
    case("pipeline", "clean", "loses data", "loses data"),
    case("reset", "loses data", expected=None),
)
FOUND = {
    "a<b": {
        "version": "1.2",
        "reports": {
            "HTTP/1.1": LOSES,
            "TLS": CLEAN,
            "HTTP/2": {"error": "one\ntwo"},
            "deploy": deployed("exit status 0", download=True, idle=False, next=True),
        },
    },
    "hung": {
        "version": "3",
        "reports": {"HTTP/1.1": {"error": ""}, "deploy": deployed(None, idle=False)},
    },
    "gone": {"skipped": "gone is not installed"},
}


@once
class TableTests(SynchronousTestCase):
    maxDiff = None

    def rows(self, text: str) -> list[list[list[str]]]:
        """
        The cells of each row of each list-table.
        """
        found: list[list[list[str]]] = []
        for line in text.splitlines():
            if line.startswith(".. list-table::"):
                found.append([])
            elif line.startswith("   * - "):
                found[-1].append([line[7:]])
            elif line.startswith("     - "):
                found[-1][-1].append(line[7:])
        return found

    def test_cells(self) -> None:
        """
        A row for each server, and a cell for each column: the worst verdict first,
        with its cases; an error in its last line; a dash for what it has not.
        """
        probed = benchmark()
        table, _ = self.rows(probed.tables(FOUND))
        self.assertEqual(table[0], ["server", "version", *probed.COLUMNS])
        loses = "loses data: pipeline, reset; resets: upload"
        self.assertEqual(
            table[1:],
            [
                ["a<b", "1.2", loses, "clean", "error: two", "has none"]
                + ["loses data: download, next"],
                ["hung", "3", "error: it says nothing", *["has none"] * 3]
                + ["hangs: the process"],
                ["gone", "skipped: gone is not installed", *["\\-"] * 5],
            ],
        )

    def test_particulars(self) -> None:
        """
        The first of the worst rounds, and how many there were.
        """
        _, particulars = self.rows(benchmark().tables(FOUND))
        self.assertEqual(
            particulars[1:],
            [
                ["a<b", "HTTP/1.1", "pipeline", "2/3", "none", "1 of 9", "RST"]
                + ["nobody"],
                ["a<b", "HTTP/1.1", "reset", "1/1", "none", "0", "RST", "nobody"],
            ],
        )

    def test_nothingLost(self) -> None:
        """
        Then there are no particulars.
        """
        found = {"a": {"version": "1", "reports": {"HTTP/1.1": CLEAN}}}
        self.assertEqual(len(self.rows(benchmark().tables(found))), 1)

    def test_picture(self) -> None:
        """
        A word in each cell, its colour by what the word says, and nothing for a
        server that is not there.
        """
        root = ElementTree.fromstring(benchmark().picture(FOUND))
        cells = [one.get("class") for one in root.iter(f"{_SVG}rect")]
        self.assertEqual(
            cells,
            ["loses", "clean", "other", "none", "loses"]
            + ["other", "none", "none", "none", "other"],
        )
        words = [one.text for one in root.iter(f"{_SVG}text")]
        self.assertEqual(words[: len(benchmark().COLUMNS)], [*benchmark().COLUMNS])
        self.assertEqual(
            words[5:],
            ["a<b", "loses data (2)", "clean", "error (1)", "has none"]
            + ["loses data (2)"]
            + ["hung", "error (1)", *["has none"] * 3, "hangs (1)"],
        )
        width, height = (float(root.get(name, "")) for name in ("width", "height"))
        for one in root.iter(f"{_SVG}rect"):
            x, y = float(one.get("x", "")), float(one.get("y", ""))
            self.assertLessEqual(x + float(one.get("width", "")), width)
            self.assertLessEqual(y + float(one.get("height", "")), height)

    def test_committed(self) -> None:
        """
        What is in the documents: all servers that the command knows, in both.
        """
        probed = benchmark()
        text = Path(probed._DOCUMENT).read_text("utf-8")
        inside = text.partition(probed._BEGIN)[2].partition(probed._END)[0]
        names = [row[0] for row in self.rows(inside)[0][1:]]
        self.assertEqual(names, [server.name for server in probed.SERVERS])
        root = ElementTree.parse(probed._PICTURE).getroot()
        shown = {one.text for one in root.iter(f"{_SVG}text")}
        self.assertLessEqual({*names}, shown)
        self.assertLessEqual({*probed.COLUMNS}, shown)

    def test_document(self) -> None:
        """
        A report survives C{--keep}, which is JSON.
        """
        probed = benchmark()
        again = json.loads(json.dumps(FOUND))
        self.assertEqual(probed.tables(again), probed.tables(FOUND))
