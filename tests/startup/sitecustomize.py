"""
Python imports this when it starts (see the C{site} module), in each process
that a test starts: the reactor that C{TEST_REACTOR} names is installed before
the program imports the default one.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec

_name = os.environ["TEST_REACTOR"]
# A virtual environment that a test makes may have no Twisted yet.
if find_spec("twisted") and "twisted.internet.reactor" not in sys.modules:
    if _name == "uvloop":
        import asyncio

        import uvloop
        from twisted.internet import asyncioreactor

        _loop = uvloop.new_event_loop()
        asyncio.set_event_loop(_loop)
        asyncioreactor.install(_loop)
    else:
        import_module(f"twisted.internet.{_name}reactor").install()
