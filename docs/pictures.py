"""
The guide's sequence diagrams, C{docs/pictures/*.svg}: each is made of a few
lines of text.

    python docs/pictures.py

A line is C{left | arrow | right}: what the server does, what travels, what the
client does.  C{>} goes to the client, C{<} to the server, and C{!} before the
text marks what loses data.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

FOLDER = Path(__file__).with_name("pictures")
_WIDTH, _LEFT, _RIGHT = 760, 250, 510
_TOP, _ROW, _SLANT = 76, 34, 8
_STYLE = """
svg { background: #fff; font: 13px system-ui, sans-serif; }
text { fill: #1f2328; }
text.title { font-size: 15px; font-weight: 600; }
.life { stroke: #8c959f; }
.arrow { stroke: #0550ae; stroke-width: 1.5; fill: none; }
.head { fill: #0550ae; }
.arrow.bad { stroke: #cf222e; stroke-dasharray: 5 3; }
.head.bad, text.bad { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; }
  .arrow { stroke: #79c0ff; }
  .head { fill: #79c0ff; }
  .arrow.bad { stroke: #ff7b72; }
  .head.bad, text.bad { fill: #ff7b72; }
}
"""


class Picture(NamedTuple):
    """
    One diagram.

    @ivar title: its heading.
    @ivar description: the same in words, for those who cannot see it.
    @ivar script: its lines.
    """

    title: str
    description: str
    script: str


PICTURES = {
    "orderly": Picture(
        "An orderly close",
        "The server sends the rest of its answer and FIN. The client reads to"
        " the end and sends its own FIN. The server keeps TIME-WAIT.",
        """
        FIN queued behind the data | > the rest of the answer |
        FIN-WAIT-1                 | > FIN                    | reads the rest, then EOF
        FIN-WAIT-2                 | < ACK                    | CLOSE-WAIT
                                   | < FIN                    | close(): LAST-ACK
        TIME-WAIT, for 60 s        | > ACK                    | CLOSED
        """,
    ),
    "early-answer": Picture(
        "An early answer, and loseConnection() of bare Twisted",
        "The client uploads. The server answers early and closes its socket"
        " while more of the upload is under way. The server's kernel answers"
        " that with RST, and the rest of the answer is lost.",
        """
                                   | < POST, 100 MB          | goes on sending
        loseConnection(): no       | > 413 and its page      |
        more reading, then close() | > FIN                   | still sending
        nobody reads here          | < more of the upload    |
        the kernel resets          | > !RST                  | the rest is lost
        "closed cleanly"           |                         | ECONNRESET, half a page
        """,
    ),
    "lingering": Picture(
        "An early answer, and a lingering close",
        "The server answers early and sends FIN, but goes on reading and"
        " discards what arrives. The client reads the whole answer, and closes."
        " Then the server closes too.",
        """
                                   | < POST, 100 MB          | goes on sending
        loseConnection(): FLUSHING | > 413 and its page      |
        LINGERING                  | > FIN                   | still sending
        discards, and counts       | < more of the upload    |
                                   |                         | reads all of it, then EOF
                                   | < FIN                   | close()
        CLOSED: clean, delivered   | > ACK                   |
        """,
    ),
    "half-close": Picture(
        "A half-close by the client",
        "The client sends its request and FIN, and goes on reading. The server"
        " is told that no more will come, writes its answer, and sends FIN.",
        """
                                   | < the request           |
        readConnectionLost()       | < FIN                   | shutdown(SHUT_WR)
        work in flight goes on     | > the answer            | goes on reading
        loseConnection(): LINGERING | > FIN                  | EOF: the answer is whole
        CLOSED: clean, delivered   | < ACK                   | TIME-WAIT is here
        """,
    ),
    "abort": Picture(
        "An abort",
        "The server resets. What it has not sent is discarded, what is under way"
        " is lost, and no TIME-WAIT is left.",
        """
        write()                    | > some of the data      | reads slowly
        abortConnection(): ABORTED | > !RST                  | what is under way is lost
        unsent data is discarded   |                         | ECONNRESET
        no TIME-WAIT               |                         | no TIME-WAIT
        """,
    ),
    "close-now": Picture(
        "closeConnection(), while something is under way",
        "The server closes at once. What its kernel has goes out, with FIN behind"
        " it; what its process still had is lost. If the client sends more, the"
        " server's kernel answers with RST, and the client may lose what it has"
        " not read.",
        """
        write()                    | > some of the data       | reads slowly
        closeConnection(): CLOSED  | > what the kernel has    |
        the rest is dropped        | > FIN                    | EOF: a part of it
        nobody is here any more    | < if it sends more       |
        the kernel resets          | > !RST                   | may lose what is unread
        """,
    ),
    "tls": Picture(
        "The end of TLS: close_notify, then FIN",
        "The server encrypts the rest of its answer, sends close_notify, and"
        " then FIN. The client sends its own close_notify and FIN.",
        """
        loseConnection(): FLUSHING | > the rest, encrypted   |
                                   | > close_notify          | the end, and authentic
        LINGERING                  | > FIN                   | EOF
                                   | < close_notify          |
                                   | < FIN                   | close()
        CLOSED: clean              | > ACK                   |
        """,
    ),
}


def _text(x: int, y: int, words: str, anchor: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{mark}>{escape(words)}</text>'


def _arrow(y: int, arrow: str) -> list[str]:
    direction, _, words = arrow.partition(" ")
    bad = words.startswith("!")
    start, end = (_LEFT, _RIGHT) if direction == ">" else (_RIGHT, _LEFT)
    sign = 1 if direction == ">" else -1
    kind = " bad" if bad else ""
    tip, back = y + _SLANT, end - sign * 10
    return [
        f'<path class="arrow{kind}" d="M{start} {y}L{back} {tip}"/>',
        f'<path class="head{kind}" d="M{end} {tip}L{back} {tip - 5}V{tip + 5}z"/>',
        _text((_LEFT + _RIGHT) // 2, y - 4, words.lstrip("!"), "middle", kind.strip()),
    ]


def draw(picture: Picture) -> str:
    """
    @return: the picture as SVG.
    """
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in picture.script.strip().splitlines()
    ]
    height = _TOP + _ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" role="img"'
        ' aria-labelledby="title" aria-describedby="desc">',
        f'<title id="title">{escape(picture.title)}</title>',
        f'<desc id="desc">{escape(picture.description)}</desc>',
        f"<style>{_STYLE}</style>",
        _text(_WIDTH // 2, 24, picture.title, "middle", "title"),
    ]
    for x, name in ((_LEFT, "server"), (_RIGHT, "client")):
        parts.append(_text(x, 48, name, "middle"))
        parts.append(f'<path class="life" d="M{x} 54V{height - 8}"/>')
    for index, (left, arrow, right) in enumerate(rows):
        y = _TOP + _ROW * index
        if left:
            parts.append(_text(_LEFT - 10, y + 4, left, "end"))
        if right:
            parts.append(_text(_RIGHT + 10, y + 4, right, "start"))
        if arrow:
            parts.extend(_arrow(y, arrow))
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """
    Write them all.
    """
    FOLDER.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        FOLDER.joinpath(f"{name}.svg").write_text(draw(picture), "utf-8")


if __name__ == "__main__":
    main()
