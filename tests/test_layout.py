"""
The layout of the package: imports run one way, and what is private to Twisted is
named in one place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from twisted.trial.unittest import SynchronousTestCase

from twisted_term.connection import replaced

from .support import once

_ROOT = Path(__file__).parents[1]
#: From the bottom to the top.  A name stands for all that is in it, and is not
#: named anywhere else.
_LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "policy",
        "interfaces",
        "standin",
        "_adapting",
        "_addresses",
        "_types",
        "_version",
        "_waiters",
    ),
    ("_checks",),
    ("applications",),
    (
        "connection.machine",
        "connection.replaced",
        "connection.timer",
        "connection.hold",
    ),
    ("connection.receiving", "connection.report"),
    ("connection.beneath",),
    ("connection.bounds", "connection.gate", "connection.hook"),
    ("connection.draining", "connection.ending", "connection.placing"),
    ("connection.verdict",),
    ("connection.outputs",),
    ("connection.shell",),
    ("connection.transport",),
    ("connection.threads", "connection.wrapping"),
    ("drain",),
    ("endpoints",),
    ("status",),
    ("web",),
    ("strings",),
    ("termserver",),
    # They are for those who use the package, and nobody in it uses them.
    ("probe", "testing"),
)
_TWISTED = (
    "internet/abstract.py",
    "internet/tcp.py",
    "internet/unix.py",
    "protocols/policies.py",
    "protocols/tls.py",
)


def modules() -> Iterator[tuple[str, Path]]:
    """
    The name of each module, without that of the package, and its file.
    """
    package = _ROOT / "twisted_term"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imported(path: Path, known: frozenset[str]) -> Iterator[str]:
    """
    The modules of the package that a file imports, also those that it imports
    late.
    """
    package = path.relative_to(_ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                parts = [*package[: len(package) - node.level + 1], *parts]
            names = [".".join([*parts, alias.name]) for alias in node.names]
            sources = [".".join(parts)] * len(names)
        elif isinstance(node, ast.Import):
            names = sources = [alias.name for alias in node.names]
        else:
            continue
        for name, source in zip(names, sources):
            for found in (name, source):
                if found == "twisted_term":
                    yield ""
                    break
                short = found[len("twisted_term.") :]
                if found.startswith("twisted_term.") and short in known:
                    yield short
                    break


def layerOf(module: str) -> Optional[int]:
    """
    @return: C{None} for what only says what a folder is about.
    """
    found = [
        number
        for number, names in enumerate(_LAYERS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    assert len(found) <= 1, module
    return found[0] if found else None


@once
class ImportTests(SynchronousTestCase):
    """
    Imports run one way.
    """

    def setUp(self) -> None:
        known = frozenset(name for name, _ in modules())
        self.imports = {name: set(imported(path, known)) for name, path in modules()}

    def test_read(self) -> None:
        """
        This test sees imports: those that are known to be there.
        """
        self.assertIn("connection.shell", self.imports["connection.transport"])
        self.assertIn("connection.beneath.tls", self.imports["connection.beneath"])
        self.assertIn("status.endpoint", self.imports["strings"])

    def test_layers(self) -> None:
        """
        Each module stands in a layer, and imports nothing from those above it.
        """
        for name, imports in self.imports.items():
            layer = layerOf(name)
            if layer is None:  # it is there for those who import its contents
                self.assertIn(name, ("", "connection"))
                continue
            for other in sorted(imports):
                found = layerOf(other)
                wrong = f"{name} imports {other or 'twisted_term'}"
                if found is None:
                    self.fail(wrong)
                self.assertLessEqual(found, layer, wrong)

    def test_apart(self) -> None:
        """
        C{term-probe} is about any server, and needs none of ours; nobody else
        needs what is for tests.
        """
        for name, imports in self.imports.items():
            for other in imports:
                for alone in ("probe", "testing"):
                    if other.split(".")[0] == alone:
                        self.assertEqual(name.split(".")[0], alone)
            if name.split(".")[0] == "probe":
                tops = {other.split(".")[0] for other in imports}
                self.assertLessEqual(tops, {"probe"}, name)

    def test_noCycle(self) -> None:
        """
        No module needs itself, within a layer either.
        """
        done: set[str] = set()

        def visit(name: str, way: tuple[str, ...]) -> None:
            self.assertNotIn(name, way)
            if name not in done:
                for other in sorted(self.imports[name]):
                    visit(other, (*way, name))
                done.add(name)

        for name in self.imports:
            visit(name, ())


def privateNames() -> frozenset[str]:
    """
    The private attributes of Twisted's transports, its wrappers and TLS.
    """
    import twisted

    folder = Path(twisted.__path__[0])
    found = set()
    for name in _TWISTED:
        for node in ast.walk(ast.parse(folder.joinpath(name).read_text())):
            if isinstance(node, ast.Attribute) and isPrivate(node.attr):
                found.add(node.attr)
            elif isinstance(node, ast.FunctionDef) and isPrivate(node.name):
                found.add(node.name)
    return frozenset(found)


def isPrivate(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def othersAttributes(tree: ast.Module) -> Iterator[str]:
    """
    The private attributes that a module reads or sets of what is neither
    C{self} nor a class.
    """
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isPrivate(node.attr)):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and (
            owner.id in ("self", "cls") or owner.id[0].isupper()
        ):
            continue
        yield node.attr


def replacedNames(tree: ast.Module) -> Iterator[str]:
    """
    The names of what a module replaces on another object.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name == "put":
            for argument in node.args:
                value = getattr(argument, "value", None)
                if isinstance(argument, ast.Constant) and isinstance(value, str):
                    yield value
        elif name == "replace":
            yield from (word.arg for word in node.keywords if word.arg)


@once
class PrivateTests(SynchronousTestCase):
    """
    What is private to Twisted, and what is replaced on its objects, is named in
    C{twisted_term.connection.replaced}.
    """

    def setUp(self) -> None:
        self.trees = {
            name: ast.parse(path.read_text())
            for name, path in modules()
            if name.startswith("connection.")
        }
        self.own = self.trees.pop("connection.replaced")

    def test_read(self) -> None:
        """
        Nobody else reads a private attribute of another object, by whatever
        means.
        """
        private = privateNames()
        self.assertLessEqual({"_tempDataLen", "_appSendBuffer"}, private)
        self.assertIn("_tempDataLen", set(othersAttributes(self.own)))
        for name, tree in self.trees.items():
            texts = {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            found = private & (set(othersAttributes(tree)) | texts)
            self.assertLessEqual(found, set(replacedNames(tree)), name)

    def test_replaced(self) -> None:
        """
        All that anybody replaces is in the list there, which says why.
        """
        listed = set(re.findall(r"C\{(\w+)\}", replaced.__doc__ or ""))
        all_ = {name for tree in self.trees.values() for name in replacedNames(tree)}
        self.assertLessEqual({"recv", "doRead", "_closeWriteConnection"}, all_)
        self.assertEqual(all_ - listed, set())


#: What an C{assert} may call: each only looks.
_LOOKING = {
    *("all", "any", "bool", "callable", "hasattr", "isinstance", "issubclass", "len"),
    *("set", "type", "getDelayedCalls", "pattern", "_watches", "_working"),
}


@once
class AssertTests(SynchronousTestCase):
    """
    C{python -O} leaves each C{assert} out.
    """

    def test_noSideEffect(self) -> None:
        """
        So none does anything.
        """
        found = 0
        for folder in ("twisted_term", "tests", "benchmarks", "docs"):
            for path in sorted(_ROOT.joinpath(folder).rglob("*.py")):
                for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                    if isinstance(node, ast.Assert):
                        found += 1
                        where = f"{path}, line {node.lineno}"
                        self.assertEqual(list(doings(node.test)), [], where)
        self.assertGreater(found, 50)


def doings(test: ast.expr) -> Iterator[str]:
    """
    What an expression may do beside being true or false.
    """
    for node in ast.walk(test):
        if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)):
            yield type(node).__name__
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name not in _LOOKING:
                yield name
