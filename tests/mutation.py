"""
Are the tests able to fail?  Makes one small fault after the other in the modules that
decide how a connection ends, and runs the fast tests against each::

    python -m tests.mutation
    python -m tests.mutation twisted_term.drain.drainer

It needs C{pip install -e ".[mutation]"}.  The faults are Cosmic Ray's, and
L{RemoveStatement}; the tests are those under C{Clock}, which take a second.  A mutant
is a process of its own, forked from this one, that imports the changed text in
place of the file: no file is touched, and mutants run side by side.

A change in annotations is no mutant, because nothing evaluates them.  A mutant that
survives is printed with its line.  If no test can tell it from the original,
L{EXPLAINED} has the reason.  The exit status is 1 if a survivor has no reason, or if a
reason is left whose mutant is killed or gone.
"""

from __future__ import annotations

import ast
import os
import re
import resource
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import chain, repeat
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, Optional

from .mutants import EXPLAINED

_ROOT = Path(__file__).parents[1]
#: Each module, and what is run against it.
_TESTS = {
    "twisted_term.connection.machine": ("test_machine",),
    "twisted_term.connection.ending": (),
    "twisted_term.connection.bounds": (),
    "twisted_term.drain.drainer": (
        "test_drain.ClockTests",
        "test_drainer.PortTests",
        "test_drainer.AbortTests",
        "test_drainer.TellTests",
        "test_drainer.ProgressTests",
    ),
}
#: What is run against each of them, after that.
_FOR_ALL = (
    "test_ending",
    "test_transport",
    "test_ends.ClockTests",
    "test_linger.ClockTests",
    "test_linger.ExpectsTests",
    "test_hook.BeginTests",
    "test_hook.CloseTests",
    "test_applications_clock",
    "test_drain.ClockTests",
    "test_drainer.PortTests",
    "test_drainer.AbortTests",
    "test_drainer.TellTests",
    "test_drainer.ProgressTests",
)
#: What C{is} compares here, members of enums, C{None} and C{bool}, is equal to itself
#: alone.
_EQUIVALENT = (
    "ReplaceComparisonOperator_Is_Eq",
    "ReplaceComparisonOperator_IsNot_NotEq",
)
#: To replace a sum by a power, or bits, shows no more than to replace it by a
#: difference does.
_FAR_FETCHED = re.compile(
    "ReplaceBinaryOperator_.*_(FloorDiv|Mod|Pow|RShift|LShift|BitOr|BitAnd|BitXor)"
)
#: What each mutant is forked with; none of it installs a reactor.
_PRELOADED = (
    "twisted.internet.ssl",
    "twisted.internet.testing",
    "twisted.scripts.trial",
    "twisted.trial.runner",
    "twisted.web.server",
)
#: A run counts as endless when it takes this many times as long as that of the
#: original, and these seconds in addition.
_TIMES, _SECONDS = 10, 10.0
#: The most bytes of memory that a mutant may have.
_MEMORY = 4 << 30


class Mutant(NamedTuple):
    """
    One fault.

    @ivar line: its number, from 1.
    @ivar before: the line without it.
    @ivar after: the line with it.
    """

    module: str
    operator: str
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """
        How L{EXPLAINED} names it.
        """
        return self.module.rpartition(".")[2], self.before, self.after


class Finder(MetaPathFinder):
    """
    Imports a mutant in place of its module.
    """

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> Optional[ModuleSpec]:
        if fullname != self._mutant.module:
            return None
        file = str(_file(fullname))
        loader = _Loader(fullname, file)
        loader.text = self._mutant.source
        return spec_from_file_location(fullname, file, loader=loader)


class _Loader(SourceFileLoader):
    text: str

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


def _file(module: str) -> Path:
    return _ROOT.joinpath(*module.split(".")).with_suffix(".py")


class RemoveStatement:
    """
    An operator, as Cosmic Ray's are: C{pass} in place of a simple statement of a
    function.
    """

    _KINDS = ("expr_stmt", "atom_expr", "return_stmt", "keyword")

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        from parso.tree import search_ancestor

        if node.type != "simple_stmt" or search_ancestor(node, "funcdef") is None:
            return
        first = node.children[0]
        if first.type in self._KINDS and first.get_code(False) != "pass":
            yield first.start_pos, first.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        from parso.python.tree import Keyword

        first = node.children[0]
        prefix = first.get_first_leaf().prefix
        node.children[0] = Keyword("pass", first.start_pos, prefix)
        node.children[0].parent = node
        return node


def _meaning(source: str) -> str:
    """
    The module without the parts that an import does not evaluate.
    """
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def mutants(module: str) -> Iterator[Mutant]:
    """
    All of a module's that differ from it, and from each other.
    """
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    operators: list[Any] = [RemoveStatement()]
    for name in operator_names():
        operator = get_operator(name)
        short = operator.__name__
        if short in _EQUIVALENT or _FAR_FETCHED.fullmatch(short):
            continue
        if not operator.arguments():
            operators.append(operator())
    source = _file(module).read_text("utf-8")
    lines = source.splitlines()
    known = {_meaning(source)}
    for operator in operators:
        occurrence = 0
        while (text := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            try:
                meaning = _meaning(text)
            except SyntaxError:
                continue
            if meaning in known:
                continue
            known.add(meaning)
            others = text.splitlines()
            at = next(i for i, line in enumerate(lines) if line != others[i])
            before, after = lines[at].strip(), others[at].strip()
            name = type(operator).__name__
            yield Mutant(module, name, at + 1, before, after, text)


def _trial(mutant: Optional[Mutant], tests: list[str], folder: str) -> None:
    """
    In a process of its own: run the tests, and exit.
    """
    os.mkdir(folder)
    output = os.open(f"{folder}/output", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    if mutant is not None:
        sys.meta_path.insert(0, Finder(mutant))
    sys.argv = ["trial", "--exitfirst", f"--temp-directory={folder}/trial", *tests]
    runpy.run_module("twisted.trial.__main__", run_name="__main__")


def _start(
    mutant: Optional[Mutant], tests: list[str], folder: str, seconds: float
) -> int:
    """
    @param folder: where it writes; it makes that.
    @param seconds: after which it is ended.
    @return: the process's id.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process
        _trial(mutant, tests, folder)
    except SystemExit as end:
        status = int(bool(end.code))
    finally:
        os._exit(status)


def survivors(module: str, made: Counter[str]) -> Iterator[Mutant]:
    """
    The mutants that no test sees.

    @param made: counts all of them, by module.
    @raise RuntimeError: if the tests fail without a mutant.
    """
    names = dict.fromkeys((*_TESTS[module], *_FOR_ALL))
    tests = [f"tests.{name}" for name in names]
    running: dict[int, Mutant] = {}
    jobs = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        _, status = os.waitpid(_start(None, tests, f"{folder}/none", 600.0), 0)
        if status:
            print(Path(folder, "none", "output").read_text("utf-8"))
            raise RuntimeError(f"the tests of {module} fail without a mutant")
        limit = (time.monotonic() - begin) * _TIMES + _SECONDS
        for mutant in chain(mutants(module), repeat(None, jobs)):
            if running and (mutant is None or len(running) >= jobs):
                pid, status = os.wait()
                ended = running.pop(pid)
                if not status:
                    yield ended
            if mutant is not None:
                made[module] += 1
                pid = _start(mutant, tests, f"{folder}/{made[module]}", limit)
                running[pid] = mutant


def main(wanted: list[str]) -> int:
    """
    @param wanted: modules; all of them if there are none.
    @return: the exit status.
    """
    for name in wanted:
        if name not in _TESTS:
            allowed = ", ".join(_TESTS)
            print(f"{name!r} has no tests here: it is one of {allowed}")
            return 2
    # Each mutant is forked with these.
    for name in _PRELOADED:
        import_module(name)

    made: Counter[str] = Counter()
    lived: Counter[str] = Counter()
    modules = wanted or list(_TESTS)
    names = {module.rpartition(".")[2] for module in modules}
    unused = {key for key in EXPLAINED if key[0] in names}
    unexplained = 0
    for module in modules:
        for mutant in survivors(module, made):
            lived[module] += 1
            reason = EXPLAINED.get(mutant.key)
            unused.discard(mutant.key)
            unexplained += reason is None
            print(f"{module}:{mutant.line}: {mutant.operator}")
            print(f"  - {mutant.before}\n  + {mutant.after}\n  {reason or 'why?'}")
            sys.stdout.flush()  # which a mutant would do again
    for module in made:
        killed = made[module] - lived[module]
        share = 100 * killed / made[module]
        print(f"{module}: {killed} of {made[module]} mutants killed, {share:.1f} %")
    total = sum(made.values())
    killed = total - sum(lived.values())
    print(f"in all: {killed} of {total}, {100 * killed / total:.1f} %")
    print(f"{unexplained} survivors without a reason")
    for name, before, after in sorted(unused):
        print(f"a reason, and no survivor: {name}: {before} -> {after}")
    return int(bool(unexplained or unused))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
