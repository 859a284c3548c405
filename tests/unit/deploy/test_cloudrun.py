"""deploy/cloudrun.yaml and docs/deploy.md's gcloud line: one service, and one that can start."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from api.admission import GENERATION_SECONDS
from api.config import Settings
from auth.config import AuthSettings
from tests.support.documents import blocks

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def service():
    return yaml.safe_load((ROOT / "deploy" / "cloudrun.yaml").read_text())


@pytest.fixture(scope="module")
def revision(service):
    return service["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(revision):
    [only] = revision["containers"]
    return only


@pytest.fixture(scope="module")
def flags():
    """Return the flags of the documented `gcloud run deploy`."""
    [text] = [
        block.text
        for block in blocks(ROOT / "docs" / "deploy.md")
        if "gcloud run deploy quillgate-api" in block.text
    ]
    command = text.split("\nURL=")[0].replace("\\\n", " ")
    words = shlex.split(command)
    found = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            found[word[2:]] = "" if following.startswith("--") else following
    return found


def settings(container) -> Settings:
    environ = {one["name"]: one.get("value", "redis://10.0.0.3:6379/0") for one in container["env"]}
    processors = int(container["resources"]["limits"]["cpu"])
    environ["SECRETS"] = environ["SECRETS"].replace("PROJECT", "some-project")
    return Settings.from_env(environ, cpus=processors)


def test_the_service_would_start(container):
    """Its environment is accepted by the settings, and holds the password by reference only."""
    read = settings(container)
    assert read.auth.gcp_project == "some-project"
    assert read.trusted_proxy_hops == 1
    [url] = [one for one in container["env"] if one["name"] == "REDIS_URL"]
    assert set(url["valueFrom"]["secretKeyRef"]) == {"name", "key"}
    assert url["valueFrom"]["secretKeyRef"]["key"].isdigit(), "a version, not latest"


def test_every_admitted_request_has_a_thread(revision, container):
    """Cloud Run sends no more at once than there are threads, nor more than rows and queue take."""
    read = settings(container)
    assert revision["containerConcurrency"] <= read.generation_slots + read.queue_limit
    assert revision["containerConcurrency"] < read.threads


def test_a_generation_ends_before_cloud_run_cuts_it(revision):
    """The deadline of a text leaves time for its last event."""
    assert revision["timeoutSeconds"] - GENERATION_SECONDS >= 10


def test_probes_ask_the_right_questions(container):
    """Traffic only for who is ready; a restart only for who is dead; within Cloud Run's bounds."""
    startup, liveness = container["startupProbe"], container["livenessProbe"]
    assert startup["httpGet"]["path"] == "/ready"
    assert liveness["httpGet"]["path"] == "/health"
    assert startup["periodSeconds"] * startup["failureThreshold"] <= 240
    for probe in (startup, liveness):
        assert probe["timeoutSeconds"] <= probe["periodSeconds"]


def test_the_file_and_the_command_are_one_service(service, revision, container, flags):
    """docs/deploy.md and deploy/cloudrun.yaml say the same of every setting."""
    notes = service["spec"]["template"]["metadata"]["annotations"]
    limits = container["resources"]["limits"]
    assert flags["cpu"] == limits["cpu"]
    assert flags["memory"] == limits["memory"]
    assert int(flags["concurrency"]) == revision["containerConcurrency"]
    assert int(flags["timeout"]) == revision["timeoutSeconds"]
    assert ("no-invoker-iam-check" in flags) == (
        service["metadata"]["annotations"]["run.googleapis.com/invoker-iam-disabled"] == "true"
    )
    assert flags["min-instances"] == notes["autoscaling.knative.dev/minScale"]
    assert flags["max-instances"] == notes["autoscaling.knative.dev/maxScale"]
    assert ("cpu-throttling" in flags) == (notes["run.googleapis.com/cpu-throttling"] == "true")
    assert ("cpu-boost" in flags) == (notes["run.googleapis.com/startup-cpu-boost"] == "true")
    assert flags["execution-environment"] == notes["run.googleapis.com/execution-environment"]
    assert flags["vpc-egress"] == notes["run.googleapis.com/vpc-access-egress"]
    told = dict(pair.split("=") for pair in flags["set-env-vars"].split(","))
    written = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert told == {**written, "SECRETS": "gcp:$PROJECT"}
    [secret] = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one]
    assert written["MAX_INSTANCES"] == flags["max-instances"]
    assert flags["set-secrets"] == f"REDIS_URL={secret['name']}:{secret['key']}"
    for name, probe in (("startup", "startupProbe"), ("liveness", "livenessProbe")):
        told = dict(pair.split("=") for pair in flags[f"{name}-probe"].split(","))
        written = container[probe]
        assert told.pop("httpGet.path") == written["httpGet"]["path"]
        assert int(told.pop("httpGet.port")) == written["httpGet"]["port"]
        assert {n: int(v) for n, v in told.items()} == {
            n: v for n, v in written.items() if n != "httpGet"
        }


def test_the_one_with_a_collector_is_the_same_service(service):
    """It differs in the processor between requests, the port that is scraped, and the collector."""
    other = yaml.safe_load((ROOT / "deploy" / "cloudrun-metrics.yaml").read_text())
    notes = other["spec"]["template"]["metadata"]["annotations"]
    assert notes.pop("run.googleapis.com/container-dependencies") == '{"collector":["api"]}'
    assert notes["run.googleapis.com/cpu-throttling"] == "false"
    notes["run.googleapis.com/cpu-throttling"] = "true"
    revision = other["spec"]["template"]["spec"]
    api, collector = revision["containers"]
    [port] = [one for one in api["env"] if one["name"] == "METRICS_PORT"]
    api["env"].remove(port)
    [volume] = revision.pop("volumes")
    revision["containers"] = [api]
    assert other == service

    told = yaml.safe_load((ROOT / "deploy" / "prometheus" / "run-monitoring.yaml").read_text())
    [endpoint] = told["spec"]["endpoints"]
    assert (str(endpoint["port"]), endpoint["path"]) == (port["value"], "/metrics")
    [mount] = collector["volumeMounts"]
    assert (collector["name"], mount["name"]) == ("collector", volume["name"])
    assert mount["mountPath"] + volume["secret"]["items"][0]["path"] == "/etc/rungmp/config.yaml"


def test_every_flag_is_explained(flags):
    """The table under the command has a line for each flag and each setting that is no default."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    explained = set(re.findall(r"`--([a-z-]+)", text))
    assert set(flags) - {"region", "set-env-vars"} <= explained, "in the table or the text"
    assert "| `TRUSTED_PROXY_HOPS=1` |" in text


def test_the_least_that_google_wants_is_set(service):
    """It names its own identity, not the project's default one, and the API's prefix is ours."""
    identity = service["spec"]["template"]["spec"]["serviceAccountName"]
    assert identity.startswith("quillgate-api@")
    assert AuthSettings.from_env({}).prefix == "quillgate"
