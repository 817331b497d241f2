"""
For tests of protocols that half-close, and of transports that terminate.

L{memoryPair} connects two protocols by a connection in memory that half-closes
and resets as TCP does; Twisted's own C{StringTransport} and C{iosim} do
neither.  L{StringTransport} shows what a protocol has written, and keeps the
reactor clean.  L{LastEnd} waits for the end of all connections of a test.
L{TerminableTransportTests} are the tests that each
L{twisted_term.interfaces.ITerminableTransport} must pass.
"""

from .conformance import Peer, TerminableTransportTests, Terminated
from .ends import LastEnd
from .memory import MemoryTransport, memoryPair
from .string import StringTransport

__all__ = [
    "LastEnd",
    "MemoryTransport",
    "Peer",
    "StringTransport",
    "TerminableTransportTests",
    "Terminated",
    "memoryPair",
]
