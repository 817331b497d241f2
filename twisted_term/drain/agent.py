"""
HAProxy's agent check: a port that says whether new connections are welcome.  The
server itself may speak any protocol.

Source: HAProxy's configuration manual, 5.2, C{agent-check}.
"""

from __future__ import annotations

import typing
from collections.abc import Sized
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from ..connection.wrapping import TerminationMixin
from ..policy import TerminationPolicy


class Served(typing.Protocol):
    """
    The service that the agent tells of, such as a L{twisted_term.DrainingService}.
    """

    @property
    def draining(self) -> bool:
        """
        Has a drain begun?
        """

    @property
    def ports(self) -> Sized:
        """
        The ports that listen.
        """


def agentState(served: Served) -> bytes:
    """
    The word for HAProxy: C{up ready} while C{served} serves, C{drain} during
    C{readinessDelay}, and C{stopped} after C{served} has stopped listening.  HAProxy
    treats C{drain} as an order of the administrator, so it is in force until the next
    process says C{ready}.
    """
    if not served.ports:
        return b"stopped"
    return b"drain" if served.draining else b"up ready"


class Agent(TerminationMixin, Protocol):
    """
    Sends the L{agentState} in a line, and closes.  It ignores what the peer sends
    (C{agent-send}).
    """

    terminationPolicy = TerminationPolicy(flushTimeout=2, lingerTime=2)
    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        """
        Answer.
        """
        self.transport.write(agentState(self.factory.served) + b"\n")
        self.transport.loseConnection()


class AgentFactory(Factory):
    """
    Answers HAProxy's agent checks.  It must answer until the drain is over, so
    listen with it by a C{StreamServerEndpointService}, or by a
    L{twisted_term.DrainingService} that has C{onSignal=False}::

        server s1 10.0.0.1:8023 check agent-check agent-port 8025 agent-inter 1s

    C{agent=8025} in an endpoint string does all of that.
    """

    protocol = Agent
    noisy = False

    def __init__(self, served: Served) -> None:
        """
        @param served: the service that the agent tells of.
        @raise TypeError: for an object without C{draining} or C{ports}.
        """
        for name in ("draining", "ports"):
            if not hasattr(served, name):
                raise TypeError(
                    f"{served!r}: must be a DrainingService, or have draining and"
                    " ports as it does"
                )
        self.served = served


__all__ = ["Agent", "AgentFactory", "Served", "agentState"]
