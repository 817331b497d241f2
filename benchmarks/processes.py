"""
The processes that are measured: starting one, and what it uses.  One with
children, as nginx has, is the sum of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import selectors
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

#: What every server answers with C{BODY}.
REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b"hello\n"
_START = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def bound(reusePort: bool = False) -> socket.socket:
    """
    A socket that is bound to a free port, below those that the kernel gives to
    clients, and to servers that ask for any (C{net.ipv4.ip_local_port_range}): one of
    these could take it before its server listens, or while that is restarted.
    """
    for port in random.sample(range(10_000, 30_000), 1000):
        skt = socket.socket()
        if reusePort:
            skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            skt.bind(("127.0.0.1", port))
        except OSError:
            skt.close()
        else:
            return skt
    raise RuntimeError("no port is free")


def freePort() -> int:
    """
    Such a port.
    """
    with bound() as free:
        return free.getsockname()[1]


def raiseFiles(wanted: int) -> int:
    """
    Ask for so many open files for this process and its children.

    @return: how many they may have.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < wanted:
        with contextlib.suppress(ValueError, OSError):  # not everyone may
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    allowed = wanted if hard < 0 else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


@dataclass
class Rival:
    """
    A server: the C{command}, which prints its port, and the signal at which
    it drains.
    """

    command: list[str]
    drains: signal.Signals = signal.SIGTERM


class Server:
    """
    A process that has begun to serve.
    """

    def __init__(self, rival: Rival) -> None:
        """
        @raise RuntimeError: if it does not listen within half a minute.
        """
        self._drains = rival.drains
        self.process = process = subprocess.Popen(
            rival.command, stdout=subprocess.PIPE, text=True
        )
        self.pid = process.pid
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(_START) else ""
        deadline = time.monotonic() + _START
        while line and time.monotonic() < deadline:
            # The port may be said before it listens.
            with contextlib.suppress(OSError):
                self.port = int(line)
                self._probe()
                return
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"{rival.command} does not listen")

    def _probe(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), _START) as client:
            client.sendall(REQUEST.encode())
            client.recv(1)

    def drain(self) -> None:
        """
        Ask it to end.
        """
        self.process.send_signal(self._drains)

    def kill(self) -> None:
        """
        End it, and what it has started.
        """
        for pid in reversed(self._tree()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _tree(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += map(int, children.split())
        return found

    def _sum(self, measure: Callable[[int], Any]) -> Any:
        total = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):  # it may have just ended
                total += measure(pid)
        return total

    def resident(self) -> int:
        """
        Bytes of memory.
        """
        return self._sum(_resident)

    def peak(self) -> int:
        """
        The most that C{resident} was since C{forgetPeak}; 0 after the end.
        """
        return self._sum(_peak)

    def forgetPeak(self) -> None:
        """
        Let C{peak} begin anew.
        """
        for pid in self._tree():
            with open(f"/proc/{pid}/clear_refs", "w") as clear:
                clear.write("5")

    def processor(self) -> float:
        """
        CPU seconds; also of what has ended, until it is waited for.
        """
        return self._sum(_processor)

    def files(self) -> int:
        """
        How many files are open.
        """
        return self._sum(lambda pid: len(os.listdir(f"/proc/{pid}/fd")))


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * _PAGE


def _peak(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _processor(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS
