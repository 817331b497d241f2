"""
The dropin: what C{twistd} and the endpoint strings find.
"""

from twisted.application.service import ServiceMaker

from twisted_term.strings import TermParser

termserver = ServiceMaker(
    "twisted_term demo server",
    "twisted_term.termserver.tap",
    "A line server that shows how connections end without losing data.",
    "termserver",
)
term = TermParser()
