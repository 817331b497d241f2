"""
Checks the C{Host} header of a request, as a protection against DNS rebinding.

The owner of C{evil.example} can let that name point to 127.0.0.1 after a browser has
loaded a page from there.  The page can then send requests to that address as if it
were its own, and read the answers.  But the browser sends C{evil.example} in C{Host}.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable

from twisted.internet.abstract import isIPAddress, isIPv6Address

_NAME = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d*)?|(?P<name>[^:]*)(?::\d*)?")


class Hosts:
    """
    The names by which a server may be asked:

      - an IP address: it is no name, so it cannot point elsewhere;
      - a name without a dot, such as C{localhost} or the name of a container: nobody
        can own it on the Internet (RFC 7085, ICANN's SAC 053);
      - a name below C{localhost} (RFC 6761, 6.3);
      - this machine's own name;
      - the names that are given.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        """
        @raise TypeError: if C{more} is one text, and not several.
        """
        if isinstance(more, (str, bytes)):
            raise TypeError(f"hosts={more!r}: must be a list of names")
        self._names = {_plain(name) for name in more}
        self._names.add(_plain(socket.gethostname()))

    def __contains__(self, header: object) -> bool:
        """
        @param header: the value of C{Host}: a name or an address, and perhaps a
            port (RFC 9110, 7.2).
        """
        found = _NAME.fullmatch(str(header).strip())
        if found is None:
            return False
        if found["v6"] is not None:
            return isIPv6Address(found["v6"])
        name = _plain(found["name"])
        return (
            "." not in name
            or name.endswith(".localhost")
            or isIPAddress(name)
            or name in self._names
        )


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


__all__ = ["Hosts"]
