"""
The whole suite on every reactor, Python and Twisted: C{nox}, or for example
C{nox -s "tests(reactor='poll', python='3.9', twisted='newest')"}.
"""

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

_REACTORS = ("epoll", "poll", "select", "asyncio", "uvloop")
_PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
#: The oldest Twisted that setup.py declares cannot use the ALPN of a later
#: pyOpenSSL.
_TWISTED = {
    "oldest": ("twisted==24.7.0", "pyopenssl<25"),
    "newest": ("twisted",),
}


@nox.session
@nox.parametrize("python", _PYTHONS)
@nox.parametrize("twisted", list(_TWISTED))
@nox.parametrize("reactor", _REACTORS)
def tests(session: nox.Session, reactor: str, twisted: str) -> None:
    """
    The README's command, counted.
    """
    session.install("-e", ".[test]", *_TWISTED[twisted])
    session.run("python", "-m", "tests.matrix", f"{reactor}:{session.bin}/python")
