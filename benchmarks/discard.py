"""
What it costs to read what nobody wants: C{recv} as it is, and with
C{MSG_TRUNC}, with which Linux drops the bytes without copying them.

For each, the median of the CPU seconds of one GB, and the ratio to a plain
C{recv} of 64 KiB, as Twisted's.

    python benchmarks/discard.py [rounds]
"""

from __future__ import annotations

import resource
import socket
import sys
import threading
from statistics import median

_CHUNK = bytes(1 << 20)
#: Name, bytes of one call, flags.
_WAYS = (
    ("plain, 64 KiB", 1 << 16, 0),
    ("MSG_TRUNC, 64 KiB", 1 << 16, socket.MSG_TRUNC),
    ("plain, 1 MiB", 1 << 20, 0),
    ("MSG_TRUNC, 1 MiB", 1 << 20, socket.MSG_TRUNC),
)


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime


def _send(client: socket.socket, size: int) -> None:
    with client:
        for _ in range(size // len(_CHUNK)):
            client.sendall(_CHUNK)


def _discard(most: int, flags: int, size: int) -> float:
    """
    @return: CPU seconds of the receiving thread for each GB.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    sender = threading.Thread(target=_send, args=(client, size))
    buffer = bytearray(most)
    with server:
        start = _processor()
        sender.start()
        while server.recv_into(buffer, 0, flags):
            pass
        used = _processor() - start
    sender.join()
    return used / size * 1e9


def measure(rounds: int, size: int = 1 << 30) -> dict[str, list[float]]:
    """
    Take turns.
    """
    found: dict[str, list[float]] = {name: [] for name, _, _ in _WAYS}
    for _ in range(rounds):
        for name, most, flags in _WAYS:
            found[name].append(_discard(most, flags, size))
    return found


def main() -> None:
    """
    Print the table.
    """
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
    plain = median(found[_WAYS[0][0]])
    for name, values in found.items():
        print(f"{name:18} {median(values):.3f} s/GB ({median(values) / plain:.2f})")


if __name__ == "__main__":
    main()
