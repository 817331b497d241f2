"""
A status page for any server behind C{term:}: C{term:tcp:8080:status=8024}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure
from twisted.web.server import Site
from zope.interface import implementer

from ..connection.wrapping import TerminatingFactory
from ..drain.drainer import LiveFactory
from ..drain.port import CarefulPort
from .monitor import Monitor
from .resource import StatusResource

#: A browser may keep an idle connection open long after our FIN.  The page must
#: show the drain of the watched port until that is over.
_OPTIONS = "lingerIdle=1:drainTimeout=2:onSignal=no"


@implementer(IStreamServerEndpoint)
class WatchedServerEndpoint:
    """
    Stands inside of a L{twisted_term.TerminatingServerEndpoint}, knows all
    connections that come through it, and serves a L{StatusResource} about them
    on another endpoint.  The page is there while the port listens or one of its
    connections lives.

    @ivar monitor: what the page shows.
    """

    def __init__(
        self, reactor: Any, endpoint: Any, name: str, status: str, statusHosts: str = ""
    ) -> None:
        """
        @param endpoint: what is watched.
        @param name: the name of the monitor.
        @param status: where the page is: a port of 127.0.0.1, or the string of
            an endpoint.
        @param statusHosts: names with commas in between, see L{StatusResource}.
        @raise ValueError: for a C{status} that is neither.
        """
        self._endpoint = endpoint
        self.monitor = Monitor(name=name)
        hosts = [host for host in statusHosts.split(",") if host]
        self._resource = StatusResource(self.monitor, hosts=hosts)
        where = f"tcp:{status}:interface=127.0.0.1" if status.isdecimal() else status
        try:
            self._status = serverFromString(reactor, f"term:{where}:{_OPTIONS}")
        except Exception as error:
            problem = " ".join(str(error).split())
            raise ValueError(
                f"status={status!r}: must be a port of 127.0.0.1, such as 8024, or an"
                f" endpoint, such as tcp\\:8024\\:interface=10.0.0.1: {problem}"
            ) from None

    def listen(self, factory: Any) -> Deferred[Any]:
        """
        Listen, and then serve the page.

        @return: a Deferred of the watched port; it fails, and nothing listens,
            if one of both cannot.
        """
        self.monitor.servingBegins()
        live = _live(factory)
        if live is not None:
            draining = live.whenDraining()
            draining.addCallback(lambda ignored: self.monitor.drainBegins())
        listening: Deferred[Any] = self._endpoint.listen(self.monitor.wrap(factory))
        return listening.addCallback(self._listens)

    def _listens(self, port: Any) -> Deferred[Any]:
        site = Site(self._resource)
        site.noisy = False

        def serves(page: Any) -> Any:
            # stdio: has a connection, and no port.
            if not IListeningPort.providedBy(port):
                return port

            def changed(careful: CarefulPort) -> None:
                if careful.stopped:
                    self.monitor.whenIdle().addCallback(idle, careful)
                elif page.stopped:
                    page.startListening()

            def idle(ignored: object, careful: CarefulPort) -> None:
                if careful.stopped:
                    page.stopListening()

            return CarefulPort(port, changed)

        def failed(failure: Failure) -> Any:
            if IListeningPort.providedBy(port):
                stopped = port.stopListening()
                if isinstance(stopped, Deferred):
                    return stopped.addCallback(lambda ignored: failure)
            return failure

        serving: Deferred[Any] = self._status.listen(site)
        return serving.addCallbacks(serves, failed)


def _live(factory: Any) -> Any:
    """
    The factory that a drainer has made, among those that are wrapped around each
    other.
    """
    while isinstance(factory, TerminatingFactory):
        if isinstance(factory, LiveFactory):
            return factory
        factory = factory.wrappedFactory
    return None


__all__ = ["WatchedServerEndpoint"]
