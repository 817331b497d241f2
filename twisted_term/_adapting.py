"""
Finding who knows what, by an interface.
"""

from __future__ import annotations

from typing import Any

from twisted.python.components import getRegistry
from zope.interface import providedBy

_lookup = getRegistry().lookup1


def adapted(interface: Any, what: Any) -> Any:
    """
    The same as C{interface(what, None)}.  Most have no adapter, and Twisted's
    registry knows that of a class at once; the interface would go through its
    hooks, in Python, and each connection asks some of them.
    """
    provided = providedBy(what)
    adapt = _lookup(provided, interface)
    if adapt is not None:
        return adapt(what)
    if getattr(what, "__conform__", None) is None and not provided.isOrExtends(
        interface
    ):
        return None
    return interface(what, None)


__all__ = ["adapted"]
