"""
With C{python -X dev}, a call from another thread raises where it is made.

Twisted's transports, and so these, belong to the thread of the reactor.  A call
from another thread seems to work most of the time, but it can lose data.
"""

from __future__ import annotations

import threading
from functools import wraps
from typing import Any, Callable

from twisted.python import threadable

from .hold import Hold
from .transport import TerminatingTransport

#: Properties that return the methods of the wrapped transport.
_PASSED = ("write", "writeSequence")


def guard() -> None:
    """
    From now on, a method of a transport or a hold that is called in another
    thread than the reactor's raises C{RuntimeError}.  Without a call of this function
    no method is slower.
    """
    for cls in (TerminatingTransport, Hold):
        for name, found in list(vars(cls).items()):
            if callable(found) and not name.startswith("_"):
                setattr(cls, name, _guarded(found, f"{cls.__name__}.{name}"))
            elif name in _PASSED:
                setattr(cls, name, _guardedResult(found, f"{cls.__name__}.{name}"))


def _guardedResult(found: property, name: str) -> property:
    return property(
        lambda owner: _guarded(found.__get__(owner), name), found.fset, found.fdel
    )


def _guarded(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        # While no reactor has run, as in a test with a Clock, any thread may call.
        if threadable.ioThread is not None and not threadable.isInIOThread():
            raise RuntimeError(
                f"{name}() was called in the thread"
                f" {threading.current_thread().name!r}: only the reactor's thread may;"
                " use reactor.callFromThread"
            )
        return method(*args, **kwargs)

    return call


__all__ = ["guard"]
