"""Starting: what the process does with a model it cannot serve, and with its metrics port."""

from __future__ import annotations

import shutil

import httpx

from tests.support.api_server import free_port


def test_a_tampered_model_is_never_served(api_server, tiny_model, tmp_path, redis_url):
    """A wrong hash: /health answers, /ready names the file, /generate is 503; one log line."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01\x02")
    server = api_server(
        ready=False,
        QUILLGATE_HOME=str(tmp_path / "home"),
        REDIS_URL=redis_url,
        MODEL_URI=str(model),
    )
    server.wait_until(lambda: bool(server.events("model.failed")), "the refusal")
    assert server.get("/health").json()["model"] is None
    ready = server.get("/ready")
    assert ready.status_code == 503
    assert "model.safetensors" in ready.json()["checks"]["model"]
    assert "exception" not in server.events("model.failed")[0]
    # Without a keyring there is no telling who asks: that refusal comes first.
    refused = server.post("/generate", "qg_live_x", num_chars=1)
    assert (refused.status_code, refused.json()["code"]) == (503, "keyring_unavailable")


def test_metrics_have_a_port_of_their_own(api_server, tmp_path, redis_url, tiny_model):
    """Prometheus reads there what happened here; the public port does not know the path."""
    port = free_port()
    server = api_server(
        ready=False,
        QUILLGATE_HOME=str(tmp_path / "home"),
        REDIS_URL=redis_url,
        MODEL_URI=str(tiny_model),
        METRICS_PORT=str(port),
    )
    server.wait_until(lambda: server.answers("/health"), "/health")
    assert server.get("/metrics").status_code == 404
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    assert 'quillgate_requests_total{route="/health",status="200"}' in text


def test_a_model_that_cannot_be_fetched_leaves_the_process_up(
    api_server, cloud_storage, tmp_path, redis_url
):
    """MODEL_URI=gs:// without a bucket: /health answers, /ready says why, one log line."""
    server = api_server(
        ready=False,
        QUILLGATE_HOME=str(tmp_path / "home"),
        REDIS_URL=redis_url,
        MODEL_URI="gs://nowhere/model",
        STORAGE_EMULATOR_HOST=cloud_storage.url,
    )
    server.wait_until(lambda: bool(server.events("model.failed")), "the refusal")
    assert server.get("/health").json()["status"] == "ok"
    ready = server.get("/ready")
    assert ready.status_code == 503
    assert (
        ready.json()["checks"]["model"] == "failed: gs://nowhere/model: there is no bucket nowhere"
    )
    assert "exception" not in server.events("model.failed")[0]
