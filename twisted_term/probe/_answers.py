"""
What an answer is: where it ends, and whether it got there.

HTTP is parsed by C{http.client} from what was recorded.  It takes the end of
the stream for the end of the header, and of a trailer, so that is seen to here.
"""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from io import BytesIO
from typing import Any, Optional, cast

_READ = 1 << 20
_ENDS = (b"\r\n\r\n", b"\n\n")


@dataclass(frozen=True)
class Answer:
    """
    @ivar body: what arrived of the body; of several answers, of all bodies.
    @ivar expected: bytes that the framing announces; C{None} if it does not.
    @ivar complete: the framing says so; C{None} if only the end of the
        connection says where the answer ends.
    @ivar status: of the last answer that has one; C{None} if none has.
    """

    body: bytes
    expected: Optional[int] = None
    complete: Optional[bool] = None
    status: Optional[int] = None


class BadAnswer(Exception):
    """
    The answer is not HTTP, or nothing to compare with.
    """


class _Recorded(BytesIO):
    """
    As much of a socket, and of its file, as C{HTTPResponse} uses.  It closes
    the file behind an answer, and another one may follow.
    """

    def makefile(self, mode: str) -> _Recorded:
        return self

    def close(self) -> None:
        pass

    def ended(self) -> bool:
        """
        Is what was just read a header, or a trailer, with its end?
        """
        end = self.tell()
        return self.getvalue()[max(0, end - 4) : end].endswith(_ENDS)


def readHTTP(data: bytes, count: int = 1) -> Answer:
    """
    Read so many answers, one behind the other.

    @raise BadAnswer: if it is not HTTP.
    """
    recorded = _Recorded(data)
    answers = [_readOne(recorded)]
    while len(answers) < count and answers[-1].complete:
        answers.append(_readOne(recorded))
    expected = [answer.expected for answer in answers if answer.expected is not None]
    return Answer(
        b"".join(answer.body for answer in answers),
        sum(expected) if len(expected) == count else None,
        answers[-1].complete if len(answers) == count else False,
        answers[-1].status or answers[0].status,
    )


def _readOne(recorded: _Recorded) -> Answer:
    end = recorded.tell() + 5
    start = recorded.getvalue()[recorded.tell() : end]
    if not b"HTTP/".startswith(start):
        raise BadAnswer(f"{start!r}...: must be an HTTP answer")
    response: Any = HTTPResponse(cast(Any, recorded))
    try:
        response.begin()
    except HTTPException as error:
        if recorded.tell() == len(recorded.getvalue()):
            return Answer(b"", None, False)
        raise BadAnswer(f"{start!r}...: must be an HTTP answer: {error!r}") from error
    if not recorded.ended():
        return Answer(b"", None, False)
    announced = response.length
    body = bytearray()
    try:
        while piece := response.read1(_READ):
            body += piece
    except IncompleteRead:
        return Answer(bytes(body), None, False, response.status)
    if response.chunked:
        return Answer(bytes(body), len(body), recorded.ended(), response.status)
    complete = None if announced is None else len(body) == announced
    return Answer(bytes(body), announced, complete, response.status)


__all__ = ["Answer", "BadAnswer", "readHTTP"]
