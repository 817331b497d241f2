"""
Telling several callers of one end.
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

    _waiting: Optional[list[Deferred[_T]]]

    def __init__(self) -> None:
        self._waiting = []

    @property
    def fired(self) -> bool:
        """
        Has it come?
        """
        return self._waiting is None

    def wait(self) -> Deferred[_T]:
        """
        @return: a Deferred of the result; a new one for each call.
        """
        if self._waiting is None:
            return succeed(self._result)
        done: Deferred[_T] = Deferred()
        self._waiting.append(done)
        return done

    def fire(self, result: _T) -> None:
        """
        Here it is.
        """
        waiting, self._waiting = self._waiting or [], None
        self._result = result
        for done in waiting:
            done.callback(result)


__all__ = ["Waiters"]
