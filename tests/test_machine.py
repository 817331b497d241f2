"""
The state machine, exhaustively, and the diagram of it in the reference.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.connection.machine import (
    QUIET,
    STEPS,
    UNASKED,
    Input,
    Node,
    Output,
    State,
    diagram,
    transitions,
)

from .support import once

_ORDER = [State.OPEN, State.FLUSHING, State.HALF_CLOSED, State.LINGERING, State.CLOSED]


@once
class MachineTests(SynchronousTestCase):
    def test_everyPairHasAResult(self) -> None:
        """
        Every input has a stated result in every state, and an ended
        connection ignores them all.
        """
        for node, event in product(Node, Input):
            after, outputs = STEPS[node, event]
            if node.ended:
                self.assertEqual((after, outputs), (node, ()))

    def test_neverBack(self) -> None:
        """
        No input takes a connection back to an earlier state.
        """
        for node, event in product(Node, Input):
            after, _ = STEPS[node, event]
            if after is not Node.ABORTED and node is not Node.ABORTED:
                before = _ORDER.index(node.state)
                self.assertGreaterEqual(_ORDER.index(after.state), before)

    def test_abortWorksEverywhere(self) -> None:
        """
        An abort resets in every state that is not an end.
        """
        for node in Node:
            if not node.ended:
                for event in (Input.ABORT, Input.DEADLINE):
                    self.assertEqual(
                        STEPS[node, event], (Node.ABORTED, (Output.RESET,))
                    )

    def test_finOnlyWhenNothingIsInFlight(self) -> None:
        """
        FIN is sent on C{WORK_DONE} alone.
        """
        for node, event in product(Node, Input):
            if Output.SEND_FIN in STEPS[node, event][1]:
                self.assertIs(event, Input.WORK_DONE)

    def test_asksHowOnce(self) -> None:
        """
        Whatever asks for an end that takes its time has the application asked
        first, and nothing else done; when the same comes again, it takes effect,
        and nobody is asked once more.  What comes meanwhile does what it did.
        """
        begins = set()
        for node, event in product(Node, Input):
            after, outputs = STEPS[node, event]
            if Output.ASK_HOW in outputs:
                begins.add(event)
                self.assertIs(node.state, State.OPEN)
                self.assertEqual(outputs, (Output.ASK_HOW,))
                self.assertTrue(after.asking)
                self.assertTrue(STEPS[after, event][0].working)
            if node.asking:
                self.assertNotIn(Output.ASK_HOW, outputs)
        ends = {Input.LOSE_WRITE, Input.LOSE, Input.TLS_FAILED}
        self.assertEqual(begins, ends | {Input.PEER_FIN, Input.PEER_GONE})
        asking = {
            Node.OPEN: Node.ASKING,
            Node.OPEN_PEER_DONE: Node.ASKING_PEER_DONE,
        }
        for node, event in product(asking, Input):
            if event not in begins and event is not Input.FLUSH_EXPIRED:
                after, outputs = STEPS[node, event]
                expected = (asking.get(after, after), outputs)
                self.assertEqual(STEPS[asking[node], event], expected)

    def test_asksBeforeEachClose(self) -> None:
        """
        A socket is closed in order only once the application was asked, which
        it is once, when nothing else is awaited; what ends the connection
        otherwise asks nobody, and works meanwhile.
        """
        done = {Node.LEAVING, Node.LEAVING_BOTH}
        self.assertEqual({node for node in Node if node.leaving}, done)
        for node, event in product(Node, Input):
            after, outputs = STEPS[node, event]
            if Output.CLOSE in outputs or Output.LET_GO in outputs:
                self.assertTrue(node.leaving)
            self.assertEqual(
                Output.ASK_CLOSE in outputs, after.leaving and not node.leaving
            )
            if node.leaving:
                self.assertTrue(node.finSent and node.closing)
                self.assertIs(node.state, State.LINGERING)
                self.assertTrue(after.leaving or after.ended)
        for node in done:
            for event, what in (
                (Input.MAY_CLOSE, (Node.CLOSED, (Output.CLOSE,))),
                (Input.CLOSE_EXPIRED, (Node.CLOSED, (Output.CLOSE,))),
                (Input.TAKEN, (Node.CLOSED, (Output.LET_GO,))),
                (Input.CLOSE, (Node.CLOSED, (Output.DROP,))),
                (Input.ABORT, (Node.ABORTED, (Output.RESET,))),
                (Input.LOST, (Node.CLOSED, ())),
                (Input.PEER_FIN, (Node.LEAVING_BOTH, ())),
                (Input.LOSE, (node, ())),
            ):
                self.assertEqual(STEPS[node, event], what)
        for node in set(Node) - done:
            for event in (Input.MAY_CLOSE, Input.CLOSE_EXPIRED, Input.TAKEN):
                self.assertEqual(STEPS[node, event], (node, ()))

    def test_unasked(self) -> None:
        """
        An application without a hook takes the same ways, one step for each
        question and its answer: nothing is asked, and no node is left out that
        is not one of asking.
        """
        for (node, event), (after, outputs) in UNASKED.items():
            self.assertNotIn(Output.ASK_HOW, outputs)
            self.assertNotIn(Output.ASK_CLOSE, outputs)
            asked, questions = STEPS[node, event]
            if (after, outputs) != (asked, questions):
                answer = event if asked.asking else Input.MAY_CLOSE
                self.assertTrue(asked.asking or asked.leaving)
                self.assertEqual((after, outputs), STEPS[asked, answer])
            if not (node.asking or node.leaving):
                self.assertFalse(after.asking or after.leaving)

    def test_quiet(self) -> None:
        """
        Where more is known, a step is several of those of an application without
        a hook, in one: none that would be asked is left, and nothing is left out
        but what would be out of date.
        """
        answers = {
            Output.FLUSH: Input.WORK_DONE,
            Output.AWAIT_ACK: Input.ACKNOWLEDGED,
        }
        for key, quiet in QUIET.items():
            after, outputs = UNASKED[key]
            done: tuple[Output, ...] = ()
            while asked := [output for output in outputs if output in answers]:
                done += outputs[: outputs.index(asked[0])]
                after, outputs = UNASKED[after, answers[asked[0]]]
            self.assertEqual(quiet, (after, done + outputs))

    def test_quietEnd(self) -> None:
        """
        The end of most connections: the application closes, FIN is out, and the
        peer's FIN comes when all is acknowledged.
        """
        node, outputs = QUIET[Node.OPEN, Input.LOSE]
        self.assertEqual(node, Node.QUEUED_CLOSING)
        self.assertEqual(outputs, (Output.DISCARD, Output.SEND_FIN))
        step = QUIET[Node.LINGERING, Input.PEER_FIN]
        self.assertEqual(step, (Node.CLOSED, (Output.CLOSE,)))

    def test_everyNodeIsReached(self) -> None:
        """
        All nodes can be reached, and an end from each.
        """
        reached = [Node.OPEN]
        for node in reached:
            for event in Input:
                after = STEPS[node, event][0]
                if after not in reached:
                    reached.append(after)
        self.assertEqual(set(reached), set(Node))

    def test_transitions(self) -> None:
        """
        Those that make a difference are all that do.
        """
        found = {(node, event): step for node, event, *step in transitions()}
        for key, (after, outputs) in STEPS.items():
            expected = None if (after, outputs) == (key[0], ()) else [after, outputs]
            self.assertEqual(found.get(key), expected)

    def test_states(self) -> None:
        """
        The diagram in the reference is the machine's.
        """
        docs = Path(__file__).parents[1] / "docs"
        page = docs.joinpath("reference", "states.rst").read_text("utf-8")
        block = page.partition("::\n\n")[2]
        self.assertEqual(dedent(block).strip(), diagram())


#: Whole lives: each input, the node after it, and what is to be done.
_LIVES: dict[str, tuple[tuple[Input, Node, tuple[Output, ...]], ...]] = {
    "an orderly close": (
        (Input.LOSE, Node.ASKING, (Output.ASK_HOW,)),
        (Input.LOSE, Node.WORKING_CLOSING, (Output.DISCARD, Output.FLUSH)),
        (Input.WORK_DONE, Node.QUEUED_CLOSING, (Output.SEND_FIN,)),
        (Input.FIN_SENT, Node.LINGERING, (Output.LINGER,)),
        (Input.PEER_FIN, Node.LAST_ACK, (Output.AWAIT_ACK,)),
        (Input.ACKNOWLEDGED, Node.LEAVING_BOTH, (Output.ASK_CLOSE,)),
        (Input.MAY_CLOSE, Node.CLOSED, (Output.CLOSE,)),
    ),
    "a half-close, and the peer goes on": (
        (Input.LOSE_WRITE, Node.ASKING, (Output.ASK_HOW,)),
        (Input.LOSE_WRITE, Node.WORKING, (Output.FLUSH,)),
        (Input.WORK_DONE, Node.QUEUED, (Output.SEND_FIN,)),
        (
            Input.FIN_SENT,
            Node.HALF_CLOSED,
            (Output.WATCH_HALF_CLOSED, Output.TELL_WRITE_LOST),
        ),
        (Input.PEER_FIN_HALF, Node.LAST_ACK, (Output.TELL_READ_LOST, Output.AWAIT_ACK)),
    ),
    "a half-close, and then the whole": (
        (Input.LOSE_WRITE, Node.ASKING, (Output.ASK_HOW,)),
        (Input.LOSE_WRITE, Node.WORKING, (Output.FLUSH,)),
        (Input.WORK_DONE, Node.QUEUED, (Output.SEND_FIN,)),
        (
            Input.FIN_SENT,
            Node.HALF_CLOSED,
            (Output.WATCH_HALF_CLOSED, Output.TELL_WRITE_LOST),
        ),
        (Input.LOSE, Node.LINGERING, (Output.DISCARD, Output.LINGER)),
        (Input.LOSE, Node.LINGERING, ()),
        (Input.LINGER_EXPIRED, Node.LEAVING, (Output.ASK_CLOSE,)),
        (Input.PEER_FIN, Node.LEAVING_BOTH, ()),
    ),
    "the peer's FIN comes first": (
        (Input.PEER_FIN, Node.ASKING, (Output.ASK_HOW,)),
        (Input.PEER_FIN, Node.WORKING_PEER_DONE, (Output.FLUSH, Output.WATCH_PEER)),
        (Input.PEER_FIN, Node.WORKING_PEER_DONE, ()),
        (Input.PEER_GONE, Node.WORKING_PEER_DONE, ()),
        (Input.WORK_DONE, Node.QUEUED_PEER_DONE, (Output.SEND_FIN,)),
        (Input.LOSE, Node.QUEUED_BOTH, ()),
        (Input.FIN_SENT, Node.LAST_ACK, (Output.AWAIT_ACK,)),
        (Input.PEER_FIN, Node.LAST_ACK, ()),
        (Input.LINGER_EXPIRED, Node.LAST_ACK, ()),
    ),
    "the peer's FIN comes first, and nothing else is asked for": (
        (Input.PEER_FIN, Node.ASKING, (Output.ASK_HOW,)),
        (Input.PEER_FIN, Node.WORKING_PEER_DONE, (Output.FLUSH, Output.WATCH_PEER)),
        (Input.FIN_SENT, Node.LAST_ACK, (Output.TELL_WRITE_LOST, Output.AWAIT_ACK)),
    ),
    "an application that goes on after the peer's FIN": (
        (
            Input.PEER_FIN_HALF,
            Node.OPEN_PEER_DONE,
            (Output.TELL_READ_LOST, Output.WATCH_PEER),
        ),
        (Input.PEER_FIN_HALF, Node.OPEN_PEER_DONE, ()),
        (Input.FLUSH_EXPIRED, Node.OPEN_PEER_DONE, ()),
        (Input.LOSE, Node.ASKING_PEER_DONE, (Output.ASK_HOW,)),
        (Input.LOSE, Node.WORKING_BOTH, (Output.FLUSH,)),
        (Input.WORK_DONE, Node.QUEUED_BOTH, (Output.SEND_FIN,)),
    ),
    "a peer that has gone": (
        (Input.PEER_GONE, Node.ASKING, (Output.ASK_HOW,)),
        (Input.PEER_GONE, Node.WORKING_PEER_DONE, (Output.STOP_WORK, Output.FLUSH)),
        (Input.FLUSH_EXPIRED, Node.ABORTED, (Output.RESET,)),
    ),
    "a peer that goes while work is in flight": (
        (Input.LOSE, Node.ASKING, (Output.ASK_HOW,)),
        (Input.LOSE, Node.WORKING_CLOSING, (Output.DISCARD, Output.FLUSH)),
        (Input.PEER_FIN_HALF, Node.WORKING_BOTH, (Output.WATCH_PEER,)),
        (Input.TLS_FAILED, Node.WORKING_BOTH, (Output.STOP_WORK, Output.FLUSH)),
        (Input.ABORT, Node.ABORTED, (Output.RESET,)),
    ),
    "TLS fails": (
        (Input.TLS_FAILED, Node.ASKING, (Output.ASK_HOW,)),
        (
            Input.TLS_FAILED,
            Node.WORKING_CLOSING,
            (Output.STOP_WORK, Output.DISCARD, Output.FLUSH),
        ),
        (Input.PEER_GONE, Node.WORKING_BOTH, (Output.STOP_WORK, Output.FLUSH)),
        (Input.HANDSHAKE_EXPIRED, Node.ABORTED, (Output.RESET,)),
    ),
    "TLS fails after our FIN": (
        (Input.LOSE_WRITE, Node.ASKING, (Output.ASK_HOW,)),
        (Input.LOSE_WRITE, Node.WORKING, (Output.FLUSH,)),
        (Input.WORK_DONE, Node.QUEUED, (Output.SEND_FIN,)),
        (Input.TLS_FAILED, Node.QUEUED_CLOSING, (Output.DISCARD,)),
        (Input.PEER_GONE, Node.QUEUED_BOTH, ()),
        (Input.FIN_SENT, Node.LAST_ACK, (Output.AWAIT_ACK,)),
    ),
    "the peer's FIN while ours is queued": (
        (Input.LOSE_WRITE, Node.ASKING, (Output.ASK_HOW,)),
        (Input.LOSE_WRITE, Node.WORKING, (Output.FLUSH,)),
        (Input.WORK_DONE, Node.QUEUED, (Output.SEND_FIN,)),
        (Input.PEER_FIN_HALF, Node.QUEUED_PEER_DONE, (Output.TELL_READ_LOST,)),
        (Input.FIN_SENT, Node.LAST_ACK, (Output.TELL_WRITE_LOST, Output.AWAIT_ACK)),
    ),
}


@once
class LifeTests(SynchronousTestCase):
    """
    What is done, in which order, on the ways that connections take.
    """

    def test_lives(self) -> None:
        """
        Each life takes its way, and asks for what it needs, no more.
        """
        for name, steps in _LIVES.items():
            node = Node.OPEN
            for event, after, outputs in steps:
                self.assertEqual(STEPS[node, event], (after, outputs), name)
                node = after

    def test_inputsWithoutEffect(self) -> None:
        """
        What says nothing new changes nothing: work that is done where nobody
        waits for it, a FIN that is out already, a limit of another state.
        """
        waiting = {
            Input.WORK_DONE: lambda node: node.working,
            Input.FIN_SENT: lambda node: node.flushing and not node.asking,
            Input.ACKNOWLEDGED: lambda node: node is Node.LAST_ACK,
            Input.LINGER_EXPIRED: lambda node: node is Node.LINGERING,
            Input.MAY_CLOSE: lambda node: node.leaving,
            Input.CLOSE_EXPIRED: lambda node: node.leaving,
            Input.TAKEN: lambda node: node.leaving,
            Input.PEER_FIN: lambda node: not node.peerDone,
            Input.PEER_FIN_HALF: lambda node: not node.peerDone,
            Input.PEER_GONE: lambda node: not node.peerDone,
            Input.FLUSH_EXPIRED: lambda node: node.state is not State.OPEN,
        }
        for event, waits in waiting.items():
            for node in Node:
                changes = STEPS[node, event] != (node, ())
                self.assertEqual(changes, waits(node) and not node.ended, (node, event))

    def test_nodes(self) -> None:
        """
        What a node says of itself follows from the three that it is made of.
        """
        self.assertEqual(len({node.value for node in Node}), len(Node))
        for node in Node:
            name = node.name
            self.assertEqual(node.asking, name.startswith("ASKING"))
            self.assertEqual(node.working, name.startswith("WORKING"))
            self.assertEqual(node.leaving, name.startswith("LEAVING"))
            self.assertEqual(node.ended, node in (Node.CLOSED, Node.ABORTED))
            self.assertEqual(
                node.flushing, name.startswith(("ASKING", "WORKING", "QUEUED"))
            )
            self.assertEqual(
                node.sending, name.startswith(("OPEN", "ASKING", "WORKING"))
            )
            self.assertEqual(
                node.finSent,
                name.startswith(("HALF_CLOSED", "LINGERING", "LAST_ACK", "LEAVING")),
            )
            both = name.endswith("_BOTH") or name == "LAST_ACK" or node.ended
            self.assertEqual(node.peerDone, both or name.endswith("_PEER_DONE"))
            closing = name.endswith("_CLOSING") or name in ("LINGERING", "LEAVING")
            self.assertEqual(node.closing, both or closing)
