"""
Telling several callers of one event.
"""

from __future__ import annotations

from typing import Generic, Optional, TypeVar

from twisted.internet.defer import Deferred, succeed

_T = TypeVar("_T")


class Waiters(Generic[_T]):
    """
    A result that comes once, and a Deferred of it for everybody who asks,
    before or after.
    """

    # A dict keeps the order, and forgets one that is cancelled at once.
    _waiting: Optional[dict[Deferred[_T], None]]

    def __init__(self) -> None:
        self._waiting = {}

    @property
    def fired(self) -> bool:
        """
        Has it come?
        """
        return self._waiting is None

    def wait(self) -> Deferred[_T]:
        """
        @return: a Deferred of the result; a new one for each call.  One that
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
        Here it is.
        """
        waiting, self._waiting = self._waiting or {}, None
        self._result = result
        for done in waiting:
            if not done.called:  # cancelled by one that was told before it
                done.callback(result)


__all__ = ["Waiters"]
