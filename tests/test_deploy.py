"""
The examples in C{docs/deploy}: are they valid, and do their seconds fit
together?
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from tempfile import mkdtemp
from typing import Any, Optional

from twisted.python.usage import UsageError
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_term.policy import parseLimit
from twisted_term.termserver.tap import Options

from .processes import TWISTD, Server, connect, environment, receiveAll

_DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
_SERVICE = "termserver.service"
_SOCKET = "termserver.socket"


def tool(module: str, package: str) -> None:
    """
    Skip the test, and say why, if it lacks a module.
    """
    if find_spec(module) is None:
        raise SkipTest(f"needs {module}: pip install {package}")


def settings(name: str) -> dict[str, str]:
    """
    The settings of a unit; of several with one name, the last.
    """
    text = _DEPLOY.joinpath(name).read_text("utf-8")
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE))


def seconds(text: str) -> float:
    """
    A time in a unit that has no unit of its own.
    """
    return float(re.fullmatch(r"(\d+)s?", text)[1])  # type: ignore[index]


class SystemdTests(SynchronousTestCase):
    """
    C{termserver.service} and C{termserver.socket}.
    """

    def verify(self, old: str = "", new: str = "") -> str:
        """
        What C{systemd-analyze verify} says about copies of both, with a path
        that exists in C{ExecStart}.

        @param old: what is replaced in the service.
        @param new: what it is replaced with.
        @return: the exit status if it is not 0, and all output.
        """
        analyze = which("systemd-analyze")
        if analyze is None:
            raise SkipTest("needs systemd-analyze: apt-get install systemd")
        folder = Path(mkdtemp())
        for name in (_SERVICE, _SOCKET):
            text = _DEPLOY.joinpath(name).read_text("utf-8")
            if name == _SERVICE:
                self.assertIn(old, text)
                text = text.replace(old, new, 1)
                text, count = re.subn(
                    r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.M
                )
                self.assertEqual(count, 1)
            folder.joinpath(name).write_text(text, "utf-8")
        # The manual pages it would look for need not be installed here.
        done = subprocess.run(
            [analyze, "verify", "--man=no", folder / _SERVICE, folder / _SOCKET],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        status = f"exit status {done.returncode}\n" if done.returncode else ""
        return status + done.stdout

    def test_valid(self) -> None:
        """
        systemd has nothing to complain about.
        """
        self.assertEqual(self.verify(), "")

    def test_complaint(self) -> None:
        """
        A mistake is complained about: silence means something.
        """
        said = self.verify("Restart=on-failure", "Restart=sometimes")
        self.assertIn("sometimes", said)
        self.assertIn("Nonsense", self.verify("Type=notify", "Nonsense=notify"))

    def test_command(self) -> None:
        """
        C{twistd termserver} takes the options of C{ExecStart}, and
        C{TimeoutStopSec} is longer than its drain.
        """
        service = settings(_SERVICE)
        command, _, options = service["ExecStart"].partition(" termserver ")
        self.assertRegex(command, r"/twistd --nodaemon --pidfile=$")
        parsed = Options()
        try:
            parsed.parseOptions(options.split())
        except UsageError as error:
            self.fail(str(error))
        drain = parseLimit("drainTimeout", parsed["drain-timeout"])
        assert drain is not None
        self.assertGreater(seconds(service["TimeoutStopSec"]), drain)
        self.assertEqual(parsed["listen"], ["term:systemd:domain=INET:index=0"])

    def test_stop(self) -> None:
        """
        The main process alone gets SIGTERM, is the one that notifies, and is
        not started again after a clean end.
        """
        service = settings(_SERVICE)
        names = ("KillMode", "KillSignal", "Type", "NotifyAccess", "Restart")
        self.assertEqual(
            [service[name] for name in names],
            ["mixed", "SIGTERM", "notify", "main", "on-failure"],
        )

    def test_socket(self) -> None:
        """
        The service needs the socket of its own name, which is an IPv4 socket,
        as C{domain=INET} says: with one of IPv6, peers' addresses are garbage.
        """
        self.assertEqual(settings(_SERVICE)["Requires"], _SOCKET)
        self.assertRegex(settings(_SOCKET)["ListenStream"], r"^[\d.]+:8023$")


class KubernetesTests(SynchronousTestCase):
    """
    C{kubernetes.yaml}.
    """

    def setUp(self) -> None:
        """
        Read it.
        """
        tool("yaml", "PyYAML")
        import yaml

        text = _DEPLOY.joinpath("kubernetes.yaml").read_text("utf-8")
        self.resources = list(yaml.safe_load_all(text))
        self.kinds = {resource["kind"]: resource for resource in self.resources}
        self.pod = self.kinds["Deployment"]["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.variables = {
            variable["name"]: variable["value"] for variable in self.container["env"]
        }

    def complaint(self, resource: Any) -> Optional[str]:
        """
        What Kubernetes' own JSON schema says, which allows no unknown field.
        """
        tool("kubernetes_validate", "kubernetes-validate")
        import kubernetes_validate

        latest = kubernetes_validate.latest_version()
        try:
            kubernetes_validate.validate(resource, latest, strict=True)
        except kubernetes_validate.ValidationError as error:
            return error.message
        return None

    def test_valid(self) -> None:
        """
        Each resource is valid.
        """
        self.assertEqual(
            [resource["kind"] for resource in self.resources],
            ["ConfigMap", "Deployment", "Service"],
        )
        for resource in self.resources:
            self.assertIs(self.complaint(resource), None, resource["kind"])

    def test_complaint(self) -> None:
        """
        A mistake deep inside is complained about: silence means something.
        """
        broken = deepcopy(self.kinds["Deployment"])
        (container,) = broken["spec"]["template"]["spec"]["containers"]
        container["lifecycle"]["preStop"] = {"sleep": {"secs": 5}}
        complaint = self.complaint(broken)
        assert complaint is not None
        self.assertIn("sec", complaint)

    def test_seconds(self) -> None:
        """
        Before SIGKILL there is time for C{preStop}, the delay and the drain,
        and as much is left for the rest as systemd leaves.  C{preStop} lasts
        until the readiness probe has failed.
        """
        preStop = self.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        delay = float(self.variables["READINESS_DELAY"])
        drain = float(self.variables["DRAIN_TIMEOUT"])
        grace = self.pod["terminationGracePeriodSeconds"]
        self.assertGreaterEqual(grace, preStop + delay + drain + 5)
        probe = self.container["readinessProbe"]
        noticed = probe["periodSeconds"] * probe["failureThreshold"]
        self.assertGreaterEqual(preStop, noticed + probe["timeoutSeconds"])

    def test_sameDrain(self) -> None:
        """
        The drain lasts as long as the one of C{termserver.service}.
        """
        found = re.search(r"--drain-timeout (\d+)", settings(_SERVICE)["ExecStart"])
        assert found is not None
        self.assertEqual(float(found[1]), float(self.variables["DRAIN_TIMEOUT"]))

    def test_names(self) -> None:
        """
        What refers to something by name finds it: the Service its pods and
        their port, the pod its volume and its file.
        """
        deployment, service = self.kinds["Deployment"], self.kinds["Service"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(deployment["spec"]["selector"]["matchLabels"], labels)
        self.assertEqual(service["spec"]["selector"], labels)
        (port,) = self.container["ports"]
        self.assertEqual(service["spec"]["ports"][0]["targetPort"], port["name"])
        probe = self.container["readinessProbe"]["httpGet"]
        self.assertEqual(probe, {"path": "/ready", "port": port["name"]})
        self.assertIn(f"tcp:{port['containerPort']}:", self.variables["LISTEN"])
        (volume,), (mount,) = self.pod["volumes"], self.container["volumeMounts"]
        self.assertEqual(volume["name"], mount["name"])
        config = self.kinds["ConfigMap"]
        self.assertEqual(volume["configMap"]["name"], config["metadata"]["name"])
        (name,) = config["data"]
        self.assertIn(
            f"--python={mount['mountPath']}/{name}", self.container["command"]
        )

    def test_program(self) -> None:
        """
        The program in it serves with the command in it; C{/ready} is 200, and
        503 once SIGTERM has come, and the exit status is 0.
        """
        (source,) = self.kinds["ConfigMap"]["data"].values()
        program = Path(mkdtemp()) / "server.tac"
        program.write_text(source, "utf-8")
        self.assertEqual(self.container["command"][0], "twistd")
        command = [
            f"--python={program}" if option.startswith("--python=") else option
            for option in self.container["command"][1:]
        ]
        listen = re.sub(r":\d+:", ":0:interface=127.0.0.1:", self.variables["LISTEN"])
        server = Server(
            self,
            (*TWISTD, *command),
            env=environment(
                **{**self.variables, "LISTEN": listen, "READINESS_DELAY": "2"}
            ),
        )
        port = int(server.wait(r"starting on (\d+)")[1])
        request = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        def get(path: bytes) -> bytes:
            ((answer, end),) = receiveAll([connect(port, request % path)])
            self.assertEqual(end, "FIN")
            return answer

        self.assertRegex(get(b"/ready"), rb"(?s)^HTTP/1.1 200 .*\r\n\r\nready\n$")
        self.assertIn(b"It works.", get(b"/"))
        server.terminate()
        said = b""
        with contextlib.suppress(OSError):  # it listens no more
            while not said.startswith(b"HTTP/1.1 503 "):
                said = get(b"/ready")
        self.assertTrue(said.endswith(b"draining\n"), said)
        self.assertEqual(server.end(), 0)


class TextTests(SynchronousTestCase):
    """
    The pages beside them.
    """

    def test_files(self) -> None:
        """
        C{README.rst} links to each page, and the pages speak of each file.
        """
        pages = {path.name: path.read_text("utf-8") for path in _DEPLOY.glob("*.rst")}
        for name in sorted(pages.keys() - {"README.rst"}):
            self.assertIn(f"<{name}>`_", pages["README.rst"])
        for path in _DEPLOY.iterdir():
            if path.name not in pages:
                self.assertIn(f"``{path.name}``", "".join(pages.values()))
        alerts = _DEPLOY.joinpath("alerts.yaml").read_text("utf-8")
        for alert in re.findall(r"alert: (\w+)", alerts):
            self.assertIn(f"``{alert}``", pages["README.rst"])
