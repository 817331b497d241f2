"""
Clean termination of connections, for Twisted.
"""

from .endpoints import TerminatingClientEndpoint, TerminatingServerEndpoint
from .interfaces import IHold, ITerminableTransport, ITerminationListener
from .policy import TerminationPolicy
from .protocol import TerminatingFactory, TerminationMixin
from .report import Initiator, Outcome, State, Termination
from .transport import TerminatingTransport

__all__ = [
    "IHold",
    "ITerminableTransport",
    "ITerminationListener",
    "Initiator",
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
