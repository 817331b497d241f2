"""
Cases, and the polite client's answer, with which they are compared.
"""

from __future__ import annotations

from typing import Any, Callable, Generic, NamedTuple, Optional, TypeVar

from .answers import Answer, BadAnswer
from .client import Address, Client, Limits
from .targets import Target

T = TypeVar("T", bound=Target)


class Played(NamedTuple):
    """
    What became of one connection.

    @ivar client: the client, which has closed.
    @ivar answer: the answer that the client got.
    @ivar wrong: for a client to which nothing is due, what the server did wrong, or an
        empty text; C{None} for all other clients.
    """

    client: Client
    answer: Answer
    wrong: Optional[str] = None


class Reference(NamedTuple):
    """
    What a polite client gets.

    @ivar static: two polite clients got the same bytes.
    @ivar sized: two polite clients got the same number of bytes.
    @ivar endsItself: the server closes when it has answered; else it waits for
        the client's FIN.
    """

    answer: Answer
    static: bool
    sized: bool
    endsItself: bool


class Probe(Generic[T]):
    """
    What the cases need: the target, the limits, and the reference.

    @ivar upload: bytes of an upload.
    @ivar reference: the polite client's answer; C{None} while it is not known.
    @ivar watched: see L{Client}.
    """

    def __init__(
        self,
        target: T,
        address: Address,
        limits: Limits,
        upload: int,
        watched: bool = False,
    ) -> None:
        self.target = target
        self.limits = limits
        self.upload = upload
        self.watched = watched
        self.address = address
        self.reference: Optional[Reference] = None
        self._polite: Callable[[Any], Played]

    def reach(self, buffer: Optional[int] = None) -> Client:
        """
        Connect, and begin no TLS yet.

        @raise OSError: if it cannot.
        """
        return Client(self.address, self.limits, buffer, self.watched)

    def connect(self, buffer: Optional[int] = None) -> Client:
        """
        @raise OSError: if it cannot.
        """
        client = self.reach(buffer)
        client.open()
        return client

    def learn(self, polite: Callable[[Any], Played]) -> None:
        """
        Be polite, twice, and set the reference.

        @raise OSError: if the client cannot connect.
        @raise BadAnswer: if what came is no answer, or has no end.
        """
        self._polite = polite
        client, answer, _ = polite(self)
        if not client.data:
            within = "" if client.over else f" within {self.limits.patience:g} s"
            raise BadAnswer(f"no answer to a polite client{within}")
        if client.endless:
            raise BadAnswer(
                "no end of the answer to a polite client: it must have one within"
                f" {self.limits.longest:g} s; {len(client.data)} bytes came"
            )
        endsItself = self.target.framed or client.closedFirst == "server"
        self.reference = Reference(answer, True, True, endsItself)
        self.confirm()

    def confirm(self) -> bool:
        """
        Be polite once more: an answer may hold a clock, and vary now and then.

        @return: is the answer still the same?
        @raise OSError: if it cannot connect.
        @raise BadAnswer: if the answer is none.
        """
        assert self.reference is not None
        answer, static, sized, endsItself = self.reference
        again = self._polite(self).answer
        static = static and answer.body == again.body
        sized = sized and len(answer.body) == len(again.body)
        self.reference = Reference(answer, static, sized, endsItself)
        return static


class Case(NamedTuple):
    """
    @ivar sentence: what the client does, for the user.
    @ivar right: the standard that allows the client to do it.
    @ivar same: each answer must be that of the polite client.
    @ivar holds: the client waits until the server lets go.
    @ivar applies: can the case be played with this target?
    """

    name: str
    sentence: str
    right: str
    run: Callable[[Any], Played]
    same: bool = True
    holds: bool = False
    applies: Callable[[Any], bool] = lambda probe: True


__all__ = ["Case", "Played", "Probe", "Reference"]
