"""
Python imports this when it starts (see the C{site} module), in each process
that a test starts: the reactor that C{TEST_REACTOR} names is installed before
the program imports the default one; and with C{TEST_ELSEWHERE} the package takes
its ways for systems that are no Linux.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: What Linux alone has, of what the package asks for.
_LINUX_ALONE = ("TCP_INFO", "TCP_KEEPIDLE")


class _Elsewhere:
    """
    A module, without what Linux alone has.
    """

    def __init__(self, module: ModuleType, **others: Any) -> None:
        self._module = module
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        if name in _LINUX_ALONE:
            raise AttributeError(name)
        return getattr(self._module, name)


def installReactor(name: str) -> None:
    """
    Install the reactor of that name.
    """
    if name == "uvloop":
        import asyncio

        import uvloop
        from twisted.internet import asyncioreactor

        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
    else:
        import_module(f"twisted.internet.{name}reactor").install()


def leaveLinux() -> None:
    """
    Make the package work as on other systems: L{kernel} asks nothing, bytes are not
    discarded in the kernel, and no filter refuses new connections.
    """
    from twisted_term.connection.beneath import discard, kernel
    from twisted_term.drain import port

    for module in (kernel, discard):
        module._LINUX = False
    kernel._libc = None
    for module in (kernel, port):
        module.socket = _Elsewhere(module.socket)  # type: ignore[assignment]
    port.sys = _Elsewhere(port.sys, platform="elsewhere")  # type: ignore[assignment]


# A virtual environment that a test makes may have no Twisted yet.
if (
    "TEST_REACTOR" in os.environ
    and find_spec("twisted")
    and "twisted.internet.reactor" not in sys.modules
):
    installReactor(os.environ["TEST_REACTOR"])
if "TEST_ELSEWHERE" in os.environ and find_spec("twisted_term"):
    leaveLinux()
