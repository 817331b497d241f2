"""
Ways to restart a process.  Each starts C{COUNT} processes, says where they
listen, and restarts one of them.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from tests.booted import Booted

from ..processes import bound

#: Processes.
COUNT = 2
_PROGRAM = Path(__file__).with_name("server.py")
_SECONDS = 60.0
_PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
_TWISTD = "from twisted.scripts.twistd import run; run()"


class Address(NamedTuple):
    """
    Two ports: of one process, or of all.
    """

    plain: int
    tls: int


@dataclass
class Setting:
    """
    What all processes share.

    @ivar kind: see C{server.py}.
    @ivar delay: seconds of C{readinessDelay}.
    @ivar folder: for logs and the like.
    @ivar certificate: the file of a key and a certificate.
    @ivar big: the file to download.
    """

    kind: str
    delay: float
    folder: Path
    certificate: Path
    big: Path

    def environment(self, **more: str) -> dict[str, str]:
        """
        That of C{server.py}.
        """
        return {
            "KIND": self.kind,
            "DELAY": str(self.delay),
            "CERTIFICATE": str(self.certificate),
            "BIG": str(self.big),
            **more,
        }


def freePorts() -> Address:
    """
    Two ports that are free now.
    """
    with bound() as plain, bound() as tls:
        return Address(plain.getsockname()[1], tls.getsockname()[1])


class Terminated:
    """
    Each process has ports of its own, gets SIGTERM, and is started again when it
    has ended.

    @ivar addresses: for the balancer, one for each server that it is to know.
    @ivar running: what C{send_signal} is called on, or the names of units.
    """

    def __init__(self, owner: Any, setting: Setting) -> None:
        """
        @param owner: has C{addCleanup}.
        """
        self.setting = setting
        self.owner = owner
        self.addresses = self._addresses()
        self.running: list[Any] = []

    def _addresses(self) -> list[Address]:
        return [freePorts() for _ in range(COUNT)]

    def _log(self, index: int) -> Path:
        return self.setting.folder / f"{index}.log"

    def _where(self, index: int) -> dict[str, str]:
        """
        The variables of C{server.py} that say where it listens.
        """
        address = self.addresses[index % len(self.addresses)]
        return {
            name: f"tcp:{port}:interface=127.0.0.1:backlog=1000"
            for name, port in (("PLAIN", address.plain), ("TLS", address.tls))
        }

    def _command(self, index: int, *options: str) -> list[str]:
        return [
            *(sys.executable, "-c", _TWISTD, *options),
            *(f"--logfile={self._log(index)}", f"--python={_PROGRAM}"),
        ]

    def start(self) -> None:
        """
        Start all, and wait until they serve.
        """
        for index in range(COUNT):
            self.running.append(self._start(index))

    def restart(self, index: int) -> str:
        """
        Restart one, and wait until it serves.

        @return: the exit status; negative for the number of a signal.
        """
        status = self._end(self.running[index])
        self.running[index] = self._start(index)
        return str(status)

    def complaints(self) -> Counter[str]:
        """
        The exceptions of tracebacks in the logs.
        """
        found: Counter[str] = Counter()
        for path in self.setting.folder.glob("*.log*"):
            text = path.read_text(errors="replace")
            # After a tab, the frames are indented.
            found.update(re.findall(r"Traceback .*\n(?:\t\s.*\n)+\t([\w.]+)", text))
        return found

    def _begun(self, index: int) -> int:
        """
        How often the process has said that it listens on both ports.
        """
        logs = self.setting.folder.glob(f"{index}.log*")  # rotated, at 1 MB
        return sum(
            path.read_text(errors="replace").count("starting on") for path in logs
        )

    def _serves(self, index: int, before: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while self._begun(index) < before + 2:
            if time.monotonic() > deadline:
                raise RuntimeError(f"it does not start: {self._log(index).read_text()}")
            time.sleep(0.05)

    def _start(self, index: int) -> Any:
        before = self._begun(index)
        process = self._process(index)
        self.owner.addCleanup(process.wait)
        self.owner.addCleanup(process.kill)
        self._serves(index, before)
        return process

    def _process(self, index: int) -> Any:
        return subprocess.Popen(
            self._command(index, "--nodaemon", "--pidfile="),
            env={**os.environ, **self.setting.environment(**self._where(index))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def _end(self, process: Any) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(_SECONDS)


class Daemon:
    """
    A process that is known by its pid file.
    """

    def __init__(self, pidfile: Path) -> None:
        self._pid = int(pidfile.read_text())
        self._status: Optional[int] = None

    def send_signal(self, number: int) -> None:
        """
        Unless it has ended.
        """
        if self._status is None:
            os.kill(self._pid, number)

    def kill(self) -> None:
        """
        SIGKILL.
        """
        self.send_signal(signal.SIGKILL)

    def wait(self, seconds: float = _SECONDS) -> int:
        """
        Wait for the end.
        """
        deadline = time.monotonic() + seconds
        while self._status is None and time.monotonic() < deadline:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.02)
        assert self._status is not None, "it does not end"
        return self._status


class Daemons(Terminated):
    """
    The same with C{twistd} as a daemon, and its pid file.
    """

    def __init__(self, owner: Any, setting: Setting) -> None:
        super().__init__(owner, setting)
        # So that we are told how the orphans end.
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        owner.addCleanup(libc.prctl, _PR_SET_CHILD_SUBREAPER, 0)

    def _process(self, index: int) -> Any:
        # Each has its own: the next one starts only when it is gone.
        pidfile = self.setting.folder / f"{index}.pid"
        subprocess.run(
            self._command(index, f"--pidfile={pidfile}"),
            env={**os.environ, **self.setting.environment(**self._where(index))},
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=_SECONDS,
        )
        return Daemon(pidfile)


class ReusePort(Terminated):
    """
    All listen on the same port, each with a socket of its own and SO_REUSEPORT.
    """

    def _addresses(self) -> list[Address]:
        # They stay bound, and do not listen, so that the ports stay ours.
        skts = [bound(reusePort=True), bound(reusePort=True)]
        for skt in skts:
            self.owner.addCleanup(skt.close)
        return [Address(*(skt.getsockname()[1] for skt in skts))]

    def _where(self, index: int) -> dict[str, str]:
        (address,) = self.addresses
        ports = {"PLAIN": str(address.plain), "TLS": str(address.tls)}
        return {**ports, "REUSE_PORT": "yes"}


class SharedDescriptor(Terminated):
    """
    All inherit the same listening sockets, as systemd hands them over.
    """

    def _addresses(self) -> list[Address]:
        self._skts = [bound(), bound()]
        for skt in self._skts:
            skt.listen(1000)
            self.owner.addCleanup(skt.close)
        return [Address(*(skt.getsockname()[1] for skt in self._skts))]

    def _where(self, index: int) -> dict[str, str]:
        return {
            name: f"systemd:domain=INET:index={number}"
            for number, name in enumerate(("PLAIN", "TLS"))
        }

    def _process(self, index: int) -> Any:
        # sd_listen_fds(3): the descriptors from 3 on, and the reader's own pid.
        plain, tls = (skt.fileno() for skt in self._skts)
        script = (
            "import os, sys; plain, tls = (os.dup(int(fd)) for fd in sys.argv[1:3]);"
            " os.dup2(plain, 3); os.dup2(tls, 4); os.closerange(5, 256);"
            " os.set_inheritable(3, True); os.set_inheritable(4, True);"
            " os.environ.update(LISTEN_FDS='2', LISTEN_FDNAMES='plain:tls');"
            " os.environ['LISTEN_PID'] = str(os.getpid());"
            " os.execv(sys.argv[3], sys.argv[3:])"
        )
        return subprocess.Popen(
            [
                *(sys.executable, "-c", script, str(plain), str(tls)),
                *self._command(index, "--nodaemon", "--pidfile="),
            ],
            env={**os.environ, **self.setting.environment(**self._where(index))},
            pass_fds=(plain, tls),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


_SOCKET = """
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=127.0.0.1:{plain}
ListenStream=127.0.0.1:{tls}
Backlog=1000
"""
_SERVICE = """
[Unit]
Requires={socket}
After={socket}
StartLimitIntervalSec=0
[Service]
Type={type}
NonBlocking=yes
Sockets={socket}
ExecStart=/opt/termserver/venv/bin/twistd --nodaemon --pidfile= \
--logfile={log} --python=/opt/termserver/source/benchmarks/deploy/server.py
Environment={environment}
ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS >{status}'
KillMode=mixed
TimeoutStopSec=40
"""


class Activated(SharedDescriptor):
    """
    systemd holds the sockets of each process, and restarts it with
    C{systemctl restart}.
    """

    _sharing = False

    def _addresses(self) -> list[Address]:
        count = 1 if self._sharing else COUNT
        addresses = [freePorts() for _ in range(count)]
        units = {}
        for index in range(COUNT):
            owner = index % count
            socketUnit = f"web{owner}.socket"
            units[socketUnit] = _SOCKET.format(**addresses[owner]._asdict())
            environment = self.setting.environment(**self._where(index))
            units[f"web{index}.service"] = _SERVICE.format(
                socket=socketUnit,
                type="exec" if self.setting.kind == "bare" else "notify",
                log=self._log(index),
                status=self._status(index),
                environment=" ".join(f'"{k}={v}"' for k, v in environment.items()),
            )
        self._systemd = Booted(self.owner, units, network=False)
        return addresses

    def _start(self, index: int) -> Any:
        before = self._begun(index)
        started = self._systemd.control("start", f"web{index}.service")
        if started.returncode:
            raise RuntimeError(started.stderr + self._log(index).read_text())
        self._serves(index, before)
        return f"web{index}.service"

    def restart(self, index: int) -> str:
        """
        C{systemctl restart}.
        """
        before = self._begun(index)
        self._systemd.control("restart", self.running[index])
        self._serves(index, before)
        return self._status(index).read_text().strip()

    def _status(self, index: int) -> Path:
        return self.setting.folder / f"{index}.status"


class ActivatedTogether(Activated):
    """
    systemd holds one pair of sockets, which all processes share.
    """

    _sharing = True


WAYS: dict[str, type[Terminated]] = {
    "SIGTERM": Terminated,
    "daemons": Daemons,
    "SO_REUSEPORT": ReusePort,
    "descriptor": SharedDescriptor,
    "systemd": Activated,
    "systemd, one socket": ActivatedTogether,
}
