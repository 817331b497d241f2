"""
Prints the guide's table of applications.  C{tests/test_docs.py} compares it with
the guide, and looks for the tests.
"""

from __future__ import annotations

import textwrap

#: Application, what is in flight, what the peer's FIN means, what a drain does;
#: and the tests of the row.
ROWS = [
    (
        "HTTP/1.1: ``twisted.web``, Klein, WSGI, Daphne",
        "a request that is complete, or can still become so",
        "asked with ``100 Continue`` until the response begins, then with keep-alive",
        "``Connection: close`` in each response from the first moment; a stream of"
        " events ends",
        ["test_applications_http.GoneTests", "test_applications_http.DrainTests"],
    ),
    (
        "HTTP/2: ``twisted.web``",
        "a stream",
        "asked with PING",
        "GOAWAY when no stream is open, or after half of the time; what is open or"
        " on its way is served",
        ["test_applications_http.GoneTests.test_abandoned", "test_apps.HTTP2Tests"],
    ),
    (
        "WebSocket: Autobahn, Daphne, ``twisted.web``",
        "a producer",
        "gone",
        "Close with 1001, or 1012; the peer's Close is awaited for 5 seconds",
        [
            "test_applications_websocket.WebSocketTests",
            "test_applications_websocket.DaphneTests",
        ],
    ),
    (
        "SSH: Conch",
        "a producer",
        "gone",
        "channels have 5 seconds to close; then a disconnect message",
        ["test_applications_ssh.SSHTests"],
    ),
    (
        "SMTP",
        "a message that is arriving",
        "keep-alive",
        "the answer to a message is awaited for 5 seconds; then 421",
        ["test_applications_mail.MailTests.test_smtp"],
    ),
    (
        "POP3",
        "an answer that is being made",
        "keep-alive",
        "the answer, then FIN",
        ["test_applications_mail.MailTests.test_pop3"],
    ),
    (
        "IMAP",
        "an answer that is being made",
        "keep-alive",
        "the answer, then BYE",
        ["test_applications_mail.MailTests.test_imap"],
    ),
    (
        "FTP",
        "a command, its transfer included",
        "keep-alive",
        "the transfer and its answer, then 421",
        ["test_applications_mail.MailTests.test_ftp"],
    ),
    (
        "AMP, PB",
        "a question of ours that the peer can answer; track the answers that you owe",
        "keep-alive",
        "the answers, then FIN",
        ["test_applications_rpc.CallTests"],
    ),
    (
        "``portforward``, SOCKS",
        "what the other leg may bring",
        "passed on as a half-close",
        "until one of the two peers ends",
        ["test_applications_relay.RelayTests"],
    ),
    (
        "any other",
        "a producer",
        "keep-alive",
        "FIN when nothing is in flight",
        ["test_drain.SignalTests", "test_applications_unknown.GoneTests"],
    ),
]
_HEAD = "application", "in flight", "the peer's FIN", "a drain"
_WIDTHS = 16, 18, 18, 20


def table() -> str:
    """
    The table, as reStructuredText.
    """
    rule = "+" + "+".join("-" * (width + 2) for width in _WIDTHS) + "+"
    lines = [rule, *_row(_HEAD), rule.replace("-", "=")]
    for *cells, _ in ROWS:
        lines += [*_row(tuple(cells)), rule]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> list[str]:
    columns = [
        textwrap.wrap(cell, width, break_on_hyphens=False, break_long_words=False)
        for cell, width in zip(cells, _WIDTHS)
    ]
    lines = []
    for index in range(max(map(len, columns))):
        parts = [
            (column[index] if index < len(column) else "").ljust(width)
            for column, width in zip(columns, _WIDTHS)
        ]
        lines.append("| " + " | ".join(parts) + " |")
    return lines


if __name__ == "__main__":
    print(table())
