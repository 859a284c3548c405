"""`python -m bench.gateway`: requests per second behind our guards, beside a bare Flask route, the
same route metered by flask-limiter, and LiteLLM's proxy; interleaved rounds, medians, one run.

All Flask contenders are routes of one server process (gateway_server.py) under the shipped gunicorn
settings, on one Redis without persistence. LiteLLM lives in an environment of its own
(`.venv-litellm`, made from bench/litellm.txt; LITELLM names another) and answers from its
`mock_response`, with its master key and no database. What cannot be measured is said with the
reason, never left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import structlog

from auth.audit import Actor
from auth.config import AuthSettings
from auth.embedded_redis import server_binary
from auth.stores import open_stores
from bench import machine
from bench.closed_loop import Load, measure
from bench.gateway_costs import Costs, commands_per_request
from bench.gateway_report import report

ROOT = Path(__file__).parents[1]
TENANTS = 8
HUGE = {
    **dict.fromkeys(("requests_per_minute", "chars_per_minute"), 10**9),
    **dict.fromkeys(("chars_per_day", "chars_per_month", "concurrency"), 10**12),
}
BODY = json.dumps({"num_chars": 100, "seed": 7})
CHAT = json.dumps({"model": "constant", "messages": [{"role": "user", "content": "hi"}]})
GOALS = (  # contender, against, at least
    ("guarded", "bare", 0.70),
    ("guarded", "flask-limiter", 1.7),
    ("guarded", "litellm", 15.0),
    ("generate", "bare", 0.50),
)


@dataclass
class Contender:
    name: str
    load: Load
    rounds: list[float] = field(default_factory=list)
    bad: int = 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(words: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, env={**os.environ, **env}, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(url, timeout=2).read()  # noqa: S310 - our own http URL
            return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{url} does not answer: {log.read_text(errors='replace')[-600:]}")
        time.sleep(0.2)


def issue_keys(home: Path, redis_url: str) -> tuple[str, ...]:
    """Return one key for each of some tenants, with limits that no load reaches."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    settings = AuthSettings.from_env({"QUILLGATE_HOME": str(home), "KEYRING_SHARDS": "4"})
    stores = open_stores(settings, redis_url, redis_timeout_seconds=5)
    admin = stores.admin(Actor("bench", "local"))
    keys = []
    for number in range(TENANTS):
        admin.tenants.add(f"tenant-{number}", "partner")
        issued = admin.keys.issue(f"tenant-{number}", "bench", ["generate"])
        admin.limits.set_key_limits(issued["key_id"], HUGE)
        keys.append(issued["key"])
    stores.close()
    return tuple(keys)


def litellm_program() -> tuple[str | None, str]:
    """Return LiteLLM's command line, or None and why there is none."""
    given = os.environ.get("LITELLM")
    if given:
        return given, ""
    home = ROOT / ".venv-litellm"
    program = home / "bin" / "litellm"
    if not program.exists():
        print("Making .venv-litellm: this takes some minutes.", flush=True)
        venv.create(home, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        wanted = ["-r", str(ROOT / "bench" / "litellm.txt")]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(home)
            return None, f"it could not be installed: {done.stderr.strip().splitlines()[-1][:200]}"
    return str(program), ""


@contextlib.contextmanager
def litellm(directory: Path) -> Iterator[tuple[Contender | None, str]]:
    program, reason = litellm_program()
    if program is None:
        yield None, reason
        return
    port, key, config = free_port(), "sk-" + os.urandom(16).hex(), directory / "litellm.yaml"
    model = {"model": "openai/constant", "api_key": "none", "mock_response": "x" * 100}
    document = {
        "model_list": [{"model_name": "constant", "litellm_params": model}],
        "general_settings": {"master_key": key},
    }
    config.write_text(json.dumps(document))  # JSON is YAML
    words = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    words += ["--num_workers", "1"]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "NO_DOCS": "true"}
    log = directory / "litellm.log"
    with started(words, quiet, log) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, log, 240)
        except RuntimeError as exc:
            yield None, f"it did not start: {exc}"
            return
        load = Load(port, "/v1/chat/completions", CHAT, "Authorization", "Bearer ", (key,))
        yield Contender("litellm", load), ""


def requests_per_second(load: Load, connections: int, seconds: float) -> tuple[float, int]:
    """Return requests per second and how many failed, by wrk where there is one."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return measure(load, connections, seconds)
    keys = ",".join(f'"{key}"' for key in load.keys)
    script = (
        f"local keys, turn = {{{keys}}}, 0\n"
        f"wrk.method, wrk.body = 'POST', [[{load.body}]]\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
        f"request = function() turn = turn % #keys + 1; wrk.headers['{load.header}'] ="
        f" '{load.prefix}' .. keys[turn]; return wrk.format() end\n"
        "done = function(summary) io.write(string.format('%d %d %d\\n', summary.requests,"
        " summary.duration, summary.errors.status + summary.errors.timeout)) end\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        url = f"http://127.0.0.1:{load.port}{load.path}"
        words = [wrk, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", file.name, url]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    count, microseconds, bad = (int(word) for word in out.strip().splitlines()[-1].split())
    return count / microseconds * 1e6, bad


def forget_leases(client: redis.Redis) -> None:
    """Empty Redis of what the round before left, all but the keyring: rounds begin alike."""
    for name in client.scan_iter(count=1000):
        if b"keyring" not in name:
            client.delete(name)


def run(rounds: int, seconds: float, connections: int, *, with_litellm: bool) -> dict[str, Any]:
    begun, build = time.monotonic(), machine.begun(rounds)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qg-bench-")))
        url = f"unix://{directory}/redis.sock"
        options = ["--port", "0", "--unixsocket", f"{directory}/redis.sock", "--save", ""]
        log = directory / "redis.log"
        redis_server = stack.enter_context(started([server_binary(), *options], {}, log))
        client = redis.Redis.from_url(url)
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(redis.RedisError):
                client.ping()
                break
            assert time.monotonic() < end, "Redis does not start"
            time.sleep(0.05)
        keys, port = issue_keys(directory / "home", url), free_port()
        env = {"QUILLGATE_HOME": str(directory / "home"), "REDIS_URL": url, "PORT": str(port)}
        env |= {"LOG_FORMAT": "json", "REDIS_TIMEOUT_MS": "2000"}
        log = directory / "server.log"
        server = stack.enter_context(
            started([sys.executable, "-m", "bench.gateway_server"], env, log)
        )
        wait_for(f"http://127.0.0.1:{port}/ready", server, log)
        contenders = [
            Contender(name, Load(port, f"/{name}", BODY, "X-API-Key", "", keys))
            for name in ("bare", "flask-limiter", "guarded", "generate")
        ]
        missing: dict[str, str] = {}
        if with_litellm:
            peer, reason = stack.enter_context(litellm(directory))
            contenders += [peer] if peer else []
            missing |= {} if peer else {"litellm": reason}
        else:
            missing["litellm"] = "it was left out by --without-litellm"
        commands = {
            one.name: commands_per_request(client, one.load)
            for one in contenders
            if one.name in ("guarded", "generate")
        }
        costs = Costs({"server": server.pid, "redis": redis_server.pid})
        for one in contenders:
            requests_per_second(one.load, connections, 1)
        for number in range(rounds):
            # Another order each round: nobody always follows the same neighbour.
            for one in (
                contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
            ):
                forget_leases(client)
                costs.begin()
                per_second, bad = requests_per_second(one.load, connections, seconds)
                costs.end(one.name, per_second * seconds)
                one.rounds.append(round(per_second, 1))
                one.bad += bad
                print(
                    f"gateway: round {number + 1} of {rounds}: {one.name} {per_second:.0f}/s",
                    flush=True,
                )
    measured = {
        one.name: {
            "requests_per_second": statistics.median(one.rounds),
            "least": min(one.rounds),
            "most": max(one.rounds),
            "rounds": one.rounds,
            "not_200": one.bad,
            "processor_microseconds": {} if one.name == "litellm" else costs.of(one.name),
        }
        for one in contenders
    }
    return {
        "contenders": measured,
        "ratios": _ratios(contenders),
        "not_measured": missing,
        "redis_commands_per_request": commands,
        "client": "wrk, 1 thread" if shutil.which("wrk") else "bench/closed_loop.py, 2 processes",
        "connections": connections,
        "seconds_per_round": seconds,
        "build": machine.ended(build),
        "machine": machine.described(),
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }


def _ratios(contenders: list[Contender]) -> list[dict[str, Any]]:
    """Return for each goal the median over rounds of the two neighbours' ratio."""
    by_name = {one.name: one.rounds for one in contenders}
    found = []
    for name, against, least in GOALS:
        if against not in by_name:
            continue
        each = [a / b for a, b in zip(by_name[name], by_name[against], strict=True)]
        found.append(
            {
                "contender": name,
                "against": against,
                "goal": least,
                "ratio": round(statistics.median(each), 3),
                "least": round(min(each), 3),
                "most": round(max(each), 3),
            }
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--without-litellm", action="store_true")
    args = parser.parse_args()
    result = run(args.rounds, args.seconds, args.connections, with_litellm=not args.without_litellm)
    report(result, args.out)
    print((args.out / "gateway.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
