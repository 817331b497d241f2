"""
How an application decides itself how its connections end.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

from .._adapting import adapted, ofApplication
from ..interfaces import ITerminationHook
from ..policy import TerminationPolicy
from .report import Initiator, Outcome

_log = Logger()


class Hook:
    """
    The L{ITerminationHook} of one application, for the end of one connection.
    """

    __slots__ = ("_closing", "_hook")

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self._closing: Optional[Deferred[Any]] = None

    def policy(
        self, transport: Any, initiator: Initiator
    ) -> Optional[TerminationPolicy]:
        """
        Ask the application which policy this end has.

        @return: C{None} if the policy stays as it is.
        """
        ask = getattr(self._hook, "endBegins", None)
        if ask is None:
            return None
        try:
            found = ask(transport, initiator)
        except Exception:
            self._failed()
            return None
        if found is None or isinstance(found, TerminationPolicy):
            return found
        _log.error(
            "endBegins of {hook} has returned {found}: must be a TerminationPolicy,"
            " or None",
            hook=repr(self._hook),
            found=repr(found),
        )
        return None

    def beforeClose(self, transport: Any, done: Callable[[bool], object]) -> None:
        """
        Tell the application that the socket is about to be closed, and wait for it.

        @param done: called when the application is done, with C{True} if it has
            taken the socket.
        """
        ask = getattr(self._hook, "beforeClose", None)
        if ask is None:
            done(False)
            return
        closing = self._closing = maybeDeferred(ask, transport)

        def finished(result: Any) -> None:
            if self._closing is not None:
                self._closing = None
                if isinstance(result, Failure):
                    self._failed(result)
                done(result is Outcome.TAKEN)
            elif isinstance(result, Failure) and not result.check(CancelledError):
                self._failed(result)

        closing.addBoth(finished)

    def forget(self) -> None:
        """
        The connection has ended: stop waiting for the application.
        """
        closing, self._closing = self._closing, None
        if closing is None:
            return
        _log.warn("beforeClose of {hook} is too late", hook=repr(self._hook))
        try:
            closing.cancel()
        except Exception:
            self._failed()

    def _failed(self, failure: Optional[Failure] = None) -> None:
        _log.failure("{hook} has failed", failure, hook=repr(self._hook))


def hookOf(gate: Any) -> Optional[Hook]:
    """
    The hook for a connection, if its application has one.

    @param gate: the gate before the application.
    """
    found, own = ofApplication(ITerminationHook, gate.application)
    factory = gate.builder() if found is None else None
    while found is None and factory is not own and factory is not None:
        found = adapted(ITerminationHook, factory)
        wraps = isinstance(factory, WrappingFactory)
        factory = factory.wrappedFactory if wraps else None
    return None if found is None else Hook(found)


__all__ = ["Hook", "hookOf"]
