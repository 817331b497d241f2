"""
Reading answers: where an answer ends, and whether it is complete.

C{http.client} parses the header of what was recorded.  It takes the end of the
stream for the end of the header, so this module looks for the end of the header
itself, and also for the end of the body (RFC 9112, sections 6.3 and 7.1), because
C{http.client} is lenient there, and a verdict must not be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import Any, NamedTuple, Optional, cast

_ENDS = (b"\r\n\r\n", b"\n\n")
# RFC 9112, section 7.1; as section 2.2 permits, a bare LF ends a line, too.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")
_SHOWN = 20


@dataclass(frozen=True)
class Answer:
    """
    @ivar body: what arrived of the body, or of the bodies of several answers.
    @ivar expected: the bytes that the framing announces; C{None} if it does not.
    @ivar complete: is the answer complete by its framing?  C{None} if only the end of
        the connection says where the answer ends.
    @ivar status: the status of the last answer that has one; C{None} if none has.
    @ivar due: how many answers the server still owed: none is due behind one
        that says C{Connection: close} (RFC 9112, section 9.6).
    """

    body: bytes
    expected: Optional[int] = None
    complete: Optional[bool] = None
    status: Optional[int] = None
    due: int = 1


class BadAnswer(Exception):
    """
    The answer is not HTTP, or nothing to compare with.
    """


class _One(NamedTuple):
    """
    @ivar last: the server answers no more requests behind this one.
    """

    answer: Answer
    last: bool


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
        Was the header that was just read complete?
        """
        end = self.tell()
        return self.getvalue()[max(0, end - 4) : end].endswith(_ENDS)


def readHTTP(data: bytes, count: int = 1, method: str = "GET") -> Answer:
    """
    Read C{count} answers, one behind the other.

    @param method: the method of the requests; a HEAD is answered without a body.
    @raise BadAnswer: if an answer is not HTTP, or its framing is broken.
    """
    if not data:
        return Answer(b"", None, False)
    recorded = _Recorded(data)
    ones = [_readOne(recorded, method)]
    while len(ones) < count and ones[-1].answer.complete and not ones[-1].last:
        ones.append(_readOne(recorded, method))
    answers = [one.answer for one in ones]
    due = len(ones) if ones[-1].last else count
    expected = [answer.expected for answer in answers if answer.expected is not None]
    return Answer(
        b"".join(answer.body for answer in answers),
        sum(expected) if len(expected) == due else None,
        answers[-1].complete if len(answers) == due else False,
        answers[-1].status or answers[0].status,
        due,
    )


def _readOne(recorded: _Recorded, method: str) -> _One:
    while True:
        response = _readHead(recorded, method)
        if response is None:
            return _One(Answer(b"", None, False), False)
        if response.status == 101 or response.status >= 200:
            break  # the responses before this one were interim (RFC 9110, 15.2)
    tokens = _tokens(response, "Connection")
    last = "close" in tokens if response.version == 11 else "keep-alive" not in tokens
    rest = recorded.getvalue()[recorded.tell() :]
    if method == "HEAD" or response.status in (101, 204, 304):
        return _One(Answer(b"", 0, True, response.status), last)
    if codings := _tokens(response, "Transfer-Encoding"):
        if codings[-1] == "chunked":
            body, end = _readChunks(rest)
            recorded.seek(end or 0, 1)
            expected = len(body) if end else None
            answer = Answer(body, expected, end is not None, response.status)
            return _One(answer, last)
    elif lengths := {*_tokens(response, "Content-Length")}:
        length = _length(lengths)
        body = rest[:length]
        recorded.seek(len(body), 1)
        complete = len(body) == length
        return _One(Answer(body, length, complete, response.status), last)
    return _One(Answer(rest, None, None, response.status), True)


def _readHead(recorded: _Recorded, method: str) -> Any:
    """
    @return: C{None} if it is cut short.
    """
    end = recorded.tell() + 5
    start = recorded.getvalue()[recorded.tell() : end]
    if not b"HTTP/".startswith(start):
        raise BadAnswer(f"{start!r}...: must be an HTTP answer")
    response = HTTPResponse(cast(Any, recorded), method=method)
    try:
        response.begin()
    except (HTTPException, ValueError) as error:
        if recorded.tell() == len(recorded.getvalue()):
            return None
        raise BadAnswer(f"{start!r}...: must be an HTTP answer: {error!r}") from error
    return response if recorded.ended() else None


def _tokens(response: HTTPResponse, name: str) -> list[str]:
    """
    The members of a field, in small letters.
    """
    lines = ",".join(response.headers.get_all(name, []))
    return [token.strip().lower() for token in lines.split(",") if token.strip()]


def _length(values: set[str]) -> int:
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise BadAnswer(f"Content-Length {value!r}: must be one decimal number")
    return int(value)


def _readChunks(data: bytes) -> tuple[bytes, Optional[int]]:
    """
    @return: what arrived of the body, and where the last line of the trailer
        ends; C{None} if it is cut short.
    """
    body = bytearray()
    at = 0
    while True:
        end = data.find(b"\n", at) + 1
        if not end:
            return bytes(body), None
        line = _CHUNK.fullmatch(data, at, end)
        if line is None:
            found = data[at : min(end, at + _SHOWN)]
            raise BadAnswer(f"chunk size {found!r}: must be hexadecimal")
        size, at = int(line[1], 16), end
        if not size:
            return bytes(body), _endOfTrailer(data, at)
        body += data[at : at + size]
        at += size
        rest = data[at : at + 2]
        if rest in (b"", b"\r"):
            return bytes(body), None
        if rest[:1] != b"\n" and rest != b"\r\n":
            raise BadAnswer(f"{rest!r}: must be the line end behind a chunk")
        at += rest.index(b"\n") + 1


def _endOfTrailer(data: bytes, at: int) -> Optional[int]:
    while end := data.find(b"\n", at) + 1:
        if data[at:end] in (b"\n", b"\r\n"):
            return end
        at = end
    return None


__all__ = ["Answer", "BadAnswer", "readHTTP"]
