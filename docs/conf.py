"""
The site: C{python -m sphinx -W -b html docs build/site}.

The documents are plain reStructuredText, which reads well where they are stored too.
So links between them are links to files, and docstrings stay epytext, which
pydoctor checks (C{docs/reference.py}).  Both are translated here.
"""

from __future__ import annotations

import re
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any, Optional

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

_HERE = Path(__file__).parents[1]
sys.path.insert(0, str(_HERE))
_BUILD = _HERE / "build"

project = "twisted_term"
author = "the authors of twisted_term"
copyright = author
html_theme = "furo"
html_title = "twisted_term"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["site"]
html_css_files = ["site.css"]
extensions = [
    "repoze.sphinx.autointerface",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
]
exclude_patterns = ["README.rst"]
highlight_language = "none"
nitpicky = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 70
# No network is needed: the names are those of the Twisted that is installed.
_BUILD.mkdir(exist_ok=True)
_TWISTED = runpy.run_path(str(_HERE / "docs" / "reference.py"))["inventory"]
_BUILD.joinpath("twisted.inv").write_bytes(_TWISTED())
intersphinx_mapping = {
    "twisted": (
        "https://docs.twisted.org/en/stable/api/",
        str(_BUILD / "twisted.inv"),
    )
}

_FIELDS = {"return": "returns", "raise": "raises"}
_MARKUP = (
    (r"L\{([^{}<]+)<([\w.]+)>\}", r":py:obj:`\1 <\2>`"),
    (r"L\{([\w.]+)\}", r":py:obj:`\1`"),
    (r"C\{([^{}]*)\}", r"``\1``"),
    (r"B\{([^{}]*)\}", r"**\1**"),
    (r"I\{([^{}]*)\}", r"*\1*"),
)


def translate(text: str) -> str:
    """
    One line of epytext, as reStructuredText.
    """
    text = re.sub(
        r"^(\s*)@(param|return|raise|ivar|cvar|type)\b",
        lambda found: f"{found[1]}:{_FIELDS.get(found[2], found[2])}",
        text,
    )
    for pattern, role in _MARKUP:
        # The end of a literal or a link needs something that is no letter.
        text = re.sub(pattern + r"(?=(\w?))", partial(_inline, role), text)
    return text


def _inline(role: str, found: re.Match[str]) -> str:
    return found.expand(role) + ("\\ " if found[found.re.groups] else "")


def docstring(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """
    A docstring, from epytext to reStructuredText.
    """
    # A word in braces may go on in the next line.
    text = re.sub(
        r"\b([LC])\{([^{}\n]*)\n\s*([^{}]*)\}", r"\1{\2 \3}", "\n".join(lines)
    )
    lines[:] = [translate(line) for line in text.split("\n")]


def signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, *texts: Optional[str]
) -> tuple[Optional[str], ...]:
    """
    An interface in a signature, by its name.
    """
    pattern = r"<InterfaceClass (?:[\w.]+\.)?(\w+)>"
    return tuple(text and re.sub(pattern, r"\1", text) for text in texts)


class Files(SphinxTransform):
    """
    Links to other documents, and to files: a document's page, and a download.
    """

    default_priority = 5

    def apply(self, **kwargs: Any) -> None:
        """
        Translate the links of one document.
        """
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for node in list(self.document.findall(nodes.reference)):
            target = node.get("refuri", ":")
            if ":" in target or target.startswith("#"):
                continue
            path = (folder / target).resolve()
            if path.suffix == ".rst":
                node.replace_self(self.page(path, node))
            else:
                found = addnodes.download_reference(
                    "", "", *node.children, reftarget=target, refdoc=self.env.docname
                )
                node.replace_self(found)

    def page(self, path: Path, node: nodes.reference) -> nodes.Node:
        """
        A link to another document, which Sphinx looks for.
        """
        outside = {"CONTRIBUTING.rst": "contributing", "CHANGELOG.rst": "changelog"}
        docs = Path(self.env.srcdir).resolve()
        name = outside.get(path.name)
        if name is None:
            name = path.relative_to(docs).with_suffix("").as_posix()
        found = addnodes.pending_xref(
            "",
            nodes.inline("", node.astext()),
            refdomain="std",
            reftype="doc",
            reftarget=f"/{name}",
            refexplicit=True,
            refwarn=True,
            refdoc=self.env.docname,
        )
        found.source, found.line = node.source, node.line
        return found


def setup(app: Sphinx) -> None:
    """
    See Sphinx: this file is an extension too.
    """
    app.add_transform(Files)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
