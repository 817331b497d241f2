"""
The files in docs/deploy, as far as they can be tried here.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

_DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
_UNITS = ("termserver.service", "termserver.socket")
_KUBERNETES = "1.30"


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise SkipTest(f"{module} is not installed")


def number(pattern: str, text: str) -> float:
    """
    The one number that the pattern finds.
    """
    (found,) = re.findall(pattern, text, re.MULTILINE)
    return float(found)


class SystemdTests(SynchronousTestCase):
    """
    The unit files.
    """

    def test_verify(self) -> None:
        """
        systemd has no complaint.
        """
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("no systemd-analyze command")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for name in _UNITS:
            text = _DEPLOY.joinpath(name).read_text("utf-8")
            # It looks whether the executable is there.
            command = text.replace("/opt/termserver/venv/bin/twistd", sys.executable)
            folder.joinpath(name).write_text(command, "utf-8")
        done = subprocess.run(
            [analyze, "verify", "--man=no", *(str(folder / name) for name in _UNITS)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        complaints = [
            line
            for line in (done.stdout + done.stderr).splitlines()
            if any(name in line for name in _UNITS)
        ]
        self.assertEqual(complaints, [])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_times(self) -> None:
        """
        SIGKILL comes after the drain's deadline.
        """
        text = _DEPLOY.joinpath(_UNITS[0]).read_text("utf-8")
        stop = number(r"^TimeoutStopSec=(\d+)$", text)
        self.assertGreater(stop, number(r"--drain-timeout (\d+)$", text))

    def test_option(self) -> None:
        """
        The command is one that our own command line takes.
        """
        from twisted_term.tap import Options

        text = _DEPLOY.joinpath(_UNITS[0]).read_text("utf-8")
        (command,) = re.findall(r"^ExecStart=.* termserver (.*)$", text, re.MULTILINE)
        options = Options()
        options.parseOptions(command.split())
        self.assertEqual(options["listen"], ["term:systemd:domain=INET:index=0"])


class KubernetesTests(SynchronousTestCase):
    """
    The manifest.
    """

    def documents(self) -> dict[str, Any]:
        needs("yaml")
        import yaml

        text = _DEPLOY.joinpath("kubernetes.yaml").read_text("utf-8")
        return {found["kind"]: found for found in yaml.safe_load_all(text)}

    def test_schema(self) -> None:
        """
        Each document follows the schema of the oldest version that has all of
        it.
        """
        needs("kubernetes_validate")
        import kubernetes_validate

        for document in self.documents().values():
            kubernetes_validate.validate(document, _KUBERNETES, strict=True)

    def test_times(self) -> None:
        """
        SIGKILL comes after all that the pod is given time for.
        """
        pod = self.documents()["Deployment"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        values = {found["name"]: found["value"] for found in container["env"]}
        needed = (
            container["lifecycle"]["preStop"]["sleep"]["seconds"]
            + float(values["READINESS_DELAY"])
            + float(values["DRAIN_TIMEOUT"])
        )
        self.assertGreater(pod["terminationGracePeriodSeconds"], needed)

    def test_server(self) -> None:
        """
        The server in it starts, is ready, and is not when it drains.
        """
        code = self.documents()["ConfigMap"]["data"]["server.tac"]
        self.patch(
            os,
            "environ",
            {
                "LISTEN": "tcp:0:interface=127.0.0.1",
                "DRAIN_TIMEOUT": "25",
                "READINESS_DELAY": "0",
            },
        )
        found: dict[str, Any] = {}
        exec(compile(code, "server.tac", "exec"), found)
        service = found["service"]
        self.assertFalse(service.draining)
        self.successResultOf(service.drain())
        self.assertTrue(service.draining)
        ready = found["root"].getChildWithDefault(b"ready", None)
        self.assertFalse(ready._ready())
