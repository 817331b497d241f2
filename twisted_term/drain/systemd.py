"""
Telling systemd: sd_notify(3)'s protocol, datagrams to C{NOTIFY_SOCKET}.
"""

from __future__ import annotations

import os
import socket

from twisted.logger import Logger

_log = Logger()


def notify(**variables: object) -> None:
    """
    Send C{variables} as one message; nothing where systemd does not listen.

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
        _log.warn("NOTIFY_SOCKET={address!r}: {error}", address=address, error=error)


__all__ = ["notify"]
