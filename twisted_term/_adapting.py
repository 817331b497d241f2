"""
Finding the adapter of a protocol, or of its factory, to an interface.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.policies import ProtocolWrapper
from twisted.python.components import getRegistry
from zope.interface import providedBy

_lookup = getRegistry().lookup1


def mayAdapt(interface: Any, what: Any) -> bool:
    """
    May there be an adapter?  Most objects have none.  This asks Twisted's registry
    for the class, which is quick; a call of the interface would go through its hooks,
    which are Python code.
    """
    provided = providedBy(what)
    return (
        _lookup(provided, interface) is not None
        or provided.isOrExtends(interface)
        or getattr(what, "__conform__", None) is not None
    )


def adapted(interface: Any, what: Any) -> Any:
    """
    The same as C{interface(what, None)}, but quicker where there is no adapter.
    """
    if not mayAdapt(interface, what):
        return None
    adapt = _lookup(providedBy(what), interface)
    return interface(what, None) if adapt is None else adapt(what)


def ofApplication(interface: Any, protocol: Any) -> tuple[Any, Any]:
    """
    Look for an adapter of a protocol, of the protocols inside of it if it is a
    wrapper, and of the factory of the innermost protocol.

    @return: the adapter, or C{None}; and that factory, or C{None}.
    """
    found = adapted(interface, protocol)
    while found is None and issubclass(type(protocol), ProtocolWrapper):
        protocol = protocol.wrappedProtocol
        found = adapted(interface, protocol)
    factory = getattr(protocol, "factory", None)
    if found is None and factory is not None:
        found = adapted(interface, factory)
    return found, factory


__all__ = ["adapted", "mayAdapt", "ofApplication"]
