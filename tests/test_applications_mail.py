"""
Mail and files: SMTP, POP3, IMAP and FTP, with Python's clients.  A drain comes
while an answer is being made, and while none is.
"""

from __future__ import annotations

import contextlib
import ftplib
import imaplib
import io
import poplib
import smtplib
import tempfile
import threading
import time
from email.message import EmailMessage
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.cred.checkers import (
    AllowAnonymousAccess,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.mail.imap4 import IAccount, IMAP4Server, MemoryAccount
from twisted.mail.interfaces import IMailboxIMAP, IMailboxPOP3
from twisted.mail.pop3 import POP3
from twisted.mail.smtp import SMTP, IMessage
from twisted.protocols.ftp import FTPFactory, FTPRealm
from zope.interface import implementer

from .support import SECONDS, SocketTestCase

_TEXT = b"a line of mail\r\n" * 2_000_000


@implementer(IMessage)
class Message:
    """
    Takes its time to be delivered.
    """

    def __init__(self, delivered: list[Any]) -> None:
        self._delivered = delivered

    def lineReceived(self, line: bytes) -> None:
        pass

    def eomReceived(self) -> Any:
        return deferLater(reactor, 1, self._delivered.append, None)

    def connectionLost(self) -> None:
        pass


@implementer(IMailboxPOP3)
class Mailbox:
    """
    One large message.
    """

    def listMessages(self, index: Any = None) -> Any:
        return [len(_TEXT)] if index is None else len(_TEXT)

    def getMessage(self, index: int) -> Any:
        return io.BytesIO(_TEXT)

    def getUidl(self, index: int) -> bytes:
        return b"1"

    def sync(self) -> None:
        pass


@implementer(IMailboxIMAP)
class Folder:
    """
    Takes its time to fetch.
    """

    def __init__(self, asked: list[Any]) -> None:
        self._asked = asked

    def getFlags(self) -> list[bytes]:
        return []

    getHierarchicalDelimiter = None

    def getMessageCount(self) -> int:
        return 1

    getRecentCount = getUIDValidity = getUIDNext = getUnseenCount = getMessageCount

    def isWriteable(self) -> bool:
        return True

    def addListener(self, listener: Any) -> None:
        pass

    removeListener = addListener

    def fetch(self, messages: Any, uid: bool) -> Any:
        self._asked.append(None)
        return deferLater(reactor, 1, lambda: [(1, self)])

    def getUID(self) -> int:
        return 1


class Account(MemoryAccount):
    """
    With that folder.
    """


@implementer(IRealm)
class Realm:
    """
    Of the three.
    """

    def __init__(self, asked: list[Any]) -> None:
        self._asked = asked

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        if IAccount in interfaces:
            account = Account("user")
            account.mailboxes["INBOX"] = Folder(self._asked)
            return IAccount, account, lambda: None
        return IMailboxPOP3, Mailbox(), lambda: None


class MailTests(SocketTestCase):
    def portal(self) -> Portal:
        self.asked: list[Any] = []
        checker = InMemoryUsernamePasswordDatabaseDontUse(user=b"secret")
        return Portal(Realm(self.asked), [checker])

    def protocol(self, cls: Any, bare: bool) -> int:
        class Server(cls):  # type: ignore[misc]
            portal = self.portal()
            noisy = False
            # These of bare Twisted would outlast the test.
            timeOut = POSTAUTH_TIMEOUT = None

        return self.serveEither(Factory.forProtocol(Server), bare)

    @inlineCallbacks
    def test_smtp(self) -> Any:
        """
        A message that is being delivered is answered before 421.
        """
        found = yield self._smtp(bare=False)
        self.assertEqual(found, ({}, 421, 1))
        found = yield self._smtp(bare=True)
        self.assertEqual(found, "SMTPServerDisconnected")

    @inlineCallbacks
    def _smtp(self, bare: bool) -> Any:
        delivered: list[Any] = []
        served = threading.Event()

        class Server(SMTP):  # type: ignore[misc]
            noisy = False

            def validateFrom(self, helo: Any, origin: Any) -> Any:
                return origin

            def validateTo(self, user: Any) -> Any:
                return lambda: Message(delivered)

            def receivedHeader(self, *arguments: Any) -> bytes:
                return b""

            def state_DATA(self, line: bytes) -> Any:
                if line == b".":
                    served.set()
                return super().state_DATA(line)

        port = self.serveEither(Factory.forProtocol(Server), bare)

        def send() -> tuple[Any, Any]:
            client = smtplib.SMTP("127.0.0.1", port, timeout=SECONDS)
            message = EmailMessage()
            message["From"], message["To"] = "a@example.com", "b@example.com"
            message.set_content("text")
            refused = client.send_message(message)
            return refused, client.getreply()

        sending = deferToThread(send)
        yield self.until(served.is_set)
        self.stop()
        try:
            refused, goodbye = yield sending
        except smtplib.SMTPException as error:
            return type(error).__name__
        return refused, goodbye[0], len(delivered)

    @inlineCallbacks
    def test_smtpIdle(self) -> Any:
        """
        A client that says nothing is told 421 at once.
        """

        class Server(SMTP):  # type: ignore[misc]
            noisy = False

        port = self.serveEither(Factory.forProtocol(Server), bare=False)
        client = yield deferToThread(smtplib.SMTP, "127.0.0.1", port)
        self.stop()
        code, _ = yield deferToThread(client.getreply)
        self.assertEqual(code, 421)
        client.close()

    @inlineCallbacks
    def test_pop3(self) -> Any:
        """
        A message that is being retrieved arrives whole.
        """
        tail, count = yield self._pop3(bare=False)
        self.assertEqual(tail, b"\r\n.\r\n")
        self.assertGreater(count, len(_TEXT))
        tail, count = yield self._pop3(bare=True)
        self.assertNotEqual(tail, b"\r\n.\r\n")
        self.assertLess(count, len(_TEXT))

    @inlineCallbacks
    def _pop3(self, bare: bool) -> Any:
        port = self.protocol(POP3, bare)
        ready = threading.Event()

        def retrieve() -> tuple[bytes, int]:
            client = poplib.POP3("127.0.0.1", port, SECONDS)
            client.user("user")
            client.pass_("secret")
            client.sock.sendall(b"RETR 1\r\n")
            client.file.read(10)
            ready.set()
            time.sleep(0.5)
            data = b""
            with contextlib.suppress(ConnectionResetError):
                while more := client.file.read(1 << 16):
                    data += more
            client.sock.close()
            return data[-5:], len(data)

        retrieving = deferToThread(retrieve)
        yield self.until(ready.is_set)
        self.stop()
        found = yield retrieving
        return found

    @inlineCallbacks
    def test_imap(self) -> Any:
        """
        A message that is being fetched arrives before BYE.
        """
        found, goodbye = yield self._imap(bare=False)
        self.assertEqual(found, ("OK", [b"1 (UID 1)"]))
        self.assertIn("Server is going down", goodbye)
        found, goodbye = yield self._imap(bare=True)
        self.assertIs(found, None)

    @inlineCallbacks
    def _imap(self, bare: bool) -> Any:
        port = self.protocol(IMAP4Server, bare)

        def fetch() -> tuple[Any, Any]:
            client = imaplib.IMAP4("127.0.0.1", port, SECONDS)
            client.login("user", "secret")
            client.select()
            found = None
            try:
                found = client.fetch("1", "(UID)")
                time.sleep(0.5)
                client.noop()
            except imaplib.IMAP4.abort as error:
                return found, str(error)
            finally:
                client.shutdown()
            return found, None

        fetching = deferToThread(fetch)
        yield self.until(lambda: self.asked)
        self.stop()
        answer = yield fetching
        return answer

    @inlineCallbacks
    def test_ftp(self) -> Any:
        """
        A transfer, on a connection of its own, ends before 421.
        """
        found = yield self._ftp(bare=False)
        self.assertEqual(found, (len(_TEXT), "226 421"))
        found = yield self._ftp(bare=True)
        self.assertNotEqual(found[1], "226 421")

    @inlineCallbacks
    def _ftp(self, bare: bool) -> Any:
        folder = tempfile.mkdtemp()
        self.addCleanup(rmtree, folder)
        Path(folder, "file").write_bytes(_TEXT)
        portal = Portal(FTPRealm(folder), [AllowAnonymousAccess()])
        factory = FTPFactory(portal)
        factory.timeOut = None  # bare Twisted's would outlast the test
        port = self.serveEither(factory, bare)
        ready = threading.Event()

        def retrieve() -> tuple[int, str]:
            client = ftplib.FTP(timeout=SECONDS)
            client.connect("127.0.0.1", port)
            client.login()
            with client.transfercmd("RETR file") as transfer:
                count = len(transfer.recv(1))
                ready.set()
                time.sleep(0.5)
                while data := transfer.recv(1 << 16):
                    count += len(data)
            try:
                done = client.getline()[:3]
                done += " " + client.getline()[:3]
            except (EOFError, OSError) as error:
                done = type(error).__name__
            client.close()
            return count, done

        retrieving = deferToThread(retrieve)
        yield self.until(ready.is_set)
        self.stop()
        found = yield retrieving
        return found
