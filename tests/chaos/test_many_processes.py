"""Many processes on one Redis admit together what one would."""

from __future__ import annotations

import multiprocessing
import threading
from datetime import date

from api.limits.limiter import RedisLimiter
from tests.support.callers import caller, plan_of

PROCESSES, THREADS, QUOTA = 4, 50, 40
CHARS = 5
# A monthly quota: nothing of it comes back however long a busy machine takes over the storm.
PRINCIPAL = caller(plan_of(chars_per_month=QUOTA * CHARS, concurrency=1000))


def _instance(redis_url: str, start: threading.Barrier, admitted: multiprocessing.Queue) -> None:
    limiter = RedisLimiter(redis_url, outage="closed", timeout_seconds=30)
    codes: list[str | None] = []

    def one() -> None:
        decision = limiter.acquire(PRINCIPAL, chars=CHARS, lease_seconds=60, address="192.0.2.7")
        codes.append(decision.code)
        if decision.lease is not None:
            limiter.settle(decision.lease, used_chars=CHARS, finish="stop")

    start.wait()
    threads = [threading.Thread(target=one) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limiter.close()
    admitted.put((codes.count(None), codes.count("quota_exceeded")))


def test_four_processes_of_fifty_threads_admit_exactly_the_quota(redis_url):
    """Two hundred requests at once on a key with room for forty: forty, and the ledger agrees."""
    context = multiprocessing.get_context("spawn")
    start, admitted = context.Barrier(PROCESSES), context.Queue()
    workers = [
        context.Process(target=_instance, args=(redis_url, start, admitted))
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    counts = [admitted.get(timeout=100) for _ in workers]
    for worker in workers:
        worker.join()
    total = PROCESSES * THREADS
    assert tuple(map(sum, zip(*counts, strict=True))) == (QUOTA, total - QUOTA)
    limiter = RedisLimiter(redis_url, timeout_seconds=30)
    rows = limiter.usage("acme", [PRINCIPAL.key_id], date.min, date.max)
    limiter.close()
    assert [(row.chars, row.requests, row.refused) for row in rows] == [
        (QUOTA * CHARS, QUOTA, total - QUOTA)
    ]
