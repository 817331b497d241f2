"""
The examples for Prometheus and Grafana in C{docs/deploy}: promtool reads them,
and a real Prometheus watches a real server.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_term import Monitor
from twisted_term.status.metrics import MonitorCollector

from .processes import SECOND_PORT, TWISTD, Server, connect, receiveAll
from .support import SECONDS, once

_DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
_ALERTS = _DEPLOY / "alerts.yaml"


def tool(name: str) -> str:
    """
    Skip the test, and say why, if it lacks a command.
    """
    found = which(name)
    if found is None:
        raise SkipTest(f"needs {name}: apt-get install prometheus")
    return found


def yaml() -> Any:
    try:
        import yaml as module
    except ImportError:
        raise SkipTest("needs yaml: pip install PyYAML") from None
    return module


def promtool(*arguments: object) -> tuple[int, str]:
    """
    @return: the exit status, and all output.
    """
    done = subprocess.run(
        [tool("promtool"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def expressions(variables: str = ".*") -> Iterator[str]:
    """
    What the dashboard asks for, with its variables filled in.
    """
    dashboard = json.loads(_DEPLOY.joinpath("grafana.json").read_text("utf-8"))
    for shown in (*dashboard["panels"], {"targets": dashboard["annotations"]["list"]}):
        for target in shown["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            yield re.sub(r"\$(instance|monitor)\b", lambda _: variables, expression)


def exported() -> set[str]:
    """
    The names of all samples that a monitor has.
    """
    collector = MonitorCollector(Monitor(clock=Clock()))
    return {sample.name for family in collector.collect() for sample in family.samples}


@once
class AlertTests(SynchronousTestCase):
    """
    C{prometheus.yaml} and C{alerts.yaml}.
    """

    def test_valid(self) -> None:
        """
        promtool has nothing to complain about, and a mistake it complains about.
        """
        status, said = promtool("check", "config", _DEPLOY / "prometheus.yaml")
        self.assertEqual(status, 0, said)
        self.assertRegex(said, r"SUCCESS: \d rules found")
        broken = Path(mkdtemp()) / "alerts.yaml"
        text = _ALERTS.read_text("utf-8")
        broken.write_text(text.replace("increase(", "increases("), "utf-8")
        status, said = promtool("check", "rules", broken)
        self.assertEqual(status, 1)
        self.assertIn("unknown function", said)

    def test_names(self) -> None:
        """
        Each metric that is spoken of is one that there is.
        """
        spoken = re.findall(r"\btwisted_term_\w+", _ALERTS.read_text("utf-8"))
        self.assertEqual(set(spoken) - exported(), set())

    def test_alerts(self) -> None:
        """
        Each alert comes when it should, and not before.
        """
        labels = 'instance="a", job="twisted_term", monitor="m"'
        metric = "twisted_term_%s{%s%s}"

        def series(name: str, values: str, more: str = "") -> dict[str, str]:
            return {"series": metric % (name, labels, more), "values": values}

        #: Minutes of quiet, and then what is wrong.
        quiet = [
            series("undelivered_connections_total", "0x20 1+1x20"),
            series("terminations_total", "0+10x40", ', outcome="clean"'),
            series("terminations_total", "0x20 1x20", ', outcome="lost"'),
            series("connections", "90x40", ', state="open"'),
            series("connections", "3x20 200x20", ', state="flushing"'),
            series("drain_seconds", "0x20 0+5x20"),
            series("drain_undelivered_connections", "0x20 2x20"),
            {"series": 'up{instance="a", job="twisted_term"}', "values": "1x20 0x20"},
        ]
        names = re.findall(r"alert: (\w+)", _ALERTS.read_text("utf-8"))
        firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
        rules = yaml().safe_load(_ALERTS.read_text("utf-8"))["groups"][0]["rules"]
        (slow,) = (rule for rule in rules if rule["alert"] == "TwistedTermDrainSlow")
        test = {
            "rule_files": [str(_ALERTS)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": quiet,
                    "promql_expr_test": [
                        {"expr": firing, "eval_time": "20m", "exp_samples": []},
                        {
                            "expr": firing,
                            "eval_time": "29m",
                            "exp_samples": [
                                {"labels": f'{{alertname="{name}"}}', "value": 1}
                                for name in names
                            ],
                        },
                    ],
                    "alert_rule_test": [
                        {
                            "alertname": "TwistedTermDrainSlow",
                            "eval_time": "26m",
                            "exp_alerts": [
                                {
                                    "exp_labels": {
                                        "instance": "a",
                                        "job": "twisted_term",
                                        "monitor": "m",
                                        "severity": "warning",
                                    },
                                    "exp_annotations": {
                                        "summary": "a, m: a drain takes 25s",
                                        "description": slow["annotations"][
                                            "description"
                                        ],
                                    },
                                }
                            ],
                        }
                    ],
                }
            ],
        }
        file = Path(mkdtemp()) / "test.yaml"
        file.write_text(yaml().safe_dump(test), "utf-8")
        status, said = promtool("test", "rules", file)
        self.assertEqual(status, 0, said)


@once
class DashboardTests(SynchronousTestCase):
    """
    C{grafana.json}.
    """

    def test_expressions(self) -> None:
        """
        promtool reads each expression.
        """
        rules = [
            {"record": f"panel:{number}", "expr": expression}
            for number, expression in enumerate(expressions())
        ]
        file = Path(mkdtemp()) / "rules.yaml"
        groups = {"groups": [{"name": "dashboard", "rules": rules}]}
        file.write_text(yaml().safe_dump(groups), "utf-8")
        status, said = promtool("check", "rules", file)
        self.assertEqual(status, 0, said)
        self.assertIn(f"{len(rules)} rules found", said)

    def test_names(self) -> None:
        """
        Each metric that there is has a place, and no other is asked for.
        """
        asked = set(re.findall(r"\btwisted_term_\w+", " ".join(expressions())))
        self.assertEqual(asked - exported(), set())
        families = {re.sub(r"_(bucket|sum|count|created)$", "", n) for n in exported()}
        shown = {re.sub(r"_bucket$", "", name) for name in asked}
        self.assertEqual(shown, families)

    def test_panels(self) -> None:
        """
        No two lie on each other, and each says what it shows.
        """
        dashboard = json.loads(_DEPLOY.joinpath("grafana.json").read_text("utf-8"))
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            self.assertTrue(panel["title"] and panel["description"])
            place = panel["gridPos"]
            cells = {
                (place["x"] + x, place["y"] + y)
                for x in range(place["w"])
                for y in range(place["h"])
            }
            self.assertEqual(cells & taken, set())
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))


@once
class LiveTests(SynchronousTestCase):
    """
    A real Prometheus with our configuration, looking at a C{twistd web} that has a
    status page, and nothing else of ours.
    """

    def setUp(self) -> None:
        """
        Start both.
        """
        prometheus = tool("prometheus")
        listen = "term:tcp:0:interface=127.0.0.1:status=0"
        self.server = Server(self, (*TWISTD, "web", f"--listen={listen}", "--path=."))
        self.port = int(self.server.wait(r"Site starting on (\d+)")[1])
        status = int(self.server.wait(SECOND_PORT)[1])
        folder = Path(mkdtemp())
        text = _DEPLOY.joinpath("prometheus.yaml").read_text("utf-8")
        text, looks = re.subn(r"interval: 5s", "interval: 200ms", text)
        text, targets = re.subn(r"127\.0\.0\.1:8024", f"127.0.0.1:{status}", text)
        self.assertEqual((looks, targets), (2, 1))
        folder.joinpath("prometheus.yaml").write_text(text, "utf-8")
        folder.joinpath("alerts.yaml").write_bytes(_ALERTS.read_bytes())
        watcher = Server(
            self,
            (
                prometheus,
                f"--config.file={folder}/prometheus.yaml",
                f"--storage.tsdb.path={folder}/data",
                "--web.listen-address=127.0.0.1:0",
            ),
        )
        self.api = int(watcher.wait(r'"Listening on" address=127.0.0.1:(\d+)')[1])
        watcher.wait("Server is ready to receive web requests")

    def ask(self, path: str) -> Any:
        """
        Prometheus' own API.
        """
        request = f"GET /api/v1/{path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        ((answer, _),) = receiveAll([connect(self.api, request.encode())])
        answered = json.loads(answer.partition(b"\r\n\r\n")[2])
        self.assertEqual(answered["status"], "success", answered)
        return answered["data"]

    def query(self, expression: str) -> list[float]:
        """
        The values of an expression now.
        """
        found = self.ask(f"query?query={quote(expression)}")["result"]
        return [float(sample["value"][1]) for sample in found]

    def until(self, expression: str, expected: list[float]) -> None:
        """
        Wait for an expression to have the values.
        """
        deadline = time.monotonic() + SECONDS
        while (found := self.query(expression)) != expected:
            self.assertLess(time.monotonic(), deadline, (expression, found))
            time.sleep(0.1)

    def test_watched(self) -> None:
        """
        It sees connections and their ends; the dashboard has something to show in
        each panel; a drain is seen as one, and the end as the target's absence.
        """
        self.until('up{job="twisted_term"}', [1])
        self.until('twisted_term_connections{state="open"}', [0])
        self.until("sum(twisted_term_terminations_total)", [0])
        with connect(self.port) as client:
            self.until('twisted_term_connections{state="open"}', [1])
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            receiveAll([client])
        self.until('sum(twisted_term_terminations_total{outcome="clean"})', [1])
        self.until("increase(twisted_term_undelivered_connections_total[1m])", [0])
        for expression in expressions():
            if "== 1" not in expression:  # no drain yet
                self.assertTrue(self.query(expression), expression)
        (group,) = self.ask("rules")["groups"]
        self.assertEqual({rule["health"] for rule in group["rules"]}, {"ok"})
        with connect(self.port):
            self.until('twisted_term_connections{state="open"}', [1])
            self.server.terminate()
            self.until("twisted_term_draining", [1])
            self.until("count(twisted_term_drain_seconds > 0)", [1])
        self.assertEqual(self.server.end(), 0)
        self.until('up{job="twisted_term"}', [0])
