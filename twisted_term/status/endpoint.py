"""
What is served beside any server behind C{term:}: a status page, and an agent for
HAProxy.  C{term:tcp:8080:status=8024:agent=8025}.
"""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from ..connection.wrapping import TerminatingFactory
from ..drain.agent import AgentFactory
from ..drain.drainer import LiveFactory
from ..drain.port import CarefulPort
from .monitor import Monitor

#: A browser may keep an idle connection open long after our FIN.  The page, and the
#: agent, must show the drain of the watched port until that is over.
_OPTIONS = "lingerIdle=1:drainTimeout=2:onSignal=no"


def onLoopback(where: str) -> str:
    """
    Turn a port number into the string of an endpoint on 127.0.0.1; leave the string of
    an endpoint as it is.
    """
    return f"tcp:{where}:interface=127.0.0.1" if where.isdecimal() else where


@implementer(IStreamServerEndpoint)
class WatchedServerEndpoint:
    """
    An endpoint inside of a L{twisted_term.TerminatingServerEndpoint}.  It knows all
    connections that come through it, and serves a status page or an agent on other
    endpoints.  Those listen while its own port listens or one of its connections
    lives.

    @ivar monitor: the monitor that knows the connections.
    """

    def __init__(self, reactor: Any, endpoint: Any, name: str) -> None:
        """
        @param endpoint: the endpoint that is watched.
        @param name: the name of the monitor.
        """
        self._reactor = reactor
        self._endpoint = endpoint
        self._beside: list[tuple[Any, Any]] = []
        self._ports: list[CarefulPort] = []
        self.monitor = Monitor(name=name)

    @property
    def draining(self) -> bool:
        """
        Has a drain begun?
        """
        return self.monitor.draining

    @property
    def ports(self) -> list[CarefulPort]:
        """
        The watched ports that listen.
        """
        return [port for port in self._ports if not port.stopping]

    def serveBeside(self, option: str, where: str, factory: Any) -> None:
        """
        Serve C{factory} on another endpoint; call this before C{listen}.

        @param option: the name of the option, for errors.
        @param where: a port of 127.0.0.1, or the string of an endpoint.
        @raise ValueError: for a C{where} that is neither.
        """
        try:
            text = f"term:{onLoopback(where)}:{_OPTIONS}"
            self._beside.append((serverFromString(self._reactor, text), factory))
        except Exception as error:
            problem = " ".join(str(error).split())
            raise ValueError(
                f"{option}={where!r}: must be a port of 127.0.0.1, such as 8024, or an"
                f" endpoint, such as tcp\\:8024\\:interface=10.0.0.1: {problem}"
            ) from None

    def listen(self, factory: Any) -> Deferred[Any]:
        """
        Listen, and then listen on the other endpoints.

        @return: a Deferred of the watched port.  If one of the endpoints cannot
            listen, the Deferred fails, and none of them listens.
        """
        self.monitor.servingBegins()
        live = _live(factory)
        if live is not None:
            draining = live.whenDraining()
            draining.addCallback(lambda ignored: self.monitor.drainBegins())
        listening: Deferred[Any] = self._endpoint.listen(self.monitor.wrap(factory))
        for endpoint, about in self._beside:
            listening.addCallback(self._serve, endpoint, about)
        return listening.addCallback(self._listens)

    def _listens(self, port: Any) -> Any:
        if isinstance(port, CarefulPort):
            self._ports = [*self.ports, port]
        return port

    def _serve(self, port: Any, endpoint: Any, about: Any) -> Deferred[Any]:
        def serves(page: Any) -> Any:
            # The endpoint stdio: has a connection, and no port.
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

        serving: Deferred[Any] = endpoint.listen(about)
        return serving.addCallbacks(serves, failed)


def watched(
    reactor: Any,
    endpoint: Any,
    name: str,
    status: Optional[str] = None,
    statusHosts: str = "",
    agent: Optional[str] = None,
) -> WatchedServerEndpoint:
    """
    Make the endpoint that the options of an endpoint string ask for.

    @param name: the name of the monitor.
    @param status: where the status page is served.
    @param statusHosts: names with commas in between, see
        L{twisted_term.status.resource.StatusResource}.
    @param agent: where the L{AgentFactory} is served.
    @raise ValueError: for a wrong option.
    """
    made = WatchedServerEndpoint(reactor, endpoint, name)
    if status is not None:
        # twisted.web is loaded only if the page is asked for.
        from .resource import statusSite

        hosts = [host for host in statusHosts.split(",") if host]
        made.serveBeside("status", status, statusSite(made.monitor, hosts))
    elif statusHosts:
        raise ValueError(
            f"statusHosts={statusHosts!r}: needs status, such as status=8024"
        )
    if agent is not None:
        made.serveBeside("agent", agent, AgentFactory(made))
    return made


def _live(factory: Any) -> Any:
    """
    The factory that a drainer has made: C{factory}, or one inside of it.
    """
    while isinstance(factory, TerminatingFactory):
        if isinstance(factory, LiveFactory):
            return factory
        factory = factory.wrappedFactory
    return None


__all__ = ["WatchedServerEndpoint", "onLoopback", "watched"]
