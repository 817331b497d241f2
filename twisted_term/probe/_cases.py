"""
The awkward clients.  Each is a function that plays one of them, once, and
returns the connection, closed, for the judge.
"""

from __future__ import annotations

import time
from typing import Callable, NamedTuple, Optional

from ._answers import Answer, BadAnswer
from ._client import MOST, Address, Client
from ._targets import Target

#: Receive buffers, in bytes: the tail of the answer has to wait in the
#: server, as it has to on a long way.
_SMALL = 1 << 16
_SMALLEST = 1 << 13
#: What the slow reader does: wait, then take so many seconds for all of it.
_SLOW = 1.5
#: What comes behind pipelined requests, in bytes.
_EXTRA = 4 << 20


class Reference(NamedTuple):
    """
    What a polite client gets.

    @ivar static: two of them got the same.
    @ivar sized: two of them got as much.
    @ivar endsItself: the server closes when it has answered; else it waits for
        the client's FIN.
    """

    answer: Answer
    static: bool
    sized: bool
    endsItself: bool


class Probe:
    """
    What the cases need to know.

    @ivar reference: C{None} while it is not known.
    """

    def __init__(
        self, target: Target, address: Address, patience: float, upload: int
    ) -> None:
        self.target = target
        self.patience = patience
        self.upload = upload
        self.reference: Optional[Reference] = None
        self._address = address

    def connect(self, buffer: Optional[int] = None) -> Client:
        """
        @raise OSError: if it cannot.
        """
        return Client(self._address, self.patience, buffer)

    def finish(self, client: Client, size: int = 1 << 18, pause: float = 0.0) -> None:
        """
        Read to the end, as fast as it comes or as told, and close.
        """
        if self.reference is not None and not self.reference.endsItself:
            client.receive(len(self.reference.answer.body), size, pause)
            client.halfClose()
        client.receive(size=size, pause=pause)
        client.close()


def learn(probe: Probe) -> None:
    """
    Be polite, twice, and set the reference.

    @raise OSError: if it cannot connect.
    @raise BadAnswer: if the answer is none, or has no end.
    """
    client = probe.connect()
    client.send(probe.target.request)
    client.receive()
    endsItself = client.over or probe.target.framed
    if not endsItself:
        client.halfClose()
        client.receive()
    client.close()
    if not client.data:
        raise BadAnswer("no answer to a polite client")
    if len(client.data) >= MOST:
        raise BadAnswer(f"the answer must be shorter than {MOST} bytes")
    answer = probe.target.read(bytes(client.data))
    probe.reference = Reference(answer, True, True, endsItself)
    again = probe.target.read(bytes(_polite(probe).data))
    probe.reference = Reference(
        answer,
        answer.body == again.body,
        len(answer.body) == len(again.body),
        endsItself,
    )


def _polite(probe: Probe) -> Client:
    client = probe.connect()
    client.send(probe.target.request)
    probe.finish(client)
    return client


def _readLate(client: Client) -> Client:
    """
    Read nothing until sending blocks, and then do both, to the end.
    """
    client.push()
    client.receive()
    client.overrun()
    client.close()
    return client


def _upload(probe: Probe) -> Client:
    client = probe.connect(_SMALL)
    data, filler = probe.target.upload(probe.upload)
    client.send(data, filler, probe.upload)
    return _readLate(client)


def _pipeline(probe: Probe) -> Client:
    assert probe.target.pipeline is not None
    client = probe.connect(_SMALL)
    client.send(*probe.target.pipeline, _EXTRA)
    return _readLate(client)


def _halfClose(probe: Probe) -> Client:
    client = probe.connect()
    client.send(probe.target.request)
    client.halfClose()
    client.receive()
    client.close()
    return client


def _slowReader(probe: Probe) -> Client:
    assert probe.reference is not None
    client = probe.connect(_SMALLEST)
    client.send(probe.target.request)
    client.push()
    reads = len(probe.reference.answer.body) // _SMALLEST + 1
    time.sleep(_SLOW / 3)
    probe.finish(client, _SMALLEST, min(_SLOW / reads, 0.05))
    return client


def _neverCloses(probe: Probe) -> Client:
    client = probe.connect()
    client.send(probe.target.request)
    client.receive()
    client.hold()
    client.close()
    return client


def _reset(probe: Probe) -> Client:
    client = probe.connect(_SMALL)
    client.send(probe.target.request)
    client.receive(limit=1)
    client.close(reset=True)
    return _polite(probe)


class Case(NamedTuple):
    """
    @ivar sentence: what the client does, for the user.
    @ivar answers: how many it asks for.
    @ivar same: each is the polite client's.
    @ivar holds: it waits until the server lets go.
    """

    name: str
    sentence: str
    run: Callable[[Probe], Client]
    answers: int = 1
    same: bool = True
    holds: bool = False

    def applies(self, probe: Probe) -> bool:
        """
        Can it be played there?
        """
        if self.holds and probe.reference is not None:
            return probe.reference.endsItself
        return self.answers == 1 or probe.target.pipeline is not None


CASES = (
    Case("polite", "asks, reads all, and closes when the server has.", _polite),
    Case(
        "upload",
        "goes on uploading, and reads nothing until that blocks.",
        _upload,
        same=False,
    ),
    Case(
        "pipeline",
        "sends two requests, the second the last, and then empty lines.",
        _pipeline,
        answers=2,
    ),
    Case("half-close", "sends FIN right behind its request.", _halfClose),
    Case("slow-reader", "has a small buffer, and reads late and slowly.", _slowReader),
    Case(
        "never-closes",
        "reads all, and never closes: the server has to let go.",
        _neverCloses,
        holds=True,
    ),
    Case("reset", "resets in mid-answer; a polite one after it is judged.", _reset),
)


__all__ = ["CASES", "Case", "Probe", "Reference", "learn"]
