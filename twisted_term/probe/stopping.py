"""
The server that is told to stop: a command that is started, a process that
runs already, or a command that reloads it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Callable, Optional

#: Seconds that processes may take to stand still, and a command to listen.
_STILL, _START = 2.0, 30.0
_PAUSE = 0.02
#: What is shown of a command that does not start.
_SHOWN = 2000


class Stop:
    """
    How it is told.

    @ivar pid: of the process that is told, and whose end is awaited; C{None} for a
        reload of what is not known.
    """

    pid: Optional[int] = None

    def tell(self) -> None:
        """
        Tell it.
        """

    def wait(self, seconds: float) -> Optional[str]:
        """
        Wait for the end.

        @return: in words, how it ended; C{None} if it has not.
        """

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """
        The process, and its children, stand still while the context lasts.
        """
        tree = _tree(self.pid) if self.pid is not None else []
        for pid in tree:
            _send(pid, signal.SIGSTOP)
        _await(lambda: all(_state(pid) in "TtZX" for pid in tree), _STILL)
        try:
            yield
        finally:
            for pid in tree:
                _send(pid, signal.SIGCONT)


class ProcessStop(Stop):
    """
    A signal to a process.
    """

    def __init__(self, pid: int, number: int) -> None:
        self.pid: Optional[int] = pid
        self._pid = pid
        self._number = number

    def tell(self) -> None:
        """
        @raise OSError: if there is none.
        """
        os.kill(self._pid, self._number)

    def wait(self, seconds: float) -> Optional[str]:
        gone = _await(lambda: _state(self._pid) in "ZX", seconds)
        return "ended" if gone else None


class CommandStop(ProcessStop):
    """
    A signal to a command that was started here.

    @raise OSError: if it cannot be started.
    """

    def __init__(self, command: Sequence[str], number: int) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        super().__init__(self._process.pid, number)

    def awaitListening(self, listens: Callable[[], object]) -> None:
        """
        Wait until it listens.

        @param listens: raises an C{OSError} while it does not.
        @raise OSError: if it ends, or takes too long.
        """
        deadline = time.monotonic() + _START
        while True:
            try:
                listens()
                return
            except OSError:
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    what = "it ends" if ended else f"it takes over {_START:g} s"
                    raise OSError(
                        f"the command must listen: {what}\n{self._said()}".rstrip()
                    ) from None
            time.sleep(_PAUSE)

    def _said(self) -> str:
        self._output.seek(0)
        return self._output.read()[-_SHOWN:].decode("utf-8", "replace").rstrip()

    def wait(self, seconds: float) -> Optional[str]:
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}"

    def kill(self) -> None:
        """
        Nothing of it stays.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()


class ReloadStop(Stop):
    """
    A command that reloads the server, which goes on.
    """

    def __init__(self, command: Sequence[str], pid: Optional[int]) -> None:
        self.pid = pid
        self._command = command
        self._process: Optional[subprocess.Popen[bytes]] = None

    def tell(self) -> None:
        """
        @raise OSError: if it cannot be started.
        """
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def wait(self, seconds: float) -> Optional[str]:
        assert self._process is not None
        try:
            return f"exit status {self._process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None


def _tree(pid: int) -> list[int]:
    """
    A process and all below it; proc(5).
    """
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{thread}/children") as file:
                    found += map(int, file.read().split())
    return found


def _state(pid: int) -> str:
    """
    The letter of proc(5); X for none.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "X"


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _await(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


__all__ = ["CommandStop", "ProcessStop", "ReloadStop", "Stop"]
