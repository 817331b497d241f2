"""
A bar on a terminal that names what is under way, and moves while that takes
its time.
"""

from __future__ import annotations

import sys
import threading
import time

_BAR = 20
#: Seconds between two looks.
_TICK = 0.5


class Progress:
    """
    The bar; nothing where standard error is no terminal.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._name = ""
        self._since = 0.0
        self._shown = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        if self._shown:
            self._thread.start()

    def show(self, name: str) -> None:
        """
        What comes next.
        """
        with self._lock:
            self._name, self._since = name, time.monotonic()
            self._draw(0)
            self._done += 1

    def rename(self, name: str) -> None:
        """
        It goes on with something else.
        """
        with self._lock:
            self._name = name
            self._draw(1)

    def skip(self, count: int) -> None:
        """
        So many will not come.
        """
        self._done += count

    def clear(self) -> None:
        """
        Remove it until L{show} is called, for other lines to be printed.
        """
        with self._lock:
            self._name = ""
            self._print("")

    def stop(self) -> None:
        """
        Remove it for ever.
        """
        self._stop.set()
        if self._shown:
            self._thread.join()
        self.clear()

    def _draw(self, behind: int) -> None:
        done = self._done - behind
        filled = _BAR * done // self._total
        bar = "#" * filled + "." * (_BAR - filled)
        seconds = time.monotonic() - self._since
        waited = f" {seconds:.0f} s" if seconds >= 1 else ""
        self._print(f"[{bar}] {done}/{self._total} {self._name}{waited}")

    def _tick(self) -> None:
        while not self._stop.wait(_TICK):
            with self._lock:
                if self._name and time.monotonic() - self._since >= 1:
                    self._draw(1)

    def _print(self, text: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{text}")  # ECMA-48: erase in line
            sys.stderr.flush()


__all__ = ["Progress"]
