"""
Clean termination of connections, for Twisted: FIN goes out when everything in
flight has been sent, every wait is bounded, and a report says how it ended.

Three ways to use it:

  - L{TerminationMixin}, before a protocol class: C{class Echo(TerminationMixin,
    LineReceiver)}.
  - L{TerminatingFactory}, around a factory; or L{TerminatingServerEndpoint} and
    L{TerminatingClientEndpoint}, around an endpoint.
  - C{term:} before an endpoint string, such as C{term:tcp:8080:lingerTime=10}.

What a connection has:

  - L{TerminatingTransport}: C{self.transport} of a protocol that is wrapped in one
    of these ways.  L{ITerminableTransport} says what each of its methods does.
  - L{Hold}, an L{IHold}: what C{transport.hold()} returns; work is in flight until
    it is released.
  - L{TerminationPolicy}: the limits on a connection that is ending.
  - L{State}: where a connection is between open and closed.

How it ended:

  - L{Termination}: the report, with an L{Outcome} and an L{Initiator}.
  - L{ITerminationListener}: a protocol that is given the report.
  - L{ITerminationHook}: a protocol, or a factory, that decides how a connection
    ends.

Stopping a server:

  - L{DrainingService}: listens, and drains when it is stopped.
  - L{DrainReport}: how a drain went.
  - L{IDrainable}: a factory that ends its connections itself.
  - L{IDrainListener}: a factory that is told when a drain begins.
  - L{AgentFactory}: tells HAProxy that a drain has begun.

Watching a server:

  - L{Monitor}: knows the connections, for the page and the metrics of
    L{twisted_term.status}.

Beside this module there are L{twisted_term.web}, L{twisted_term.testing},
L{twisted_term.interfaces} and L{twisted_term.applications}.
"""

import sys

from ._version import __version__
from .connection.hold import Hold
from .connection.report import Initiator, Outcome, State, Termination
from .connection.transport import TerminatingTransport
from .connection.wrapping import TerminatingFactory, TerminationMixin
from .drain.agent import AgentFactory
from .drain.report import DrainReport
from .drain.service import DrainingService
from .endpoints import TerminatingClientEndpoint, TerminatingServerEndpoint
from .interfaces import (
    IDrainable,
    IDrainListener,
    IHold,
    ITerminableTransport,
    ITerminationHook,
    ITerminationListener,
)
from .policy import TerminationPolicy
from .status.monitor import Monitor

if sys.flags.dev_mode:  # python -X dev
    from .connection.threads import guard

    guard()

# From what is needed first to what is needed last.
__all__ = [  # noqa: RUF022
    "TerminationMixin",
    "TerminatingFactory",
    "TerminatingServerEndpoint",
    "TerminatingClientEndpoint",
    "TerminatingTransport",
    "ITerminableTransport",
    "Hold",
    "IHold",
    "TerminationPolicy",
    "State",
    "Termination",
    "Outcome",
    "Initiator",
    "ITerminationListener",
    "ITerminationHook",
    "DrainingService",
    "DrainReport",
    "IDrainable",
    "IDrainListener",
    "AgentFactory",
    "Monitor",
    "__version__",
]
