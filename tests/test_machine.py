"""
The state machine, exhaustively, and the diagram of it in the reference.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.connection.machine import STEPS, Input, Node, Output, State, diagram

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
