"""
A status page as a person sees it: C{twistd termserver --status}, connections
that end in different ways, and headless Chromium.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Optional

from .processes import LISTEN, TERMSERVER, Server, connect
from .support import receive

_STATUS = "--status=tcp:0:interface=127.0.0.1"
_LIMITS = ("--linger-idle=1", "--flush-timeout=1")


def missing() -> Optional[str]:
    """
    Why there is no browser.
    """
    for tool in ("chromium", "chromedriver"):
        if shutil.which(tool) is None:
            return f"{tool} is missing"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is missing"
    return None


class Watched:
    """
    A server with a status page.

    @ivar port: of the demo.
    @ivar status: of the page.
    """

    def __init__(self, test: Any, *options: str) -> None:
        self.server = Server(test, (*TERMSERVER, LISTEN, _STATUS, *_LIMITS, *options))
        self.status = int(self.server.wait(r"Site .*starting on (\d+)")[1])
        # The harness makes the first connection, and the page counts it.
        self.port = self.server.port()
        self.url = f"http://127.0.0.1:{self.status}/"

    def clean(self) -> None:
        """
        One connection ends as it should.
        """
        with connect(self.port, b"PUSH 100000\nCLOSE\n") as client:
            receive(client)

    def slow(self) -> None:
        """
        One connection half-closes, and its peer is slow to end.
        """
        with connect(self.port, b"SEND 1000\nSHUTDOWN\n") as client:
            receive(client)
            time.sleep(0.2)
            client.sendall(b"CLOSE\n")
            time.sleep(0.1)

    def aborted(self) -> None:
        """
        One is reset by the server.
        """
        with connect(self.port, b"ABORT\n") as client:
            receive(client)

    def reset(self) -> None:
        """
        One is reset by the peer.
        """
        with connect(self.port, b"ECHO x\n") as client:
            client.recv(1)
            linger = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def expired(self) -> None:
        """
        One peer has received everything, and never sends FIN.
        """
        with connect(self.port, b"SEND 1000\nCLOSE\n") as client:
            receive(client)
            self.server.wait(rf"\b{client.getsockname()[1]}\b.*linger expired")


def browser(test: Any) -> Any:
    """
    Start headless Chromium.

    @return: selenium's driver.
    """
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # root has none
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--user-data-dir={mkdtemp()}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    test.addCleanup(driver.quit)
    driver.set_page_load_timeout(20)
    return driver


def resize(driver: Any, width: int, height: int = 800) -> None:
    """
    Make the viewport so wide, as a phone's is; a window has a smallest width.
    """
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True},
    )


class _Stack(contextlib.ExitStack):
    addCleanup = contextlib.ExitStack.callback


def main() -> None:
    """
    Take the pictures in C{docs}: C{python -m tests.browser}.
    """
    import base64

    reason = missing()
    if reason is not None:
        sys.exit(reason)
    docs = Path(__file__).parents[1] / "docs"
    with _Stack() as stack:
        watched = Watched(stack)
        clients = [connect(watched.port) for _ in range(3)]
        clients.append(connect(watched.port, b"SHUTDOWN\n"))
        clients.append(connect(watched.port, b"WAIT 60\nCLOSE\n"))
        stuck = connect(watched.port, b"PUSH 10000000\nCLOSE\n", small=True)
        watched.server.wait(rf"\b{stuck.getsockname()[1]}\b.*flush expired")
        watched.expired()
        watched.reset()
        watched.aborted()
        watched.clean()
        watched.slow()
        driver = browser(stack)
        for name, width in (("status.png", 1000), ("status-phone.png", 360)):
            resize(driver, width)
            driver.get(watched.url)
            picture = driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"captureBeyondViewport": True}
            )
            docs.joinpath(name).write_bytes(base64.b64decode(picture["data"]))
        for client in (*clients, stuck):
            client.close()


if __name__ == "__main__":
    main()
