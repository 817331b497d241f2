"""
Waiting for connections to end, in tests of servers and clients.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from .._waiters import Waiters
from ..connection.transport import TerminatingTransport


class LastEnd:
    """
    Waits until the last connection of a test has ended.

    In bare Twisted C{loseConnection} most often closes in the same call.  Here it
    waits for the peer, so that a test may be over before its connections are, and
    trial calls the reactor unclean.  A suite that relied on the immediate close says
    in C{setUp}::

        self.lastEnd = LastEnd(self)

    From then on all connections are counted, in whichever way they are made.  The
    clean-up of the test waits for their end.  Clean-ups that are added later, such as
    the closing of ports, run before that.  A test may also wait for the end itself::

        yield self.lastEnd.wait()
    """

    def __init__(self, case: Any) -> None:
        """
        @param case: trial's C{TestCase}.
        """
        self._living = 0
        self._waiting: Waiters[None] = Waiters()
        made = TerminatingTransport.__init__

        def init(transport: Any, *args: Any, **kwargs: Any) -> None:
            made(transport, *args, **kwargs)
            self._living += 1
            transport.callWhenTerminated(self._ended)

        case.patch(TerminatingTransport, "__init__", init)
        case.addCleanup(self.wait)

    def _ended(self, report: object) -> None:
        self._living -= 1
        if not self._living:
            waiting, self._waiting = self._waiting, Waiters()
            waiting.fire(None)

    def wait(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when no connection lives, now or after the end
            of the last one; a new one for each call.
        """
        return self._waiting.wait() if self._living else succeed(None)


__all__ = ["LastEnd"]
