"""
Telling systemd about the process, by the protocol of sd_notify(3): datagrams to
C{NOTIFY_SOCKET}.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


def notify(**variables: object) -> None:
    """
    Send C{variables} as one message.  If systemd does not listen, this does nothing.

    A message that cannot be sent is logged: a service must not fail for it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace, see unix(7)
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={value}" for name, value in variables.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as skt:
            skt.setblocking(False)
            skt.sendto(message.encode("utf-8"), address)
    except OSError as error:
        _log.warn(
            "NOTIFY_SOCKET={address!r}: {error}", address=address, error=str(error)
        )


class Process:
    """
    Tells systemd of the state of this process, each state once: C{READY=1} when the
    reactor runs and all endpoints listen, C{STOPPING=1} when the end begins.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._awaited = self._listening = 0
        self._ready = self._stopping = False

    def awaits(self, listening: Deferred[Any]) -> None:
        """
        The process is not ready before C{listening} has fired.  If it fails, the
        process does not wait for it, but at least one endpoint has to listen.
        """
        self._awaited += 1
        listening.addCallbacks(self._listens, self._fails)

    def stops(self) -> None:
        """
        The process is about to end.
        """
        if not self._stopping:
            self._stopping = True
            notify(STOPPING=1)

    def _listens(self, port: Any) -> Any:
        self._awaited -= 1
        self._listening += 1
        self._mayBeReady()
        return port

    def _fails(self, failure: Failure) -> Failure:
        self._awaited -= 1
        self._mayBeReady()
        return failure

    def _mayBeReady(self) -> None:
        if IReactorCore.providedBy(self._reactor):
            # Other endpoints may still be added before the reactor runs.
            self._reactor.callWhenRunning(self._tellReady)
        else:
            self._tellReady()

    def _tellReady(self) -> None:
        done = self._ready or self._stopping
        if self._listening and not self._awaited and not done:
            self._ready = True
            notify(READY=1)


__all__ = ["Process", "notify"]
