"""
Twisted's own transport tests, over wrapped connections: on the reactor that
C{TEST_REACTOR} names, or else on each of the epoll and select reactors.  They
build reactors of their own.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.test import test_tcp, test_tls
from twisted.trial.unittest import SynchronousTestCase

from twisted_term import TerminatingFactory, TerminationPolicy

#: Tests of Twisted's that are skipped, and why.
DEVIATIONS: dict[str, str] = {
    "test_addresses": "it asserts the repr() of Twisted's own transport class",
    "test_serverAddressTCP4": "it compares the repr() of the transport",
    "test_serverAddressTCP6": "it compares the repr() of the transport",
    "test_resumeProducingWhileDisconnecting": "a lingering close goes on reading",
}


#: One of the tests has a peer that never stops sending.
_POLICY = TerminationPolicy(lingerTime=1.0)
_REACTORS = {
    "epoll": ("EPollReactor",),
    "poll": ("PollReactor",),
    "select": ("SelectReactor",),
    "asyncio": ("AsyncioSelectorReactor",),
    "uvloop": ("AsyncioSelectorReactor",),
}.get(os.environ.get("TEST_REACTOR", ""), ("EPollReactor", "SelectReactor"))


def _uvloopReactor() -> AsyncioSelectorReactor:
    import uvloop

    return AsyncioSelectorReactor(uvloop.new_event_loop())


class Wrapping:
    """
    Wraps all that a built reactor listens or connects with.
    """

    def buildReactor(self) -> Any:
        reactor = super().buildReactor()  # type: ignore[misc]
        listen, connect = reactor.listenTCP, reactor.connectTCP
        reactor.listenTCP = lambda port, factory, *args, **kwargs: listen(
            port, TerminatingFactory(factory, _POLICY), *args, **kwargs
        )
        reactor.connectTCP = lambda host, port, factory, *args, **kwargs: connect(
            host, port, TerminatingFactory(factory, _POLICY), *args, **kwargs
        )
        # Our abort resets at once, so that the aborting side is the last one to
        # hear of it, in a delayed call.  An asyncio reactor that is stopped in
        # one leaves behind the call with which it wakes itself up.
        delayed = reactor.getDelayedCalls
        reactor.getDelayedCalls = lambda: [
            call
            for call in delayed()
            if "AsyncioSelectorReactor.stop" not in call.func.__qualname__
        ]
        return reactor


class ClientBuilder(Wrapping, test_tcp.TCP4ClientTestsBuilder):
    pass


class ConnectionBuilder(Wrapping, test_tcp.TCPConnectionTestsBuilder):
    pass


class TransportBuilder(Wrapping, test_tcp.TCPTransportTestsBuilder):
    pass


class AbortBuilder(Wrapping, test_tcp.AbortConnectionTests):
    pass


class SSLClientBuilder(Wrapping, test_tls.SSLClientTestsMixin):
    pass


class StartTLSBuilder(Wrapping, test_tls.StartTLSClientTestsMixin):
    pass


class AbortSSLBuilder(Wrapping, test_tls.AbortSSLConnectionTests):
    pass


_BUILDERS = (
    AbortSSLBuilder,
    SSLClientBuilder,
    StartTLSBuilder,
    ClientBuilder,
    ConnectionBuilder,
    TransportBuilder,
    AbortBuilder,
)
for _builder in _BUILDERS:
    for _name, _reason in DEVIATIONS.items():
        if hasattr(_builder, _name):
            setattr(_builder, _name, lambda self, why=_reason: self.skipTest(why))
    for _name, _case in _builder.makeTestCaseClasses().items():
        if _name.endswith(tuple(f"_{reactor}Tests" for reactor in _REACTORS)):
            if os.environ.get("TEST_REACTOR") == "uvloop":
                _case.reactorFactory = staticmethod(_uvloopReactor)
            globals()[_name] = _case


class DeviationTests(SynchronousTestCase):
    def test_named(self) -> None:
        """
        Each deviation names a test that Twisted has.
        """
        for name in DEVIATIONS:
            self.assertTrue(any(hasattr(builder, name) for builder in _BUILDERS), name)
