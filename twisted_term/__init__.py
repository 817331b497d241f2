"""
Clean termination of connections, for Twisted.
"""

from .connection.report import Initiator, Outcome, State, Termination
from .connection.transport import TerminatingTransport
from .connection.wrapping import TerminatingFactory, TerminationMixin
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

__all__ = [
    "DrainReport",
    "DrainingService",
    "IDrainListener",
    "IDrainable",
    "IHold",
    "ITerminableTransport",
    "ITerminationHook",
    "ITerminationListener",
    "Initiator",
    "Monitor",
    "Outcome",
    "State",
    "TerminatingClientEndpoint",
    "TerminatingFactory",
    "TerminatingServerEndpoint",
    "TerminatingTransport",
    "Termination",
    "TerminationMixin",
    "TerminationPolicy",
]
