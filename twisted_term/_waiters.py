"""
Telling several callers of one event.
"""

from __future__ import annotations

from typing import Generic, Optional, TypeVar

from twisted.internet.defer import Deferred, succeed

_T = TypeVar("_T")


class Waiters(Generic[_T]):
    """
    A result that comes once.  Each caller gets a Deferred of its own, before the
    result has come or after it.
    """

    # A dict keeps the order, and a cancelled Deferred is quickly removed from it.
    _waiting: Optional[dict[Deferred[_T], None]]

    def __init__(self) -> None:
        self._waiting = {}

    @property
    def fired(self) -> bool:
        """
        Has the result come?
        """
        return self._waiting is None

    def wait(self) -> Deferred[_T]:
        """
        @return: a Deferred of the result; a new one for each call.  A Deferred that
            is cancelled is forgotten.
        """
        if self._waiting is None:
            return succeed(self._result)
        done: Deferred[_T] = Deferred(self._forget)
        self._waiting[done] = None
        return done

    def _forget(self, done: Deferred[_T]) -> None:
        if self._waiting is not None:
            self._waiting.pop(done, None)

    def fire(self, result: _T) -> None:
        """
        Give the result to all Deferreds.  After a second call, C{wait} returns the
        last result.
        """
        waiting, self._waiting = self._waiting or {}, None
        self._result = result
        for done in waiting:
            if not done.called:  # a callback of an earlier one may have cancelled it
                done.callback(result)


__all__ = ["Waiters"]
