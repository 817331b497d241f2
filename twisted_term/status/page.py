"""
The status page as HTML.  Everything that comes from outside is escaped here.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime, timezone
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from weakref import WeakKeyDictionary

from .._addresses import addressText
from ..connection.report import Initiator, Outcome
from .monitor import Ended, Monitor

_HTML = files(__package__).joinpath("status.html").read_text("utf-8")
_TEMPLATE = Template(_HTML)


def _hash(element: str) -> str:
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", _HTML, re.DOTALL)
    return "'sha256-" + b64encode(sha256(text.encode()).digest()).decode() + "'"


#: What the page may do (W3C, Content Security Policy Level 3): its own style
#: and script, and requests to where it comes from.
POLICY = (
    f"default-src 'none'; style-src {_hash('style')}; script-src {_hash('script')};"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


def counts(monitor: Monitor) -> dict[str, int]:
    """
    The numbers of the page, by the ids of their cells.
    """
    states = monitor.states()
    found = {f"state-{state.name}": count for state, count in states.items()}
    found["connections"] = sum(states.values())
    for outcome in Outcome:
        for initiator in Initiator:
            name = f"{outcome.name}-{initiator.name}"
            found[name] = monitor.ended[outcome, initiator]
    for initiator in Initiator:
        found[f"ended-{initiator.name}"] = sum(
            monitor.ended[outcome, initiator] for outcome in Outcome
        )
    found["undelivered"] = monitor.undelivered
    found["unacknowledged"] = monitor.bytesUnacknowledged
    found["discarded"] = monitor.bytesDiscarded
    found["dropped"] = monitor.writesDropped
    return found


def summary(monitor: Monitor, ready: bool) -> str:
    """
    One line, for people who use a screen reader.
    """
    connections = sum(monitor.states().values())
    doing = "Serving" if ready else "Draining"
    return f"{doing}: {connections} connections, {monitor.total} ended."


def endedSince(monitor: Monitor, number: int) -> list[str]:
    """
    The table rows of the recent terminations after the one with C{number}, the newest
    first.
    """
    return [_row(ended) for ended in reversed(monitor.recent) if ended.number > number]


def page(monitor: Monitor, ready: bool) -> bytes:
    """
    The whole page, which needs no script to be read.
    """
    numbers = counts(monitor)
    states = "\n".join(
        _counted(state.value, numbers, f"state-{state.name}")
        for state in monitor.states()
    )
    outcomes = "\n".join(
        _counted(
            outcome.value, numbers, *(f"{outcome.name}-{i.name}" for i in Initiator)
        )
        for outcome in Outcome
    )
    ended = _counted("all", numbers, *(f"ended-{i.name}" for i in Initiator))
    undelivered = "\n".join(
        _counted(text, numbers, name)
        for text, name in (
            ("connections that did not deliver all", "undelivered"),
            ("bytes never acknowledged", "unacknowledged"),
            ("bytes discarded after the end", "discarded"),
            ("writes dropped after the end", "dropped"),
        )
    )
    html = _TEMPLATE.substitute(
        since=iso(monitor.since),
        began=_clock(monitor.since),
        last=monitor.total,
        limit=monitor.recent.maxlen,
        summary=escape(summary(monitor, ready)),
        states=states,
        connections=_counted("all", numbers, "connections"),
        outcomes=outcomes,
        ended=ended,
        undelivered=undelivered,
        recent="\n".join(endedSince(monitor, 0)),
    )
    return html.encode("utf-8")


def _counted(title: str, numbers: Mapping[str, int], *names: str) -> str:
    cells = "".join(f'<td id="{name}">{numbers[name]}</td>' for name in names)
    return f'<tr><th scope="row">{escape(title)}</th>{cells}</tr>'


def iso(seconds: float) -> str:
    """
    Seconds since the epoch as a date, as HTML's C{datetime} has it.
    """
    when = datetime.fromtimestamp(seconds, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock(seconds: float) -> str:
    return iso(seconds)[:19].replace("T", " ") + " UTC"


def _duration(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


_rows: WeakKeyDictionary[Ended, str] = WeakKeyDictionary()


def _row(ended: Ended) -> str:
    """
    One row.  It is rendered once for all viewers.
    """
    if ended not in _rows:
        _rows[ended] = _render(ended)
    return _rows[ended]


def _render(ended: Ended) -> str:
    when = iso(ended.at)
    stages = "".join(
        f"<li>{escape(name)} <span>{_after(ended.timeline, at)}</span></li>"
        for at, name in ended.timeline
    )
    return (
        f'<tr role="row"><th scope="row" role="rowheader">'
        f'{escape(addressText(ended.peer))}<br><time datetime="{when}">'
        f"{_clock(ended.at)}</time></th>"
        f'<td role="cell">{escape(ended.summary)}</td>'
        f'<td role="cell">{_bar(ended.timeline)}<ol>{stages}</ol></td></tr>'
    )


def _after(timeline: list[tuple[float, str]], at: float) -> str:
    start = timeline[0][0]
    if at == start:
        return f"after {_duration(at)}"
    return f"+{_duration(at - start)}"


def _bar(timeline: list[tuple[float, str]]) -> str:
    """
    A picture of C{timeline}: the stages to scale, with a mark at each FIN.
    """
    start, end = timeline[0][0], timeline[-1][0]
    if end <= start:
        return ""
    scale = 100 / (end - start)
    shapes, marks, stage = "", "", "flush"
    for (at, name), (until, _) in zip(timeline, timeline[1:]):
        x = (at - start) * scale
        if name == "FIN from the peer":
            marks += f'<rect class="theirs" x="{x:.2f}" width="1" height="12"/>'
        else:
            stage = name
        width = (until - at) * scale
        shapes += (
            f'<rect class="{stage}" x="{x:.2f}" y="2" width="{width:.2f}" height="8"/>'
        )
    return (
        '<svg viewBox="0 0 101 12" preserveAspectRatio="none" aria-hidden="true">'
        f"{shapes}{marks}</svg>"
    )


__all__ = ["POLICY", "counts", "endedSince", "iso", "page", "summary"]
