"""
Wrong arguments, found where they are given: one line that names the argument,
its value and what is allowed.
"""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import AbstractDatagramProtocol

from .policy import TerminationPolicy

#: Thirty years, in seconds.  No reactor has to wait longer.
_MOST = 1_000_000_000


def checkSeconds(name: str, value: object, unlimited: bool = False) -> None:
    """
    @param unlimited: is C{None} allowed?
    @raise ValueError: for a negative time, or one beyond thirty years.
    @raise TypeError: for what is no number.
    """
    if value is None and unlimited:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        allowed = "a number of seconds" + (
            ", or None for no limit" if unlimited else ""
        )
        raise TypeError(f"{name}={value!r}: must be {allowed}")
    if not value >= 0:
        raise ValueError(f"{name}={value!r}: must be 0 seconds or more")
    if value > _MOST:
        raise ValueError(f"{name}={shorten(value)}: must be {_MOST} seconds or less")


def checkPolicy(policy: object, name: str = "policy") -> None:
    """
    @raise TypeError: for what is neither a policy nor C{None}.
    """
    if policy is not None and not isinstance(policy, TerminationPolicy):
        raise TypeError(f"{name}={policy!r}: must be a TerminationPolicy, or None")


def checkEndpoint(endpoint: Any, method: str, example: str) -> None:
    """
    @param method: what it must have: C{listen} or C{connect}.
    @param example: the function that makes one of a string.
    @raise TypeError: for what is no endpoint.
    """
    if isinstance(endpoint, type) or not callable(getattr(endpoint, method, None)):
        raise TypeError(
            f"endpoint={endpoint!r}: must be an endpoint, which has {method}();"
            f" {example}(reactor, ...) makes one of a string"
        )


def checkFactory(factory: Any, name: str = "factory") -> None:
    """
    @raise TypeError: for what is no factory of protocols.
    """
    if isinstance(factory, type) or not callable(
        getattr(factory, "buildProtocol", None)
    ):
        raise TypeError(
            f"{name}={factory!r}: must be a factory, which has buildProtocol();"
            " Factory.forProtocol(...) makes one of a protocol class"
        )


def checkMixin(cls: type, mixin: type) -> None:
    """
    Check a class that C{mixin} is mixed into.

    @raise TypeError: for a class that names its protocol before the mixin, so that
        the mixin's methods are never called, for a protocol for datagrams, and for a
        C{terminationPolicy} that is no policy.
    """
    at = cls.__mro__.index(mixin)
    before, behind = cls.__mro__[:at], cls.__mro__[at + 1 :]
    if issubclass(cls, AbstractDatagramProtocol):
        raise TypeError(
            f"class {cls.__name__}: {mixin.__name__} is for protocols on streams, and"
            " a DatagramProtocol has no connection that could end"
        )
    first = [
        base.__name__
        for base in before
        if IProtocol.implementedBy(base) and not issubclass(base, mixin)
    ]
    if first and not any(hasattr(base, "makeConnection") for base in behind):
        raise TypeError(
            f"class {cls.__name__}: {mixin.__name__} must come before the protocol:"
            f" class {cls.__name__}({mixin.__name__}, {first[0]})"
        )
    policy = cls.__dict__.get("terminationPolicy")
    if not hasattr(policy, "__get__"):  # else it is a property
        checkPolicy(policy, f"class {cls.__name__}: terminationPolicy")


def checkFlag(name: str, value: object) -> None:
    """
    @raise TypeError: for what is neither C{True} nor C{False}.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: must be True or False")


__all__ = [
    "checkEndpoint",
    "checkFactory",
    "checkFlag",
    "checkMixin",
    "checkPolicy",
    "checkSeconds",
]
