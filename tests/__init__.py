"""
Tests; run them with C{python -m twisted.trial tests}.  The environment variable
C{TEST_REACTOR} (epoll, poll, select, asyncio or uvloop) names the reactor, for
the processes that they start too.  L{tests.elsewhere} sets C{TEST_ELSEWHERE}.
"""

import os
from pathlib import Path

if "TEST_REACTOR" in os.environ or "TEST_ELSEWHERE" in os.environ:
    _startup = str(Path(__file__).with_name("startup"))
    _path = [_startup, os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _path))
    from .startup import sitecustomize  # noqa: F401
