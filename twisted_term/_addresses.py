"""
Addresses as an operator reads and types them.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.tcp import Server

_getPeer = Server.getPeer


def addressText(address: Any) -> str:
    """
    @param address: an C{IAddress}, or anything else that C{getPeer} has returned.
    @return: C{127.0.0.1:40146}, C{[::1]:40146}, C{unix:/run/socket}, or C{unix:}
        for a socket without a name; for anything else its C{str}, in one line.
    """
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is not None and port is not None:
        return _hostAndPort(host, port)
    if type(address).__name__ == "UNIXAddress":
        # An abstract name begins with a null byte, which @ stands for, see unix(7).
        name = os.fsdecode(address.name or b"")
        return "unix:" + name.replace("\0", "@")
    return " ".join(str(address).split())


def _hostAndPort(host: Any, port: Any) -> str:
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def peerText(transport: Any) -> str:
    """
    The L{addressText} of the peer of one of our transports.

    For a TCP server's connection this reads C{client}, because to make an
    C{IPv4Address} takes longer than to make the rest of the log line.
    """
    wrapped = transport.wrapped
    if getattr(type(wrapped), "getPeer", None) is _getPeer:
        return _hostAndPort(*wrapped.client[:2])
    return addressText(transport.getPeer())


__all__ = ["addressText", "peerText"]
