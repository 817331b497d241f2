"""
What C{term-probe} and C{term-probe deploy} understand alike: where to connect,
and how.
"""

from __future__ import annotations

import math
import re
import socket
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any, Callable, NoReturn, Optional

from .client import LONGEST, Address, resolve
from .targets import Security, Target

#: nginx, Apache httpd and others linger for up to 30 seconds.
PATIENCE = 35.0
#: The shortest patience, in seconds.
_MOMENT = 0.001
# RFC 9110, sections 5.1, 5.5 and 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
#: What ends a request, and its connection: the cases set it themselves.
_OURS = {"connection", "content-length", "transfer-encoding"}


class Parser(ArgumentParser):
    """
    Complains in one line.
    """

    def error(self, message: str) -> NoReturn:
        fail(message)


def fail(problem: str) -> NoReturn:
    """
    Say so, in one line, and exit with status 2.
    """
    print(f"term-probe: {problem}", file=sys.stderr)
    sys.exit(2)


def number(
    kind: Callable[[str], float], least: float, most: float, allowed: str
) -> Callable[[str], float]:
    """
    For C{type} of an argument.
    """

    def read(text: str) -> float:
        try:
            if "_" in text:  # Python's own way to write numbers
                raise ValueError
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise ArgumentTypeError(f"{text!r}: must be {allowed}")
        return value

    return read


def seconds(most: float = LONGEST) -> Callable[[str], float]:
    """
    For C{type} of an argument.
    """
    allowed = f"a number of seconds from {_MOMENT:g} to {most:g}"
    return number(float, _MOMENT, most, allowed)


def _field(text: str) -> tuple[str, str]:
    found = _FIELD.fullmatch(text)
    if found is None or not found[2].isascii() or found[1].lower() in _OURS:
        problem = "must be 'Name: value', and none of " + ", ".join(sorted(_OURS))
        raise ArgumentTypeError(f"{text!r}: {problem}")
    return found[1], found[2].strip()


def _method(text: str) -> str:
    if not _TOKEN.fullmatch(text) or text.upper() == "CONNECT":
        raise ArgumentTypeError(f"{text!r}: must be a method, and not CONNECT")
    return text


def _name(text: str) -> str:
    try:
        if text.startswith(".") or not text.encode("idna"):
            raise UnicodeError
    except UnicodeError:
        raise ArgumentTypeError(f"{text!r}: must be the name of a host") from None
    return text


def addConnection(parser: ArgumentParser) -> None:
    """
    Where to connect, and how.
    """
    group = parser.add_argument_group("connection")
    group.add_argument("--unix", metavar="PATH", help="connect to this UNIX socket")
    group.add_argument("--ca", metavar="FILE", help="trust its certificates, in PEM")
    group.add_argument(
        "--insecure", action="store_true", help="take any certificate for good"
    )
    group.add_argument(
        "--sni", type=_name, metavar="NAME", help="the server's name, for TLS"
    )
    group.add_argument("--tls", choices=["1.2", "1.3"], help="this version of TLS")
    group.add_argument(
        "--header",
        action="append",
        type=_field,
        default=[],
        metavar="FIELD",
        help="send it, as in 'Name: value'; repeatable",
    )
    group.add_argument(
        "--method",
        type=_method,
        default="GET",
        help="of the polite request (default: GET)",
    )
    group.add_argument(
        "--patience",
        type=seconds(),
        default=PATIENCE,
        metavar="SECONDS",
        help=f"wait so long for a sign of life (default: {PATIENCE:g})",
    )


def connectTo(target: Target, given: Namespace) -> Address:
    """
    Find out where to connect.

    @raise OSError: if that is not possible.
    @raise ValueError: if the options do not fit.
    """
    tls = None
    if target.alpn is not None:
        security = Security(given.insecure, given.ca, given.sni, given.tls)
        try:
            tls = security.tls(target.host, target.alpn)
        except OSError as error:
            problem = error.strerror if error.errno else "no certificate in it"
            raise ValueError(
                f"--ca {given.ca!r}: must be a file of certificates: {problem}"
            ) from None
    if given.unix is not None:
        _tryUNIX(given.unix, given.patience)
        return Address(socket.AF_UNIX, given.unix, tls)
    return resolve(target.host, target.port, given.patience)._replace(tls=tls)


def _tryUNIX(path: str, patience: float) -> None:
    with socket.socket(socket.AF_UNIX) as skt:
        skt.settimeout(patience)
        try:
            skt.connect(path)
        except OSError as error:
            raise OSError(f"--unix {path!r}: {error.strerror or error}") from None


def only(given: Namespace, target: Target, **names: tuple[Any, str]) -> None:
    """
    Some options are of some protocols only.

    @param names: an option, and what it is while it is not given, and the
        protocols.
    @raise ValueError: if one is given for another.
    """
    for name, (default, protocols) in names.items():
        value: Optional[Any] = getattr(given, name)
        if value != default and target.protocol not in protocols.split(" or "):
            raise ValueError(f"--{name} {value!r}: is for {protocols}")


__all__ = [
    "PATIENCE",
    "Parser",
    "addConnection",
    "connectTo",
    "fail",
    "number",
    "only",
    "seconds",
]
