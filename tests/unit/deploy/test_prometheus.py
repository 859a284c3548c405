"""deploy/prometheus: rules that fire, a dashboard that shows, on metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from api.errors import CATALOGUE
from api.gpt.request import FinishReason
from api.limits.limiter import LimiterEvent
from api.telemetry import Metrics

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "prometheus"


class _Keyring:
    problem = None
    age_seconds = 1.0
    max_age_seconds = 2.0


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Return the names of all series that the service exports."""
    metrics = Metrics()
    metrics.watch_keyring(_Keyring())
    metrics.watch_model(lambda: "ok")
    names = set()
    for family in metrics.registry.collect():
        names |= {sample.name for sample in family.samples} | {family.name}
        if family.type == "counter":
            names.add(f"{family.name}_total")
        if family.type == "histogram":
            names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


@pytest.fixture(scope="module")
def rules() -> list[dict]:
    [group] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def panels() -> list[dict]:
    return json.loads((FOLDER / "dashboard.json").read_text())["panels"]


def test_every_metric_that_is_asked_for_exists(exported, rules, panels):
    """A metric that was renamed cannot leave an alert that never fires or an empty panel."""
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in panels for target in panel["targets"]]
    named = set(re.findall(r"\bquillgate_\w+", " ".join(asked)))
    assert named
    assert named <= exported


def test_every_label_value_that_is_asked_for_can_come(rules):
    """The codes and events in the rules are ones that the service uses."""
    text = " ".join(rule["expr"] for rule in rules)
    assert set(re.findall(r'code="(\w+)"', text)) <= set(CATALOGUE)
    assert set(re.findall(r'event="(\w+)"', text)) <= {event.value for event in LimiterEvent}
    assert set(re.findall(r'finish="(\w+)"', text)) <= {reason.value for reason in FinishReason}


def test_a_first_time_is_an_increase(bench):
    """What alerts count by event or finish is exported as 0 before it ever happened."""
    registry = bench.app.extensions["quillgate"].metrics.registry
    for name, label, values in (
        ("quillgate_limiter_events_total", "event", LimiterEvent),
        ("quillgate_generations_total", "finish", FinishReason),
    ):
        assert {registry.get_sample_value(name, {label: value}) for value in values} == {0}


def test_a_model_that_cannot_generate_is_a_zero():
    """`quillgate_model_ready` follows what /ready says of the model: 1 for ok, else 0."""
    metrics, said = Metrics(), ["loading"]
    metrics.watch_model(lambda: said[0])
    shown = []
    for said[0] in ("loading", "ok", "failed: a file is missing"):
        shown.append(metrics.registry.get_sample_value("quillgate_model_ready"))
    assert shown == [0, 1, 0]


def test_every_alert_says_what_to_do(rules):
    """Each has a severity, a sentence, and a runbook that is a heading of the operations guide."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}
    for rule in rules:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == "docs/operations.md"
        assert anchor in anchors, rule["alert"]


def test_each_alert_is_tested_silent_and_firing(rules):
    """alerts_test.yml names each alert in its quiet hour, and each fires in one of the others."""
    quiet, bad, silent = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    names = {rule["alert"] for rule in rules}
    assert {test["alertname"] for test in quiet["alert_rule_test"]} == names
    [counted] = bad["promql_expr_test"]
    [in_silence] = silent["promql_expr_test"]
    heard = {sample["labels"] for sample in in_silence["exp_samples"]}
    assert any("QuillgateGone" in labels for labels in heard)
    assert counted["exp_samples"][0]["value"] == len(names) - 1  # nothing is gone in a bad hour


def test_promtool_agrees():
    """Where there is Prometheus's own tool, it reads the files and runs the rules' tests."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return  # the tests above hold what can be held without it
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
