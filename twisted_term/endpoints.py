"""
Endpoints whose connections end without losing data.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from zope.interface import implementer

from .policy import TerminationPolicy
from .protocol import TerminatingFactory


@implementer(IStreamServerEndpoint)
class TerminatingServerEndpoint:
    """
    Wraps a server endpoint.  Wrapping one that is wrapped changes nothing.
    """

    def __init__(self, endpoint: Any, policy: Optional[TerminationPolicy] = None):
        self.endpoint = endpoint
        self.policy = policy

    def listen(self, factory: Any) -> Deferred[Any]:
        """
        Listen with a wrapped factory.
        """
        if isinstance(self.endpoint, TerminatingServerEndpoint):
            return self.endpoint.listen(factory)
        return self.endpoint.listen(TerminatingFactory(factory, self.policy))


@implementer(IStreamClientEndpoint)
class TerminatingClientEndpoint:
    """
    Wraps a client endpoint.  Wrapping one that is wrapped changes nothing.
    """

    def __init__(self, endpoint: Any, policy: Optional[TerminationPolicy] = None):
        self.endpoint = endpoint
        self.policy = policy

    def connect(self, factory: Any) -> Deferred[Any]:
        """
        Connect with a wrapped factory.

        @return: a Deferred of the protocol that C{factory} built.
        """
        if isinstance(self.endpoint, TerminatingClientEndpoint):
            return self.endpoint.connect(factory)
        wrapped = TerminatingFactory(factory, self.policy)
        connecting: Deferred[Any] = self.endpoint.connect(wrapped)
        return connecting.addCallback(lambda built: built.application)


__all__ = ["TerminatingClientEndpoint", "TerminatingServerEndpoint"]
