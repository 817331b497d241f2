"""
Clean termination of connections, for Twisted.
"""

from .drain import DrainReport
from .endpoints import TerminatingClientEndpoint, TerminatingServerEndpoint
from .interfaces import IDrainable, IHold, ITerminableTransport, ITerminationListener
from .monitor import Monitor
from .policy import TerminationPolicy
from .protocol import TerminatingFactory, TerminationMixin
from .report import Initiator, Outcome, State, Termination
from .service import DrainingService
from .transport import TerminatingTransport

__all__ = [
    "DrainReport",
    "DrainingService",
    "IDrainable",
    "IHold",
    "ITerminableTransport",
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
