"""
The state machine, exhaustively, and the diagram of it in the reference.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.connection.machine import (
    STEPS,
    UNASKED,
    Input,
    Node,
    Output,
    State,
    diagram,
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

    def test_states(self) -> None:
        """
        The diagram in the reference is the machine's.
        """
        docs = Path(__file__).parents[1] / "docs"
        page = docs.joinpath("reference", "states.rst").read_text("utf-8")
        for line in diagram().splitlines():
            self.assertTrue("    " + line in page, line)
