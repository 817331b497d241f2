"""
Wrong arguments, found where they are given: one line that names the argument,
its value and what is allowed.
"""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Any

from .policy import TerminationPolicy

#: Thirty years.  Reactors cannot wait for ever, and it is no float's limit.
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


def checkPolicy(policy: object) -> None:
    """
    @raise TypeError: for what is neither a policy nor C{None}.
    """
    if policy is not None and not isinstance(policy, TerminationPolicy):
        raise TypeError(f"policy={policy!r}: must be a TerminationPolicy, or None")


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


def checkFactory(factory: Any) -> None:
    """
    @raise TypeError: for what is no factory of protocols.
    """
    if isinstance(factory, type) or not callable(
        getattr(factory, "buildProtocol", None)
    ):
        raise TypeError(
            f"factory={factory!r}: must be a factory, which has buildProtocol();"
            " Factory.forProtocol(...) makes one of a protocol class"
        )


__all__ = ["checkEndpoint", "checkFactory", "checkPolicy", "checkSeconds"]
