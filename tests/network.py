"""
A wire with faults: two network namespaces, a TUN device in each, and a thread
that carries packets from one to the other, late, out of order, or not at all.

Why not netem: it is not in every kernel, and takes a seed from Linux 6.6 on
only.  Here the fate of each packet depends on the seed, its direction and its
number alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import selectors
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

from .support import SECONDS

SERVER, CLIENT = "192.0.2.1", "192.0.2.2"  # RFC 5737: for documentation
_TUNSETIFF = 0x400454CA  # include/uapi/linux/if_tun.h
_TUN_NO_PACKET_INFO = 0x1001
_CLONE_NEWNET = 0x40000000
_MOST = 65536
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


@dataclass(frozen=True)
class Weather:
    """
    What happens to the packets, in both directions, in the terms of netem.

    @ivar delay: seconds that each packet takes.
    @ivar loss: the share that is lost.
    @ivar reorder: the share that takes no time, and so overtakes others.
    """

    delay: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0


class Direction:
    """
    One of the two.

    @ivar source: the descriptor that packets come from.
    @ivar sink: the one that they go to.
    """

    def __init__(self, source: int, sink: int, seed: str) -> None:
        self.source = source
        self.sink = sink
        self._chance = random.Random(seed)

    def fate(self, weather: Weather) -> str:
        """
        The fate of the next packet.  It takes two random numbers for each packet, so
        that the fate of one does not depend on another's.
        """
        loss, reorder = self._chance.random(), self._chance.random()
        if loss < weather.loss:
            return "lost"
        return "overtaking" if reorder < weather.reorder else "in turn"


class Link:
    """
    The wire; it is gone, and its namespaces with it, when the test ends.

    @ivar isCut: see L{cut}.
    @ivar packets: how many had which fate.
    """

    def __init__(self, test: Any, seed: int, weather: Weather) -> None:
        """
        @raise SkipTest: where namespaces or TUN devices cannot be had.
        """
        ip = shutil.which("ip")
        if ip is None:
            raise SkipTest("no ip command")
        if os.geteuid() != 0:
            raise SkipTest("network namespaces need root")
        self.packets: Counter[str] = Counter()
        self._weather = weather
        self._ip = ip
        self.isCut = False
        self._stack = contextlib.ExitStack()
        test.addCleanup(self._stack.close)
        name = f"term{os.getpid()}w{next(_numbers)}"
        self._names = {SERVER: f"{name}s", CLIENT: f"{name}c"}
        try:
            server, client = self._end(SERVER, CLIENT), self._end(CLIENT, SERVER)
        except subprocess.CalledProcessError as error:
            raise SkipTest(f"no network namespace: {error.stderr.strip()}") from error
        except OSError as error:
            raise SkipTest(f"no TUN device: {error}") from error
        self._directions = (
            Direction(server, client, f"{seed} down"),
            Direction(client, server, f"{seed} up"),
        )
        self._wake, self._stop = os.pipe()
        thread = threading.Thread(target=self._carry, daemon=True)
        thread.start()
        self._stack.callback(os.close, self._wake)
        self._stack.callback(thread.join, SECONDS)
        self._stack.callback(os.close, self._stop)

    def _run(self, *arguments: str) -> None:
        command = [self._ip, *arguments]
        subprocess.run(command, capture_output=True, text=True, check=True)

    def _end(self, address: str, peer: str) -> int:
        name = self._names[address]
        self._run("netns", "add", name)
        self._stack.callback(self._run, "netns", "del", name)
        self._run("netns", "exec", name, "true")
        with self._inside(address):
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._stack.callback(os.close, tun)
            fcntl.ioctl(
                tun, _TUNSETIFF, struct.pack("16sH22x", b"", _TUN_NO_PACKET_INFO)
            )
        for command in (
            f"address add {address} peer {peer} dev tun0",
            # Packets must be lost by the seed, and not for want of room.
            "link set tun0 txqueuelen 10000 up",
        ):
            self._run("-n", name, *command.split())
        return tun

    @contextlib.contextmanager
    def _inside(self, address: str) -> Iterator[None]:
        """
        The calling thread is in the namespace of C{address}.
        """
        with open("/proc/thread-self/ns/net") as here:
            with open(f"/run/netns/{self._names[address]}") as there:
                self._enter(there.fileno())
            try:
                yield
            finally:
                self._enter(here.fileno())

    def _enter(self, namespace: int) -> None:
        if _libc.setns(namespace, _CLONE_NEWNET) == -1:
            raise OSError(ctypes.get_errno(), "setns")

    def command(self, *command: str) -> tuple[str, ...]:
        """
        A command that runs at the server's end.
        """
        return (self._ip, "netns", "exec", self._names[SERVER], *command)

    def connect(self, port: int) -> socket.socket:
        """
        A connection from the client's end to the server's.
        """
        with self._inside(CLIENT):
            client = socket.socket()
        client.settimeout(SECONDS)
        client.connect((SERVER, port))
        return client

    def cut(self) -> None:
        """
        From now on all packets are lost, and those that are on their way.
        """
        self.isCut = True

    def mend(self) -> None:
        """
        Undo the cut.
        """
        self.isCut = False

    def _carry(self) -> None:
        ways: list[tuple[float, int, int, bytes]] = []
        numbers = itertools.count()
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            for direction in self._directions:
                selector.register(direction.source, selectors.EVENT_READ, direction)
            while True:
                left = max(0.0, ways[0][0] - time.monotonic()) if ways else None
                for key, _ in selector.select(left):
                    if key.data is None:
                        return
                    self._take(key.data, ways, numbers)
                while ways and ways[0][0] <= time.monotonic():
                    _, _, sink, packet = heapq.heappop(ways)
                    if self.isCut:
                        self.packets["cut"] += 1
                    else:
                        os.write(sink, packet)

    def _take(
        self,
        direction: Direction,
        ways: list[tuple[float, int, int, bytes]],
        numbers: Iterator[int],
    ) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(direction.source, _MOST)
                if packet[0] >> 4 != 4:
                    continue  # IPv6 looks for routers
                fate = direction.fate(self._weather)
                self.packets[fate] += 1
                if fate != "lost":
                    delay = self._weather.delay if fate == "in turn" else 0.0
                    due = time.monotonic() + delay
                    heapq.heappush(ways, (due, next(numbers), direction.sink, packet))


def inNetwork(*command: str) -> tuple[str, ...]:
    """
    A command that runs in a network namespace of its own, with its own settings in
    C{/proc/sys/net}; it has nothing but the loopback, which is down.

    @raise SkipTest: where there can be none.
    """
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("ip") is None:
        raise SkipTest("no unshare or ip command")
    if os.geteuid() != 0:
        raise SkipTest("network namespaces need root")
    inside = (unshare, "--net")
    done = subprocess.run((*inside, "true"), capture_output=True, text=True)
    if done.returncode:
        raise SkipTest(f"no network namespace: {done.stderr.strip()}")
    return (*inside, *command)


__all__ = ["CLIENT", "SERVER", "Direction", "Link", "Weather", "inNetwork"]
