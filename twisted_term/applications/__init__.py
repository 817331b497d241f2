"""
What is known of application protocols: what is in flight on a connection, what
the peer's FIN means there, and how to say goodbye.

There is a module for each kind.  It adapts the protocol's class to
L{IConversation<twisted_term.interfaces.IConversation>}, and a third party does
the same with one line, C{registerAdapter(MyConversation, MyProtocol,
IConversation)}.  Nothing else in the package, but for the status page, names an
application.

Our modules do not import the applications that they know.  When a program imports
such an application, our module is given it; a program that does not use the
application does not load it.  All of our own modules are loaded early, because a
process may later change its root, or its installed files may be replaced, and
then it can import nothing any more.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Callable

from twisted.protocols.policies import ProtocolWrapper

from .._adapting import adapted, mayAdapt, ofApplication
from ..interfaces import IApplicationKnowledge, IConversation
from . import conch, ftp, http, http2, mail, relay, rpc, websocket
from .conversation import SILENT, Conversation, Courteous, stands

#: What is called with each module once it is loaded.
_unknown: dict[str, Callable[[ModuleType], None]] = {
    "twisted.web.http": http.register,
    "twisted.web._http2": http2.register,
    "twisted.web._websocket_impl": websocket.registerTwisted,
    "autobahn.twisted.websocket": websocket.registerAutobahn,
    "twisted.conch.ssh.transport": conch.register,
    "twisted.mail.smtp": mail.registerSMTP,
    "twisted.mail.pop3": mail.registerPOP3,
    "twisted.mail.imap4": mail.registerIMAP4,
    "twisted.protocols.ftp": ftp.register,
    "twisted.protocols.amp": rpc.registerAMP,
    "twisted.spread.pb": rpc.registerPB,
    "twisted.protocols.portforward": relay.registerForward,
    "twisted.protocols.socks": relay.registerSOCKS,
}
_seen = 0


def prepare() -> None:
    """
    Register the adapters of the applications that have been loaded since the last
    call.
    """
    global _seen
    count = len(sys.modules)
    for name in list(_unknown):
        module = sys.modules.get(name)
        if module is None:
            continue
        if _isLoading(module):  # it does not have all of its names yet
            return
        _unknown.pop(name)(module)
    _seen = count


def _isLoading(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))


def conversationOf(protocol: Any, producer: Any = None) -> Any:
    """
    Find the conversation of a connection's protocol.

    @param producer: the registered producer, or C{None}.
    @return: an L{IConversation}.
    """
    if len(sys.modules) != _seen:
        prepare()
    found, _ = ofApplication(IConversation, protocol)
    if found is None and producer is not None:
        found = adapted(IConversation, producer)
    return Conversation(protocol) if found is None else found


def nobodyKnows(protocol: Any, builder: Any) -> bool:
    """
    Is it certain that there is no L{IConversation} and no C{ITerminationHook} for the
    protocol of a connection?

    @param builder: the factory that was wrapped, or C{None}.
    @return: C{False} also where only a longer search can say it.
    """
    if len(sys.modules) != _seen:
        prepare()
    factory = getattr(protocol, "factory", None)
    return (
        (builder is factory or builder is None)
        and not mayAdapt(IApplicationKnowledge, protocol)
        and not issubclass(type(protocol), ProtocolWrapper)
        and (factory is None or not mayAdapt(IApplicationKnowledge, factory))
    )


__all__ = [
    "SILENT",
    "Conversation",
    "Courteous",
    "conversationOf",
    "nobodyKnows",
    "prepare",
    "stands",
]
