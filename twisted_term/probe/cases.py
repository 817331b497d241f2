"""
What a case is, and what it is compared with: the polite client's answer.
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

    @ivar client: closed.
    @ivar answer: what it got.
    @ivar wrong: of a client to which nothing is due, what the server did wrong,
        or nothing; C{None} for all others.
    """

    client: Client
    answer: Answer
    wrong: Optional[str] = None


class Reference(NamedTuple):
    """
    What a polite client gets.

    @ivar static: two of them got the same.
    @ivar sized: two of them got as much.
    @ivar endsItself: the server closes when it has answered; else it waits for
        the client's FIN.
    """

    answer: Answer
    static: bool
    sized: bool
    endsItself: bool


class Probe(Generic[T]):
    """
    What the cases need to know.

    @ivar upload: bytes of an upload.
    @ivar reference: C{None} while it is not known.
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

    def connect(self, buffer: Optional[int] = None) -> Client:
        """
        @raise OSError: if it cannot.
        """
        return Client(self.address, self.limits, buffer, self.watched)

    def learn(self, polite: Callable[[Any], Played]) -> None:
        """
        Be polite, twice, and set the reference.

        @raise OSError: if it cannot connect.
        @raise BadAnswer: if the answer is none, or has no end.
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
    @ivar right: what gives the client its right to it.
    @ivar same: each answer is the polite client's.
    @ivar holds: it waits until the server lets go.
    @ivar applies: can it be played there?
    """

    name: str
    sentence: str
    right: str
    run: Callable[[Any], Played]
    same: bool = True
    holds: bool = False
    applies: Callable[[Any], bool] = lambda probe: True


__all__ = ["Case", "Played", "Probe", "Reference"]
