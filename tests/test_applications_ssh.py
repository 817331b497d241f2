"""
SSH: Conch with OpenSSH's client.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread

from twisted_term import TerminatingFactory
from twisted_term.applications.conch import SSH

from .certificates import needs
from .support import SECONDS, SocketTestCase


def server(folder: str, ended: list[Any]) -> Any:
    """
    A server whose commands are C{sleep SECONDS}, and say "done" at their end.
    """
    needs("bcrypt", "cryptography")
    from twisted.conch.avatar import ConchUser
    from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
    from twisted.conch.interfaces import ISession
    from twisted.conch.ssh.factory import SSHFactory
    from twisted.conch.ssh.keys import Key
    from twisted.conch.ssh.session import SSHSession
    from twisted.cred.portal import IRealm, Portal
    from twisted.python.components import registerAdapter
    from zope.interface import implementer

    class User(ConchUser):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.channelLookup[b"session"] = SSHSession

    @implementer(ISession)
    class Session:
        def __init__(self, user: Any) -> None:
            pass

        def execCommand(self, protocol: Any, command: bytes) -> None:
            def done() -> None:
                protocol.write(b"done\n")
                protocol.loseConnection()

            # Twisted before 26.10 needs the transport of a process to end a session.
            protocol.makeConnection(StringTransport())
            self.call = reactor.callLater(float(command.split()[1]), done)

        def eofReceived(self) -> None:
            pass

        def closed(self) -> None:
            if self.call.active():
                self.call.cancel()
            ended.append(None)

    @implementer(IRealm)
    class Realm:
        def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
            return interfaces[0], User(), lambda: None

    registerAdapter(Session, User, ISession)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/key"],
        check=True,
    )
    key = Key.fromFile(f"{folder}/key")
    factory = SSHFactory()
    factory.publicKeys = {key.sshType(): key.public()}
    factory.privateKeys = {key.sshType(): key}
    checker = SSHPublicKeyChecker(InMemorySSHKeyDB({b"user": [key.public()]}))
    factory.portal = Portal(Realm(), [checker])
    return factory


class SSHTests(SocketTestCase):
    def serve(self, term: bool = True) -> Any:
        if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
            raise SkipTest("no ssh command")
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.ended: list[Any] = []
        factory = server(self.folder, self.ended)
        self.transports: list[Any] = []
        if not term:
            return self.listen(factory)
        wrapped = TerminatingFactory(factory)
        wrapped.connected = self.transports.append
        return self.listen(wrapped)

    def ssh(self, port: int, command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                *("ssh", "-p", str(port), "-i", str(Path(self.folder, "key"))),
                *("-F", "none", "-o", "StrictHostKeyChecking=no", "-n"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"),
                *("user@127.0.0.1", command),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    @inlineCallbacks
    def run_(self, command: str, drainAfter: float) -> Any:
        port = self.serve()
        process = self.ssh(port, command)
        yield self.until(lambda: self.transports)
        yield deferLater(reactor, drainAfter)
        self.transports[0].drain()
        out, err = yield deferToThread(process.communicate, timeout=SECONDS)
        return process.returncode, out, err

    @inlineCallbacks
    def test_finishes(self) -> Any:
        """
        A command that ends soon ends; one that does not is cut off with a
        message, which the client shows.
        """
        _, out, _ = yield self.run_("sleep 3", 1.5)
        self.assertEqual(out, "done\n")
        self.patch(SSH, "patience", 0.5)
        status, out, err = yield self.run_("sleep 10", 1.5)
        self.assertEqual((status, out), (255, ""))
        self.assertIn("the server is going down", err)

    @inlineCallbacks
    def test_gone(self) -> Any:
        """
        A client that dies is noticed, as in bare Twisted.
        """
        for term in (False, True):
            process = self.ssh(self.serve(term), "sleep 30")
            yield deferLater(reactor, 1.5)
            process.kill()
            yield self.until(lambda: self.ended)
