"""
The awkward clients of HTTP/1.1, and of protocols that are nothing but bytes.
Each is a function that plays one of them, once.
"""

from __future__ import annotations

import time

from .cases import Case, Played, Probe
from .client import Client
from .targets import StreamTarget

Stream = Probe[StreamTarget]

#: Receive buffers, in bytes: the tail of the answer has to wait in the
#: server, as it has to on a long way.
_SMALL = 1 << 16
_SMALLEST = 1 << 13
#: What the slow reader does: wait, then take so many seconds for all of it.
_SLOW = 1.5
#: What comes behind pipelined requests, in bytes.
EXTRA = 4 << 20
#: Seconds until a late FIN: the answer has begun by then.
_LATE = 0.3
#: Seconds in which an upload that will be cut short may be answered early.
_EARLY = 1.0
#: Seconds that the server has to take it for whole.
_ANSWERED = 5.0


def _played(probe: Stream, client: Client, count: int = 1) -> Played:
    return Played(client, probe.target.read(bytes(client.data), count))


def _finish(
    probe: Stream, client: Client, size: int = 1 << 18, pause: float = 0.0
) -> Played:
    """
    Read to the end, as fast as it comes or as told, and close.
    """
    reference = probe.reference
    if reference is None:
        client.receive(size=size, pause=pause)
        if not client.over and not probe.target.framed:
            client.halfClose()
    elif not reference.endsItself:
        client.receive(len(reference.answer.body), size, pause)
        client.halfClose()
    client.receive(size=size, pause=pause)
    client.close()
    return _played(probe, client)


def polite(probe: Stream) -> Played:
    """
    The one that all others are compared with.
    """
    client = probe.connect()
    client.send(probe.target.request)
    return _finish(probe, client)


def _readLate(probe: Stream, client: Client) -> Client:
    """
    Read nothing until sending blocks, and then do both, to the end.
    """
    client.push()
    if probe.reference is not None and not probe.reference.endsItself:
        client.halfClose()
    client.receive()
    client.overrun()
    client.close()
    return client


def _upload(probe: Stream) -> Played:
    client = probe.connect(_SMALL)
    data, filler = probe.target.upload(probe.upload)
    client.send(data, filler, probe.upload)
    return _played(probe, _readLate(probe, client))


def _cutUpload(probe: Stream) -> Played:
    client = probe.connect(_SMALL)
    data, filler = probe.target.upload(probe.upload)
    client.send(data + filler[: max(1, min(probe.upload // 2, len(filler)))])
    client.receive(1, patience=_EARLY)
    early = bool(client.data) or client.over
    client.halfClose(notify=False)
    client.receive(patience=min(_ANSWERED, probe.limits.patience))
    client.close()
    answer = probe.target.read(bytes(client.data))
    success = answer.status is not None and 200 <= answer.status < 300
    wrong = success and not early
    return Played(
        client, answer, f"answered {answer.status} to half an upload" if wrong else ""
    )


def _pipeline(probe: Stream) -> Played:
    assert probe.target.pipeline is not None
    client = probe.connect(_SMALL)
    client.send(*probe.target.pipeline, EXTRA)
    return _played(probe, _readLate(probe, client), 2)


def _halfClose(probe: Stream) -> Played:
    client = probe.connect()
    client.send(probe.target.request)
    client.halfClose()
    client.receive()
    client.close()
    return _played(probe, client)


def _halfCloseLate(probe: Stream) -> Played:
    client = probe.connect(_SMALLEST)
    client.send(probe.target.request)
    client.push()
    time.sleep(_LATE)
    client.halfClose()
    client.receive()
    client.close()
    return _played(probe, client)


def _bareFIN(probe: Stream) -> Played:
    client = probe.connect()
    client.send(probe.target.request)
    client.halfClose(notify=False)
    client.receive()
    client.close()
    return _played(probe, client)


def _slowReader(probe: Stream) -> Played:
    assert probe.reference is not None
    client = probe.connect(_SMALLEST)
    client.send(probe.target.request)
    client.push()
    reads = len(probe.reference.answer.body) // _SMALLEST + 1
    time.sleep(_SLOW / 3)
    return _finish(probe, client, _SMALLEST, min(_SLOW / reads, 0.05))


def _neverCloses(probe: Stream) -> Played:
    client = probe.connect()
    client.answers = False
    client.send(probe.target.request)
    client.receive()
    client.hold()
    client.close()
    return _played(probe, client)


def _reset(probe: Stream) -> Played:
    client = probe.connect(_SMALL)
    client.send(probe.target.request)
    client.receive(limit=1)
    client.close(reset=True)
    return polite(probe)


CASES = (
    Case(
        "polite",
        "asks, reads all, and closes when the server has.",
        "RFC 9112, section 9.6: the server closes behind the answer to a request with"
        " Connection: close.",
        polite,
    ),
    Case(
        "upload",
        "goes on uploading, and reads nothing until that blocks.",
        "RFC 9112, section 9.6: a server that closes at once risks a RST that erases"
        " what the client has not read; it should close its writing side, and read on.",
        _upload,
        same=False,
    ),
    Case(
        "cut-upload",
        "announces an upload, and ends in the midst of it with a bare FIN.",
        "RFC 9112, section 8: a message that is shorter than its Content-Length is"
        " incomplete, and must not be taken for a whole one.",
        _cutUpload,
        same=False,
        applies=lambda probe: probe.target.framed and probe.upload > 1,
    ),
    Case(
        "pipeline",
        "sends two requests, the second the last, and then 4 MiB of empty lines.",
        "RFC 9112, section 9.3.2, permits to pipeline; section 2.2 knows clients that"
        " send empty lines, of which a server should ignore at least one; section 9.6"
        " asks it to read on for a while behind the last answer.",
        _pipeline,
        applies=lambda probe: probe.target.pipeline is not None,
    ),
    Case(
        "half-close",
        "sends FIN right behind its request.",
        "RFC 9293, section 3.6: who has closed goes on receiving until the other has,"
        " too; over TLS, RFC 8446, section 6.1.  No RFC obliges an HTTP server.",
        _halfClose,
    ),
    Case(
        "half-close-late",
        "sends FIN when the answer has begun, and has read none of it.",
        "RFC 9293, section 3.6, as for half-close.",
        _halfCloseLate,
    ),
    Case(
        "bare-fin",
        "sends, over TLS, FIN without close_notify right behind its request.",
        "RFC 9112, section 9.8: a server must be prepared to receive an incomplete"
        " close from the client.",
        _bareFIN,
        applies=lambda probe: probe.target.alpn is not None,
    ),
    Case(
        "slow-reader",
        "has a small buffer, and reads late and slowly.",
        "RFC 9293, section 3.8.6: the receiver's window says how much it takes.",
        _slowReader,
    ),
    Case(
        "never-closes",
        "reads all, and never closes: the server has to let go.",
        "RFC 9112, section 9.6: the server reads on until the client has closed, or"
        " until it is reasonably certain that its answer has been acknowledged.",
        _neverCloses,
        holds=True,
        applies=lambda probe: probe.reference is None or probe.reference.endsItself,
    ),
    Case(
        "reset",
        "resets in mid-answer; a polite one after it is judged.",
        "RFC 9293, section 3.10.7.4: a RST ends one connection, and no other.",
        _reset,
    ),
)


__all__ = ["CASES", "EXTRA", "polite"]
