"""
How long, and for how many bytes, an ending connection may take.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from math import inf, isfinite
from typing import Any, Optional, Union

Limit = Union[float, int, None]
#: The options whose values are words, with the words that are allowed.
_WORDS = {
    "linger": ("off", "on", "always"),
    "peerFin": ("ask", "half-closed", "gone"),
    "goodbye": ("going-away", "restart"),
}

#: Thirty years, and an exabyte: a larger limit would be no limit.
_SECONDS = 10**9
_BYTES = 10**18


@dataclass(frozen=True)
class TerminationPolicy:
    """
    The limits on a connection that is ending.  C{None} means no limit.  Time
    is in seconds, and but for C{handshakeTimeout} no limit applies before an
    end was asked for.

    The defaults are those of the large HTTP servers:

    @ivar flushTimeout: abort (RST; unsent data is lost) when bytes are
        outstanding and the peer's TCP has acknowledged none of them for this
        long.  60, as nginx's C{send_timeout} and Apache's C{Timeout}.
    @ivar workTimeout: abort when the end waits for a producer or a hold that
        has sent nothing for this long, while all bytes are acknowledged.
        600: the limit is for work that the application has forgotten, and not for
        slow work.
    @ivar lingerTime: close after lingering for this long in all, counted from
        the moment at which the peer has acknowledged all that was sent.  30,
        as nginx's C{lingering_time} and Apache's C{MAX_SECS_TO_LINGER}.
    @ivar lingerIdle: close when nothing has arrived for this long while lingering.
        5, as nginx's C{lingering_timeout} (Apache: 2).
    @ivar lingerBytes: close after discarding more than this many bytes while
        lingering.  C{None}: nginx and Apache have no such limit either, and the
        times above are limits already.
    @ivar halfCloseIdle: after C{loseWriteConnection}, abort when nothing
        has arrived for this long; while the application has paused reading,
        C{workTimeout} counts instead.  60, as Linux's C{tcp_fin_timeout}, see
        tcp(7).
    @ivar closeTimeout: close when the Deferred of
        L{ITerminationHook.beforeClose<twisted_term.ITerminationHook.beforeClose>}
        takes longer than this; it is cancelled.  30, as C{lingerTime}: by then
        the peer has all that was sent, and only our resources are at stake.
    @ivar handshakeTimeout: abort when a TLS handshake takes longer than this, also
        if the application has paused reading.  60, as nginx's
        C{ssl_handshake_timeout} and C{client_header_timeout}.

    @ivar linger: when to linger after the peer has acknowledged all that was sent,
        until its FIN comes or a limit is reached.  C{"always"}.  C{"on"}: only if
        something has arrived that was not read, or was discarded, or the application
        has paused reading, or its
        L{conversation<twisted_term.interfaces.IConversation.expectsMore>} expects
        more.  C{"off"}: never.  A connection that does not linger closes its socket
        as soon as all is acknowledged.  What arrives after that gets a RST, at which
        some systems drop what the peer's program has not read yet (RFC 9112, 9.6).
        The words are those of nginx's C{lingering_close}, whose default is C{"on"}:
        nginx speaks HTTP only, and knows when a request is complete.  Ours is
        C{"always"}, because in most protocols the peer may send at any time.
    @ivar peerFin: what the peer's FIN means while something is in flight.
        C{"ask"}: what it means in the application's protocol; if the protocol does
        not say, the peer is probed (see
        L{twisted_term.interfaces.IConversation}).  C{"half-closed"}: the peer
        still reads, as far as we know.  C{"gone"}: the peer has gone: what is in
        flight is stopped, and the connection ends, as in bare Twisted.  An
        C{IHalfCloseableProtocol} is told in any case, and decides.
    @ivar goodbye: what a drain tells the peer, if the protocol can say it.
        C{"going-away"}: the server ends.  C{"restart"}: the server will be there again
        soon.  For WebSocket these are the codes 1001 and 1012 (RFC 6455, 7.4.1,
        and IANA's registry of close codes).

    @raise ValueError: for a value out of range.
    @raise TypeError: for a value that is no number.
    """

    flushTimeout: Optional[float] = 60.0
    workTimeout: Optional[float] = 600.0
    lingerTime: Optional[float] = 30.0
    lingerIdle: Optional[float] = 5.0
    lingerBytes: Optional[int] = None
    halfCloseIdle: Optional[float] = 60.0
    closeTimeout: Optional[float] = 30.0
    handshakeTimeout: Optional[float] = 60.0
    linger: str = "always"
    peerFin: str = "ask"
    goodbye: str = "going-away"

    def __post_init__(self) -> None:
        for name in limitOptions:
            _check(name, getattr(self, name))
        for name, words in _WORDS.items():
            word = getattr(self, name)
            if word not in words:
                allowed = f"{', '.join(words[:-1])} or {words[-1]}"
                raise ValueError(f"{name}={word!r}: must be {allowed}")

    @cached_property
    def shortest(self) -> float:
        """
        The shortest limit, in seconds; infinite where there is none.
        """
        times = [getattr(self, name) for name in limitOptions if name != "lingerBytes"]
        return min((limit for limit in times if limit is not None), default=inf)

    @classmethod
    def fromStrings(cls, **texts: str) -> TerminationPolicy:
        """
        Make a policy from the texts of options: decimal numbers, C{none}, or one of
        the words of an option.

        @raise ValueError: naming the option, its value and what is allowed.
        """
        options: dict[str, Any] = {
            name: parseLimit(name, text) if name in limitOptions else text
            for name, text in texts.items()
        }
        return cls(**options)


#: The names of the options, as keyword arguments and in endpoint strings.
policyOptions = tuple(field.name for field in fields(TerminationPolicy))
#: The names of the options that are limits.
limitOptions = tuple(name for name in policyOptions if name not in _WORDS)


def parseLimit(name: str, text: str) -> Limit:
    """
    Read one option's value, such as C{"10"}, C{"0.5"} or C{"none"}.

    @raise ValueError: naming the option, its value and what is allowed.
    """
    if text.lower() == "none":
        return None
    try:
        if "_" in text:  # only Python reads "1_000" as a number
            raise ValueError
        value: Limit = int(text) if name == "lingerBytes" else float(text)
    except ValueError:
        raise ValueError(_complaint(name, text)) from None
    _check(name, value)
    return value


def _complaint(name: str, value: object) -> str:
    if name == "lingerBytes":
        allowed = "a whole number of bytes, 0 or more, or none"
    else:
        allowed = "a number of seconds, 0 or more, or none"
    shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:40]}...{shown[-1]}"
    return f"{name}={shown}: must be {allowed}"


def _check(name: str, value: object) -> None:
    if value is None:
        return
    number = int if name == "lingerBytes" else (int, float)
    if isinstance(value, bool) or not isinstance(value, number):
        raise TypeError(_complaint(name, value))
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(_complaint(name, value))
    most, unit = (_BYTES, "bytes") if name == "lingerBytes" else (_SECONDS, "seconds")
    if value > most:
        # Python may refuse to print a very long number in full.
        shown = repr(value) if value < 10 * most else "too much"
        raise ValueError(f"{name}={shown}: must be {most} {unit} or less, or none")
    if value < 0:
        raise ValueError(_complaint(name, value))


__all__ = ["TerminationPolicy", "limitOptions", "parseLimit", "policyOptions"]
