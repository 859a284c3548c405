"""Who generates next: a bounded queue, shared among tenants by weight, first come first served in
each.

Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): a tenant's turn adds its weight times a
quantum to what it may spend, and its jobs start while that pays for them, so in the long run each
tenant with work waiting gets its weight's share of the characters, however much another one sends.
Pure bookkeeping: no clock, no thread, no tensor. The caller holds a lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

QUANTUM = 200  # characters that a turn is worth to a tenant of weight 1


class QueueFullError(Exception):
    """No more may wait, of this tenant or in all."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the scheduler needs to know of a request."""

    job_id: str
    tenant: str
    cost: int  # characters asked for
    weight: int = 1
    deadline: float | None = None


@dataclass(slots=True)
class _Line:
    """A tenant's waiting jobs and what is left of what its turns brought."""

    jobs: deque[Job] = field(default_factory=deque)
    deficit: int = 0
    in_turn: bool = False


class Scheduler:
    """Every job that is enqueued is withdrawn once, or admitted once and finished once."""

    def __init__(self, *, slots: int, queue_limit: int, tenant_queue_limit: int) -> None:
        if min(slots, queue_limit, tenant_queue_limit) < 1:
            raise ValueError("slots and queue limits must be at least 1")
        self.slots, self.queue_limit = slots, queue_limit
        self.tenant_queue_limit = tenant_queue_limit
        self._lines: dict[str, _Line] = {}  # in the order of turns; none is empty
        self._running: set[str] = set()
        self._waiting: dict[str, Job] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def waiting_cost(self) -> int:
        """Return how many characters are asked for by what waits."""
        return sum(job.cost for job in self._waiting.values())

    def enqueue(self, job: Job) -> None:
        """Let a job wait for its turn. Raise QueueFullError when no more may wait."""
        if job.job_id in self._waiting or job.job_id in self._running:
            raise ValueError(f"job {job.job_id} is already here")
        line = self._lines.get(job.tenant)
        if self.waiting >= self.queue_limit:
            raise QueueFullError("the queue is full")
        if line is not None and len(line.jobs) >= self.tenant_queue_limit:
            raise QueueFullError("the tenant's queue is full")
        self._lines.setdefault(job.tenant, _Line()).jobs.append(job)
        self._waiting[job.job_id] = job

    def admit(self) -> list[Job]:
        """Start waiting jobs while slots are free; return them in order."""
        admitted: list[Job] = []
        while self._lines and self.running < self.slots:
            tenant, line = next(iter(self._lines.items()))
            head = line.jobs[0]
            if not line.in_turn:
                line.in_turn = True
                line.deficit += QUANTUM * max(1, head.weight)
            if head.cost > line.deficit:
                self._end_turn(tenant)
                continue
            line.deficit -= head.cost
            line.jobs.popleft()
            del self._waiting[head.job_id]
            self._running.add(head.job_id)
            admitted.append(head)
            if not line.jobs:
                del self._lines[tenant]  # what an idle tenant saved up is not kept
        return admitted

    def overdue(self, now: float) -> list[str]:
        """Return the waiting jobs whose deadline has come; the caller withdraws them."""
        jobs = self._waiting.values()
        return [job.job_id for job in jobs if job.deadline is not None and job.deadline <= now]

    def finish(self, job_id: str) -> bool:
        """Free the slot of a running job. Return False when it was not running (any more)."""
        if job_id not in self._running:
            return False
        self._running.remove(job_id)
        return True

    def withdraw(self, job_id: str) -> bool:
        """Forget a waiting job. Return False when it was not waiting (any more)."""
        job = self._waiting.pop(job_id, None)
        if job is None:
            return False
        line = self._lines[job.tenant]
        line.jobs.remove(job)
        if not line.jobs:
            del self._lines[job.tenant]
        return True

    def _end_turn(self, tenant: str) -> None:
        line = self._lines.pop(tenant)
        line.in_turn = False
        self._lines[tenant] = line  # to the end
