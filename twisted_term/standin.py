"""
An object that stands in for another one.

Other code asks Twisted's transports and protocols for more than their interfaces
name: for attributes, for interfaces that they may provide, for their class
(C{isinstance(transport, TLSMemoryBIOProtocol)}), and for their identity (a
reactor's set of readers).  It must not notice an object that stands in for one of
them.  The rule of that is here: an attribute that the class of the stand-in defines
is the stand-in's own, and every other one is the subject's.  C{weakref.proxy}, wrapt
and zope.proxy have the same rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import providedBy
from zope.interface.declarations import Declaration

#: At most this many declarations are kept.  Each keeps its class alive, and a class
#: may have been made at run time.  Few programs have more classes of transports.
_KEPT = 64


class _Declared:
    """
    The interfaces that the stand-ins of one class provide.  A declaration is slow to
    make, so they are kept by the subject's class.  Most often the one that was asked
    for last is asked for again.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, Any] = (None, None)
        # The key is the identity of the declaration, because zope.interface takes
        # classes of one name for equal.
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
    @cvar _adds: the interfaces that the stand-in provides beside the subject's.
    """

    __slots__ = ("__weakref__", "_subject")

    _adds: tuple[Any, ...] = ()
    _declared = _Declared()
    _subject: Any

    def __init_subclass__(cls) -> None:
        cls._declared = _Declared()
        # zope.interface would give the class a __provides__ of its own.
        cls.__provides__ = StandIn.__dict__["__provides__"]  # type: ignore[method-assign]

    def __init__(self, subject: Any) -> None:
        _setSubject(self, subject)

    # If a type checker saw these, it would accept every misspelt name.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name == "_subject":  # it is not there yet, and this would call itself
                raise AttributeError(name)
            return getattr(self._subject, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if hasattr(type(self), name):
                try:
                    object.__setattr__(self, name, value)
                    return
                except AttributeError:
                    pass  # a method, and the stand-in has no __dict__ to replace it in
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

    if not TYPE_CHECKING:  # a type checker would take it for that of the class, too

        @property
        def __dict__(self) -> Any:
            return self._subject.__dict__

    # isinstance() asks for type(standIn) first, and then for this.
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

    # directlyProvides() sets this, and the subject is to have it.
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
