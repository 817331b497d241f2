"""
For tests of protocols that half-close, and of transports that terminate.

L{memoryPair} connects two protocols by a connection in memory that half-closes
and resets as TCP does; Twisted's own C{StringTransport} and C{iosim} do
neither.  L{TerminableTransportTests} is what any
L{twisted_term.interfaces.ITerminableTransport} can be held against.
"""

from .conformance import Peer, TerminableTransportTests, Terminated
from .memory import MemoryTransport, memoryPair

__all__ = [
    "MemoryTransport",
    "Peer",
    "TerminableTransportTests",
    "Terminated",
    "memoryPair",
]
