"""
The answers for a protocol without an adapter, and the base classes of the others.
"""

from __future__ import annotations

from typing import Any, Callable, Optional
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import ISystemHandle
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IConversation

_log = Logger()

#: Classes that are registered as producers all the time, to be told of back-pressure,
#: and not because they have something to send.  A conversation says what is in
#: flight on their connections.
standing: list[type] = []


def stands(producer: object) -> bool:
    """
    Is the producer of one of these classes?
    """
    return isinstance(producer, tuple(standing))


@implementer(IConversation)
class Conversation:
    """
    The answers for a protocol without an adapter, and the base class for adapters.  A
    registered producer is in flight.  The peer's FIN may be a half-close.
    The peer is not expected to send more.  A drain closes the connection.
    """

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        producer = transport.producer
        if producer is None or stands(producer):
            return False
        if ISystemHandle.providedBy(producer):
            # A proxy registers one transport as the producer of another, and does
            # not unregister it.  When the first has ended, it produces nothing.
            # When the peer has sent FIN, the two would wait for each other.
            return not (transport.peerDone or getattr(producer, "disconnected", False))
        return True

    def peerFin(self, transport: Any) -> bool:
        """
        See L{IConversation.peerFin}.
        """
        return False

    def probe(self, transport: Any) -> bool:
        """
        See L{IConversation.probe}.
        """
        return False

    def expectsMore(self, transport: Any) -> bool:
        """
        See L{IConversation.expectsMore}.
        """
        return False

    def drainBegins(self, transport: Any, seconds: Optional[float]) -> None:
        """
        See L{IConversation.drainBegins}.
        """

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """
        transport.loseConnection()


class Courteous(Conversation):
    """
    The base for protocols with a goodbye of their own.  A drain waits until C{busy}
    is false, and then calls C{goodbye}.

    @cvar patience: the seconds that a drain waits at most; C{None} for no limit but
        that of the drain.
    """

    patience: Optional[float] = None
    _pause = 0.05

    def busy(self) -> bool:
        """
        Is an answer being made?
        """
        return False

    def goodbye(self) -> None:
        """
        Tell the peer that the server closes the connection.
        """

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        if super().inFlight(transport):
            return True
        return self.busy() and not transport.disconnecting

    def drain(self, transport: Any) -> None:
        """
        See L{IConversation.drain}.
        """
        clock = clockOf(transport)
        begun = clock.seconds()

        def look() -> None:
            if transport.protocol is None:
                return  # the connection has ended
            patient = self.patience is None or clock.seconds() < begun + self.patience
            if self.busy() and patient:
                # These protocols have no event for a complete answer.
                clock.callLater(self._pause, look)
            else:
                self.goodbye()
                transport.loseConnection()

        look()


def clockOf(transport: Any) -> Any:
    """
    The clock for the timers of a connection.
    """
    clock = getattr(transport, "reactor", None)
    if clock is None:
        from twisted.internet import reactor as clock
    return clock


_Calls = list[Callable[[], object]]
#: For each clock, the calls that are made together, and the time (on that clock)
#: until which another call may join them.
_together: WeakKeyDictionary[Any, tuple[float, _Calls]] = WeakKeyDictionary()
#: A call may be early by this share of its delay.
_SHARE = 0.1


def together(clock: Any, seconds: float, call: Callable[[], object]) -> None:
    """
    Call C{call} in C{seconds}, or up to a tenth earlier, after all that has arrived
    by then was read.  A drain asks for as many such calls as there are connections,
    and one C{DelayedCall} serves those that are asked for at about the same time.

    @param seconds: always the same number for the same clock.
    """
    now = clock.seconds()
    until, calls = _together.get(clock, (now - 1, []))
    if not now <= until <= now + _SHARE * seconds:
        calls = []
        _together[clock] = now + _SHARE * seconds, calls
        # The reactor reads what has arrived before it makes the inner call.
        clock.callLater(seconds, clock.callLater, 0, _callAll, calls)
    calls.append(call)


def _callAll(calls: _Calls) -> None:
    for call in calls:
        try:
            call()
        except Exception:  # the other calls are made all the same
            _log.failure("{call} has failed", call=call)
    calls.clear()  # _together still has the list


class Silent(Conversation):
    """
    Nothing is in flight, and nothing is sent: for a protocol that cannot send any more.
    """

    def inFlight(self, transport: Any) -> bool:
        """
        See L{IConversation.inFlight}.
        """
        return False


SILENT = Silent(None)

__all__ = [
    "SILENT",
    "Conversation",
    "Courteous",
    "Silent",
    "clockOf",
    "standing",
    "stands",
    "together",
]
