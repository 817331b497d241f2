"""
Who looks at the status page in the tests, without a browser.
"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any, Optional

from .processes import connect, receiveAll
from .support import expect


class Page(HTMLParser):
    """
    Checks that elements nest, and collects what a test asks for.
    """

    _VOID = {"meta", "link", "br", "rect"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, Optional[str]]]] = []
        self.text: dict[str, str] = {}
        self.feed(text)
        self.close()
        expect(self.open, [])

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        expect(self.open.pop(), tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            name = dict(self.elements[-1][1]).get("id") or self.open[-1]
            self.text[name] = self.text.get(name, "") + data.strip()

    def all(self, tag: str) -> list[dict[str, Optional[str]]]:
        return [attributes for name, attributes in self.elements if name == tag]


def fetch(port: int, path: str, host: str = "localhost") -> tuple[int, str]:
    """
    @return: status and body.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
    ((answer, end),) = receiveAll([connect(port, request)])
    assert end == "FIN", end
    head, _, body = answer.decode("utf-8").partition("\r\n\r\n")
    return int(head.split()[1]), body


class Stream:
    """
    A viewer without a browser.
    """

    def __init__(self, port: int, path: str = "/events") -> None:
        request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
        self._client = connect(port, request)
        self._lines = self._client.makefile("r", encoding="ascii")

    def next(self) -> Any:
        """
        The next event, or C{None} at the end.
        """
        for line in self._lines:
            if line.startswith("data: "):
                return json.loads(line[6:])
        self._lines.close()
        self._client.close()
        return None


__all__ = ["Page", "Stream", "fetch"]
