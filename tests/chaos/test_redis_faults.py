"""Redis stopped, killed, paused, full and restarted empty: what the limiter does meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date

import pytest
import redis

from api.limits import limiter as limiter_module
from api.limits.limiter import TIMEOUT_SECONDS, LimiterEvent, RedisLimiter
from api.limits.policy import Decision, Once
from api.limits.questions import Asked
from api.limits.redis_line import storage_options
from api.limits.wire import FRESH_SECONDS
from auth.principal import Principal, Rotation, SecretRole
from tests.support.callers import caller, plan_of
from tests.support.redis_server import RedisServer


class Steady:
    """A monotonic clock that stands until it is moved: the breaker's pause is in its hands."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Outage:
    """A limiter on a Redis of the test's own, and what it told its operator."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.steady = Steady()
        self.events: Counter[LimiterEvent] = Counter()
        self.limiters: list[RedisLimiter] = []

    def limiter(
        self, outage: str, timeout_seconds: float = 10, max_instances: int = 1
    ) -> RedisLimiter:
        limiter = RedisLimiter(
            self.server.url,
            outage=outage,
            monotonic=self.steady,
            timeout_seconds=timeout_seconds,
            max_instances=max_instances,
            on_event=lambda event, _detail: self.events.update([event]),
        )
        self.limiters.append(limiter)
        return limiter

    def pass_pause(self) -> None:
        """Let the breaker's pause pass: well within the 2 s that recovery may take."""
        self.steady.now += 1.0

    def send(self, number: signal.Signals) -> None:
        assert self.server.process is not None
        self.server.process.send_signal(number)

    def evalsha_calls(self) -> int:
        with redis.Redis.from_url(self.server.url) as client:
            return client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)

    def wait_for_calls(self, count: int) -> None:
        """Wait until Redis has run what reached it while it was paused."""
        deadline = time.monotonic() + 30
        while self.evalsha_calls() < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def outage(own_redis: RedisServer) -> Iterator[Outage]:
    outage = Outage(own_redis)
    yield outage
    for limiter in outage.limiters:
        limiter.close()


def ask(limiter: RedisLimiter, principal: Principal | None = None, chars: int = 10) -> Decision:
    return limiter.acquire(
        principal or caller(), chars=chars, lease_seconds=300, address="192.0.2.7"
    )


def used(limiter: RedisLimiter) -> list[tuple[int, int]]:
    rows = limiter.usage("acme", [caller().key_id], date.min, date.max)
    return [(row.chars, row.requests) for row in rows]


def left(limiter: RedisLimiter) -> list[int]:
    return [state.remaining for state in limiter.peek(caller()).limits]


def test_local_enforces_the_plan_and_says_so(outage):
    """Redis is gone: this instance admits its share, no more; one alarm, every decision counted."""
    limiter = outage.limiter("local")
    principal = caller(plan_of(requests_per_minute=10))
    limiter.settle(ask(limiter, principal).lease, used_chars=10, finish="length")
    outage.server.stop()
    decisions = [ask(limiter, principal) for _ in range(30)]
    assert [decision.allowed for decision in decisions] == [True] * 10 + [False] * 20
    assert all(decision.lease.local for decision in decisions[:10])
    assert decisions[10].code == "rate_limited"
    assert decisions[10].retry_after_ms > 0
    assert all(decision.limits == () for decision in decisions)  # no made-up numbers
    assert outage.events[LimiterEvent.REDIS_LOST] == 1
    assert outage.events[LimiterEvent.DECIDED_WITHOUT_REDIS] == 30


def test_closed_refuses_and_says_when_to_come_again(outage):
    """503 limiter_unavailable, a second to wait, nothing claimed about limits."""
    limiter = outage.limiter("closed")
    outage.server.stop()
    for _ in range(2):
        decision = ask(limiter)
        assert (decision.code, decision.retry_after_ms) == ("limiter_unavailable", 1000)
        assert decision.limits == ()
    assert limiter.peek(caller()).code is None  # reading one's account is not refused


def test_open_admits_all_but_the_impossible(outage):
    """Limits are off; what the plan could never admit, and a dead secret, are still refused."""
    limiter = outage.limiter("open")
    outage.server.stop()
    principal = caller(plan_of(requests_per_minute=1))
    assert all(ask(limiter, principal).allowed for _ in range(20))
    assert ask(limiter, principal, 10_001).code == "exceeds_plan"


@pytest.mark.parametrize("mode", ["local", "closed", "open"])
def test_a_rotated_out_secret_is_dead_at_its_deadline_without_redis(outage, mode):
    """First use of the new secret cannot be known then; the hard deadline needs no Redis."""
    limiter = outage.limiter(mode)
    outage.server.stop()
    now = int(time.time())
    gone = caller(secret_role=SecretRole.OLD, rotation=Rotation(now - 100, now - 1, 0))
    assert ask(limiter, gone).code == "invalid_key"
    assert limiter.peek(gone).code == "invalid_key"
    alive = caller(secret_role=SecretRole.OLD, rotation=Rotation(now - 100, now + 900, 0))
    assert ask(limiter, alive).code != "invalid_key"
    assert limiter.peek(alive).sunset_at == now + 900


def test_redis_is_back_after_one_pause(outage):
    """A Redis that returns, empty, decides again with the first request after the pause."""
    limiter = outage.limiter("local")
    assert ask(limiter).allowed
    outage.server.stop()
    assert ask(limiter).lease.local
    outage.server.start()
    assert ask(limiter).lease.local  # still within the pause: nobody pays to find out
    outage.pass_pause()
    back = ask(limiter)
    assert not back.lease.local
    assert back.limits
    assert outage.events[LimiterEvent.REDIS_BACK] == 1
    assert limiter.ping()


def test_a_connection_that_redis_closed_meanwhile_is_no_outage(outage):
    """An idle connection that was cut (by Redis, by a NAT) opens anew, and nobody notices."""
    limiter = outage.limiter("closed")
    for _ in range(3):
        assert ask(limiter).allowed
        with redis.Redis.from_url(outage.server.url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(FRESH_SECONDS)
    assert ask(limiter).allowed
    assert outage.events == Counter()


def test_an_outage_costs_one_timeout_a_second(outage):
    """A Redis that hangs is asked by one caller each pause, whatever the load."""
    limiter = outage.limiter("closed", timeout_seconds=0.2)
    principal = caller()
    ask(limiter, principal)
    before = outage.evalsha_calls()
    outage.send(signal.SIGSTOP)
    for _ in range(3):
        for _ in range(50):
            assert ask(limiter, principal).code == "limiter_unavailable"
        outage.pass_pause()
    outage.send(signal.SIGCONT)
    outage.wait_for_calls(before + 3)  # those that hung ran when it woke
    assert outage.evalsha_calls() == before + 3


def test_an_admission_that_timed_out_and_was_applied_is_taken_back(outage):
    """The caller got 503; what Redis charged meanwhile is given back when it answers again."""
    limiter = outage.limiter("closed", timeout_seconds=0.2)
    first = ask(limiter)
    before = outage.evalsha_calls()
    outage.send(signal.SIGSTOP)
    assert ask(limiter, chars=5000).code == "limiter_unavailable"
    outage.send(signal.SIGCONT)
    outage.wait_for_calls(before + 1)
    outage.pass_pause()
    assert left(limiter)[4] == 98  # it was applied
    limiter.settle(first.lease, used_chars=10, finish="length")
    assert left(limiter)[4] == 100
    assert used(limiter) == [(10, 1)]


@pytest.mark.parametrize("once", [None, Once("record", "digest", 7)])
def test_what_hung_does_not_stand_in_the_way_of_the_next(outage, once):
    """The only slot, and an idempotency key, are free again for the first who asks after it."""
    limiter = outage.limiter("closed", timeout_seconds=0.2)
    principal = caller(plan_of(concurrency=1))

    def ask_once() -> Decision:
        return limiter.acquire(principal, chars=9, lease_seconds=300, address="", once=once)

    limiter.settle(ask(limiter).lease, used_chars=0, finish="refused")  # Redis knows the scripts
    before = outage.evalsha_calls()
    outage.send(signal.SIGSTOP)
    assert ask_once().code == "limiter_unavailable"
    outage.send(signal.SIGCONT)
    outage.wait_for_calls(before + 1)
    outage.pass_pause()
    assert ask_once().allowed
    assert used(limiter) == [(9, 1)]


def test_a_local_admission_that_redis_had_applied_is_charged_once(outage):
    """Granted here after a time-out, and in Redis too: one request, settled in both places."""
    limiter = outage.limiter("local", timeout_seconds=0.2)
    ask(limiter)
    before = outage.evalsha_calls()
    outage.send(signal.SIGSTOP)
    granted = ask(limiter, chars=5000)
    assert granted.lease.local
    outage.send(signal.SIGCONT)
    outage.wait_for_calls(before + 1)
    outage.pass_pause()
    limiter.settle(granted.lease, used_chars=700, finish="length")
    limiter.settle(granted.lease, used_chars=700, finish="length")
    assert used(limiter) == [(10 + 700, 2)]


def test_a_settlement_that_timed_out_and_was_applied_counts_once(outage):
    """It is told again when Redis answers, and changes nothing then."""
    limiter = outage.limiter("local", timeout_seconds=0.2)
    limiter.settle(ask(limiter).lease, used_chars=0, finish="refused")  # Redis knows the scripts
    first, second = ask(limiter, chars=5000), ask(limiter, chars=100)
    before = outage.evalsha_calls()
    outage.send(signal.SIGSTOP)
    limiter.settle(first.lease, used_chars=700, finish="length")
    outage.send(signal.SIGCONT)
    outage.wait_for_calls(before + 1)
    outage.pass_pause()
    assert used(limiter) == [(700 + 100, 2)]
    limiter.settle(second.lease, used_chars=100, finish="length")
    assert outage.evalsha_calls() == before + 3  # the second's, and the first's again
    assert used(limiter) == [(700 + 100, 2)]
    assert left(limiter)[4] == 100


def test_what_was_served_without_redis_reaches_the_ledger(outage):
    """Requests admitted and ended during an outage are charged when Redis is back, once each."""
    limiter = outage.limiter("local")
    outage.server.stop()
    for _ in range(3):
        limiter.settle(ask(limiter, chars=500).lease, used_chars=200, finish="stop")
    running = ask(limiter, chars=500)
    aborted = ask(limiter, chars=500)
    limiter.settle(aborted.lease, used_chars=0, finish="refused")
    outage.server.start()
    outage.pass_pause()
    limiter.settle(running.lease, used_chars=40, finish="aborted")
    limiter.settle(running.lease, used_chars=40, finish="aborted")
    assert used(limiter) == [(3 * 200 + 40, 4)]
    assert outage.events[LimiterEvent.SETTLEMENT_DEFERRED] >= 4
    assert outage.events[LimiterEvent.SETTLEMENT_DROPPED] == 0


def test_closing_tells_redis_what_it_still_has_to_know(outage):
    """A process that ends after an outage leaves no settlement behind."""
    limiter = outage.limiter("local")
    outage.server.stop()
    for _ in range(50):
        limiter.settle(ask(limiter).lease, used_chars=3, finish="stop")
    outage.server.start()
    outage.pass_pause()
    limiter.close()
    assert used(outage.limiter("local")) == [(150, 50)]


def test_what_waits_to_be_told_is_bounded(outage, monkeypatch):
    """A long outage drops the oldest settlements and says so; their log lines remain."""
    monkeypatch.setattr(limiter_module, "_UNSETTLED_KEPT", 5)
    limiter = outage.limiter("open")
    outage.server.stop()
    for _ in range(8):
        limiter.settle(ask(limiter).lease, used_chars=1, finish="stop")
    assert outage.events[LimiterEvent.SETTLEMENT_DROPPED] == 3


def test_instances_share_the_plan_while_redis_is_away(outage):
    """Two that knew of each other admit half each: together the plan, not twice."""
    limiters = [outage.limiter("local") for _ in range(2)]
    principal = caller(plan_of(requests_per_minute=10))
    for limiter in limiters:
        limiter.peek(principal)
    outage.steady.now += 10  # the next call is each one's heartbeat again
    for limiter in limiters:
        limiter.peek(principal)
    outage.server.stop()
    admitted = [sum(ask(one, principal).allowed for _ in range(20)) for one in limiters]
    assert admitted == [5, 5]


@pytest.mark.parametrize("told", [False, True])
def test_an_instance_that_just_started_is_cautious(outage, told):
    """Until Redis has told for a while how many there are, it takes the most there may be."""
    limiter = outage.limiter("local", max_instances=5)
    principal = caller(plan_of(requests_per_minute=10))
    if told:
        assert limiter.ping()  # nobody else yet: the others start at this moment
    outage.server.stop()
    assert sum(ask(limiter, principal).allowed for _ in range(20)) == 2


def test_an_instance_alone_has_the_whole_plan_in_the_end(outage):
    """Caution ends when Redis has told for long enough that there is nobody else."""
    limiter = outage.limiter("local", max_instances=5)
    principal = caller(plan_of(requests_per_minute=10))
    assert limiter.ping()
    outage.steady.now += 10
    assert limiter.ping()
    outage.server.stop()
    assert sum(ask(limiter, principal).allowed for _ in range(20)) == 10


def test_an_instance_that_is_only_probed_counts(outage):
    """`/ready` is its heartbeat: the others leave it its share before its first request."""
    idle, busy = (outage.limiter("local") for _ in range(2))
    assert idle.ping()
    principal = caller(plan_of(requests_per_minute=10))
    busy.peek(principal)
    outage.server.stop()
    assert sum(ask(busy, principal).allowed for _ in range(20)) == 5


def test_quotas_used_before_an_outage_stay_used_in_it(outage):
    """The day's quota is not had twice because Redis went away."""
    limiter = outage.limiter("local")
    principal = caller(plan_of(chars_per_day=1000))
    limiter.settle(ask(limiter, principal, 900).lease, used_chars=900, finish="length")
    outage.server.stop()
    assert ask(limiter, principal, 200).code == "quota_exceeded"
    assert ask(limiter, principal, 100).allowed


def test_a_redis_that_takes_no_writes_is_a_redis_that_is_away(outage):
    """Out of memory is an answer, not a decision: the outage mode decides."""
    limiter = outage.limiter("closed")
    assert ask(limiter).allowed
    with redis.Redis.from_url(outage.server.url) as client:
        client.config_set("maxmemory", "1")
        assert ask(limiter).code == "limiter_unavailable"
        client.config_set("maxmemory", "0")
    outage.pass_pause()
    assert ask(limiter).allowed


def test_an_admission_that_arrives_after_its_settlement_charges_nothing(outage):
    """Two calls that hung may run in the wrong order: the late admission finds itself settled."""
    limiter = outage.limiter("local")
    ask(limiter)
    outage.server.stop()
    granted = ask(limiter, chars=500)
    outage.server.start()
    outage.pass_pause()
    limiter.settle(granted.lease, used_chars=40, finish="stop")
    asked = Asked("acquire", granted.lease.lease_id, 300_000, 500, "192.0.2.7")
    limiter._decide(caller(), asked)
    assert used(limiter) == [(40, 1)]
    assert left(limiter)[4] == 100


@pytest.mark.parametrize("mode", ["local", "closed"])
def test_characters_served_equal_characters_charged_whatever_hung(outage, mode):
    """Redis hangs again and again under load, calls time out and are applied: the sums agree."""
    limiter = outage.limiter(mode, timeout_seconds=0.1)
    limiter._breaker._pause_seconds = 0.0  # every call probes: more of them hang
    served: list[int] = []
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            decision = ask(limiter, chars=10 + number)
            if decision.lease is not None:
                finish = "refused" if len(served) % 5 == 0 else "stop"
                served.append(0 if finish == "refused" else 1 + number)
                limiter.settle(decision.lease, used_chars=1 + number, finish=finish)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        time.sleep(0.05)
        outage.send(signal.SIGSTOP)
        time.sleep(0.3)
        outage.send(signal.SIGCONT)
    stop.set()
    for thread in threads:
        thread.join()
    assert outage.events[LimiterEvent.DECIDED_WITHOUT_REDIS] > 0
    after = outage.limiter(mode)
    deadline = time.monotonic() + 30
    while limiter._unsettled:  # until a call finds Redis awake
        limiter.close()
        assert time.monotonic() < deadline
    assert used(after) == [(sum(served), sum(1 for chars in served if chars))]
    assert left(after)[4] == 100


def test_killed_and_restarted_under_load(outage):
    """No request fails for it: every one is decided, and nothing stays held when all is over."""
    limiter = outage.limiter("local")
    limiter._breaker._pause_seconds = 0.0  # every call probes: more crossings in less time
    decided: Counter[bool] = Counter()
    stop = threading.Event()
    broken: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                decision = ask(limiter)
                if decision.lease is not None:
                    decided[decision.lease.local] += 1
                    limiter.settle(decision.lease, used_chars=1, finish="stop")
        except BaseException as exc:
            broken.append(exc)
            raise

    def until(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not done() and not broken:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = decided[False]
        until(lambda before=before: decided[False] > before)
        outage.server.stop()
        before = decided[True]
        until(lambda before=before: decided[True] > before)
        outage.server.start()
    before = decided[False]
    until(lambda before=before: decided[False] > before)
    stop.set()
    for thread in threads:
        thread.join()
    assert not broken
    limiter.settle(ask(limiter).lease, used_chars=1, finish="stop")
    assert left(limiter)[4] == 100


def test_the_request_path_waits_50_ms_and_never_retries():
    """redis-py's own defaults would hold a request for seconds."""
    options = storage_options(TIMEOUT_SECONDS)
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.05
    assert options["retry"].get_retries() == 0
    limiter = RedisLimiter("redis://127.0.0.1:1")
    chosen = limiter._line._redis.connection_pool.connection_kwargs
    assert chosen["socket_timeout"] == chosen["socket_connect_timeout"] == 0.05
    assert chosen["retry"].get_retries() == 0
    assert ask(limiter).lease.local  # nobody listens there, and nobody waits
    limiter.close()


def test_an_unknown_outage_mode_stops_the_start():
    """A misspelt mode is not `open`."""
    with pytest.raises(ValueError, match="lokal"):
        RedisLimiter("redis://127.0.0.1:1", outage="lokal")
