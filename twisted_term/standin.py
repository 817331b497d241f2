"""
An object that stands in for another one.

Twisted's transports and protocols are asked for far more than their
interfaces name: for attributes, for interfaces that they may provide, for
their class (C{isinstance(transport, TLSMemoryBIOProtocol)}), and for their
identity (a reactor's set of readers).  What stands between the two must not be
noticed, and the rule for that is here, once: what the class of the stand-in
defines is its own, and all else is the subject's.  It is the rule of
C{weakref.proxy}, of wrapt and of zope.proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import providedBy
from zope.interface.declarations import Declaration

#: So many declarations are kept.  Each keeps its class, which may have been made
#: at run time; and few programs have more classes of transports.
_KEPT = 64


class _Declared:
    """
    What the stand-ins of one class provide.  A declaration is slow to make;
    subjects of one class provide the same, and most often it is the one that
    was asked for last.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, Any] = (None, None)
        # By identity: for zope.interface, classes of one name are equal.
        self._known: dict[int, tuple[Any, Any]] = {}

    def find(self, adds: tuple[Any, ...], provided: Any) -> Any:
        last, declaration = self._last
        if last is provided:
            return declaration
        found = self._known.get(id(provided))
        if found is None:
            if len(self._known) == _KEPT:
                self._known.clear()
            found = provided, Declaration(*adds, provided)
            self._known[id(provided)] = found
        self._last = found
        return found[1]


class StandIn:
    """
    @cvar _adds: the interfaces that it provides beside those of the subject.
    """

    __slots__ = ("__weakref__", "_subject")

    _adds: tuple[Any, ...] = ()
    _declared = _Declared()
    _subject: Any

    def __init_subclass__(cls) -> None:
        cls._declared = _Declared()
        # zope.interface gives each class that has none one of its own.
        cls.__provides__ = StandIn.__dict__["__provides__"]  # type: ignore[method-assign]

    def __init__(self, subject: Any) -> None:
        _setSubject(self, subject)

    # A type checker that sees these takes every misspelt name for right.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name == "_subject":  # it is not there yet: do not look in itself
                raise AttributeError(name)
            return getattr(self._subject, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if hasattr(type(self), name):
                try:
                    object.__setattr__(self, name, value)
                    return
                except AttributeError:
                    pass  # a method, and there is no room for another one
            setattr(self._subject, name, value)

        def __delattr__(self, name: str) -> None:
            if hasattr(type(self), name):
                try:
                    object.__delattr__(self, name)
                    return
                except AttributeError:
                    pass
            delattr(self._subject, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._subject)})

    if not TYPE_CHECKING:  # which takes it for that of the class, too

        @property
        def __dict__(self) -> Any:
            return self._subject.__dict__

    # isinstance() asks for the class of the stand-in first, and then for this.
    @property
    def __class__(self) -> type:
        return self._subject.__class__

    @__class__.setter
    def __class__(self, made: type) -> None:
        self._subject.__class__ = made

    # select() and asyncio's reactors look a descriptor up in a set.
    def __eq__(self, other: object) -> bool:
        if issubclass(type(other), StandIn):
            other = other._subject  # type: ignore[attr-defined]
        return bool(self._subject == other)

    def __hash__(self) -> int:
        return hash(self._subject)

    # directlyProvides() sets this one, and it is the subject that is to have it.
    @property
    def __provides__(self) -> Any:
        return self._subject.__provides__

    @__provides__.setter
    def __provides__(self, declaration: Any) -> None:
        self._subject.__provides__ = declaration

    @property
    def __providedBy__(self) -> Any:
        return self._declared.find(self._adds, providedBy(self._subject))


_setSubject = StandIn.__dict__["_subject"].__set__

__all__ = ["StandIn"]
