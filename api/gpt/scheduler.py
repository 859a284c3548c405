"""Who generates next: a bounded queue and the slots, shared among tenants by weight, first come
first served in each.

Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): a tenant's turn adds its weight times a
quantum to what it may spend, and its jobs start while that pays for them, so in the long run each
tenant with work waiting gets its weight's share of what is read and written, however much another
one sends.

Nor can a tenant hold the slots with long jobs: one that waits and has fewer than its weight's share
of them takes the place of the job that started last of a tenant with more than its own
(`preempt`). That job waits at the head of its line, and goes on where it was without paying again.
Pure bookkeeping: no clock, no thread, no tensor. The caller holds a lock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

QUANTUM = 200  # of a job's cost that a turn is worth to a tenant of weight 1


class QueueFullError(Exception):
    """No more may wait, of this tenant or in all."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the scheduler needs to know of a request."""

    job_id: str
    tenant: str
    cost: int  # characters asked for, and tokens of the prompt that are read
    weight: int = 1
    deadline: float | None = None


@dataclass(slots=True)
class _Line:
    """A tenant's waiting jobs and what is left of what its turns brought."""

    jobs: deque[Job] = field(default_factory=deque)  # those that were preempted first
    deficit: int = 0
    in_turn: bool = False


class Scheduler:
    """Every job that is enqueued ends once: it is withdrawn while it waits, or finished."""

    def __init__(self, *, slots: int, queue_limit: int, tenant_queue_limit: int) -> None:
        if min(slots, queue_limit, tenant_queue_limit) < 1:
            raise ValueError("slots and queue limits must be at least 1")
        self.slots, self.queue_limit = slots, queue_limit
        self.tenant_queue_limit = tenant_queue_limit
        self._lines: dict[str, _Line] = {}  # in the order of turns; none is empty
        self._running: dict[str, Job] = {}  # in the order of their starts
        self._waiting: dict[str, Job] = {}
        self._paid: set[str] = set()  # of the waiting: those that ran before

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def cost_ahead(self, tenant: str, weight: int, left: Mapping[str, int]) -> int:
        """Estimate how much is generated before a new job of this tenant starts.

        left: what is still to come of each job that has been running; of the others all is.
        """
        if self.running < self.slots and not self._waiting:
            return 0
        due = max(1, int(self._shares({tenant: weight})[tenant]))
        running = [job for job in self._running.values() if job.tenant == tenant]
        waiting = list(self._lines[tenant].jobs) if tenant in self._lines else []
        if not waiting and len(running) < due:
            return 0  # it takes another's place

        def until_start(slots: int, running: Iterable[Job], waiting: Iterable[Job]) -> int:
            """Let the jobs run side by side; return what each slot does until one is free."""
            ends = [left.get(job.job_id, job.cost) for job in running]
            ends += [0] * (slots - len(ends))
            heapify(ends)
            for job in waiting:
                heapreplace(ends, ends[0] + left.get(job.job_id, job.cost))
            return ends[0]

        everybody = until_start(self.slots, self._running.values(), self._waiting.values())
        return self.slots * min(everybody, until_start(due, running, waiting))

    def enqueue(self, job: Job) -> None:
        """Let a job wait for its turn. Raise QueueFullError when no more may wait."""
        if job.job_id in self._waiting or job.job_id in self._running:
            raise ValueError(f"job {job.job_id} is already here")
        line = self._lines.get(job.tenant)
        if self.waiting - len(self._paid) >= self.queue_limit:
            raise QueueFullError("the queue is full")
        if line is not None and self._new_in(line) >= self.tenant_queue_limit:
            raise QueueFullError("the tenant's queue is full")
        self._lines.setdefault(job.tenant, _Line()).jobs.append(job)
        self._waiting[job.job_id] = job

    def preempt(self) -> list[Job]:
        """Let go of running jobs for tenants with less than their share of the slots; return them.

        `admit` then starts others in their place. The share of a tenant is its weight's part of
        the slots, rounded down, but a slot at least; nobody is taken below it.
        """
        free = self.slots - self.running
        counts = Counter(job.tenant for job in self._running.values())
        shares = {tenant: max(1, int(share)) for tenant, share in self._shares({}).items()}
        owed = sum(
            max(0, min(len(line.jobs), shares[tenant] - counts[tenant]))
            for tenant, line in self._lines.items()
        )
        preempted: list[Job] = []
        while counts and owed - free > len(preempted):
            tenant = max(counts, key=lambda t: counts[t] - shares[t])
            if counts[tenant] <= shares[tenant]:
                break
            counts[tenant] -= 1
            job = next(j for j in reversed(self._running.values()) if j.tenant == tenant)
            del self._running[job.job_id]
            self._waiting[job.job_id] = job
            self._paid.add(job.job_id)
            preempted.append(job)
        for job in preempted:  # the last to start first, so that the first to start heads the line
            self._lines.setdefault(job.tenant, _Line()).jobs.appendleft(job)
        return preempted

    def admit(self) -> list[Job]:
        """Start waiting jobs while slots are free; return them in order.

        Tenants with less than their share of the slots come first.
        """
        admitted: list[Job] = []
        counts = Counter(job.tenant for job in self._running.values())
        while self._lines and self.running < self.slots:
            shares = self._shares({})
            due = (t for t in self._lines if counts[t] < max(1, int(shares[t])))
            tenant = next(due, None) or next(iter(self._lines))
            line = self._lines[tenant]
            head = line.jobs[0]
            if not line.in_turn:
                line.in_turn = True
                line.deficit += QUANTUM * max(1, head.weight)
            cost = 0 if head.job_id in self._paid else head.cost
            if cost > line.deficit:
                self._end_turn(tenant)
                continue
            line.deficit -= cost
            line.jobs.popleft()
            del self._waiting[head.job_id]
            self._paid.discard(head.job_id)
            self._running[head.job_id] = head
            counts[tenant] += 1
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
        del self._running[job_id]
        return True

    def withdraw(self, job_id: str) -> bool:
        """Forget a waiting job. Return False when it was not waiting (any more)."""
        job = self._waiting.pop(job_id, None)
        if job is None:
            return False
        self._paid.discard(job_id)
        line = self._lines[job.tenant]
        line.jobs.remove(job)
        if not line.jobs:
            del self._lines[job.tenant]
        return True

    def _shares(self, more: dict[str, int]) -> dict[str, float]:
        """Return the part of the slots that each tenant with jobs is due, and those of `more`."""
        weights = {job.tenant: max(1, job.weight) for job in self._running.values()}
        weights |= {tenant: max(1, line.jobs[0].weight) for tenant, line in self._lines.items()}
        weights |= more
        whole = sum(weights.values())
        return {tenant: self.slots * weight / whole for tenant, weight in weights.items()}

    def _new_in(self, line: _Line) -> int:
        return sum(job.job_id not in self._paid for job in line.jobs)

    def _end_turn(self, tenant: str) -> None:
        line = self._lines.pop(tenant)
        line.in_turn = False
        self._lines[tenant] = line  # to the end
