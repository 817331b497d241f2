"""
The packets, as C{tcpdump} or C{dumpcap} sees them.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

from .client import Address

#: The seconds that the command may take to begin its capture, and those that the last
#: packets take to be in the file.
_START, _LAST = 10.0, 0.5
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


@contextlib.contextmanager
def capture(address: Address, name: str) -> Iterator[None]:
    """
    Write the packets from and to C{address} to a file, while the context lasts.

    @raise OSError: if neither of the two commands is installed, or it fails.
    """
    if address.family not in (socket.AF_INET, socket.AF_INET6):
        raise OSError("--pcap: must be a connection of TCP")
    host, port = address.address[:2]
    expression = f"tcp and port {port} and host {host.partition('%')[0]}"
    commands = {
        "tcpdump": ["-i", "any", "-U", "-w", name, expression],
        "dumpcap": ["-q", "-P", "-i", "any", "-f", expression, "-w", name],
    }
    paths = {tool: shutil.which(tool, path=_PATH) for tool in commands}
    tool = next((tool for tool, path in paths.items() if path), None)
    if tool is None:
        raise OSError("--pcap: needs tcpdump or dumpcap")
    # The command captures when the file has a header.
    with contextlib.suppress(FileNotFoundError), open(name, "r+b") as file:
        file.truncate()
    process = subprocess.Popen(
        [paths[tool] or tool, *commands[tool]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _await(process, name)
        yield
        time.sleep(_LAST)
    finally:
        process.terminate()
        process.communicate()


def _await(process: subprocess.Popen[str], name: str) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            said = process.stderr.read().strip().splitlines()
            raise OSError(f"--pcap {name!r}: {said[-1] if said else 'it has ended'}")
        with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
            if file.read(1):
                return
        time.sleep(0.05)
    raise OSError(f"--pcap {name!r}: nothing is captured within {_START:g} s")


__all__ = ["capture"]
