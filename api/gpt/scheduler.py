"""Who generates next: a bounded queue and the slots, shared among tenants by weight, first come
first served in each.

A tenant is due as many slots as its weight's part of them holds whole, less what it does not want.
The slots that are left over, all of them where tenants outnumber slots, go to those who are owed
most (`fair_share.py`) and change hands when another is owed a slice more: so in the long run what
is read and written for tenants with work waiting is in proportion to their weights, whatever they
send and however long their jobs are.

Who is due a slot takes it from the job that started last of a tenant with more than its own
(`preempt`). That job waits at the head of its line, and goes on where it was.
Pure bookkeeping: no clock, no thread, no tensor. The caller holds a lock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace

from api.gpt.fair_share import FairShare

SLICE = 512  # tokens: twice what is read again at most of a job that has to wait
# Who comes back may be owed so much: it is more than a slice, so it has a slot at once.
SAVED = 2 * SLICE


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


class Scheduler:
    """Every job that is enqueued ends once: it is withdrawn while it waits, or finished."""

    def __init__(self, *, slots: int, queue_limit: int, tenant_queue_limit: int) -> None:
        if min(slots, queue_limit, tenant_queue_limit) < 1:
            raise ValueError("slots and queue limits must be at least 1")
        self.slots, self.queue_limit = slots, queue_limit
        self.tenant_queue_limit = tenant_queue_limit
        self._shares = FairShare(saved=SAVED)
        self._lines: dict[str, deque[Job]] = {}  # what was preempted first; none is empty
        self._running: dict[str, Job] = {}  # in the order of their starts
        self._waiting: dict[str, Job] = {}
        self._preempted: set[str] = set()  # of the waiting

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
        weights = {name: self._shares.weight(name) for name in self._wants()}
        weights[tenant] = max(1, weight)
        due = max(1, self.slots * weights[tenant] // sum(weights.values()))
        running = [job for job in self._running.values() if job.tenant == tenant]
        waiting = list(self._lines.get(tenant, ()))
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
        if self.waiting - len(self._preempted) >= self.queue_limit:
            raise QueueFullError("the queue is full")
        line = self._lines.get(job.tenant, ())
        if sum(j.job_id not in self._preempted for j in line) >= self.tenant_queue_limit:
            raise QueueFullError("the tenant's queue is full")
        self._shares.join(job.tenant, job.weight)
        self._lines.setdefault(job.tenant, deque()).append(job)
        self._waiting[job.job_id] = job

    def worked(self, tokens: Mapping[str, int]) -> None:
        """Note how much was read and written for each tenant; each has jobs that run."""
        for tenant, count in tokens.items():
            self._shares.charge(tenant, count)

    def preempt(self) -> list[Job]:
        """Let go of the jobs that hold slots due to other tenants; return them.

        `admit` then starts others in their place.
        """
        due, counts = self._due(), self._counts()
        preempted: list[Job] = []
        for job in reversed(list(self._running.values())):  # the last to start first
            if counts[job.tenant] > due[job.tenant]:
                counts[job.tenant] -= 1
                del self._running[job.job_id]
                self._waiting[job.job_id] = job
                self._preempted.add(job.job_id)
                self._lines.setdefault(job.tenant, deque()).appendleft(job)
                preempted.append(job)
        return preempted

    def admit(self) -> list[Job]:
        """Start waiting jobs while slots are free; return them in order.

        Tenants that are due slots come first, of those the one that is owed most.
        """
        due, counts = self._due(), self._counts()
        admitted: list[Job] = []
        while self.running < self.slots:
            short = [tenant for tenant in self._lines if counts[tenant] < due[tenant]]
            if not short:
                break
            tenant = min(short, key=self._shares.stands)
            job = self._lines[tenant].popleft()
            if not self._lines[tenant]:
                del self._lines[tenant]
            del self._waiting[job.job_id]
            self._preempted.discard(job.job_id)
            self._running[job.job_id] = job
            counts[tenant] += 1
            admitted.append(job)
        return admitted

    def overdue(self, now: float) -> list[str]:
        """Return the waiting jobs whose deadline has come; the caller withdraws them."""
        jobs = self._waiting.values()
        return [job.job_id for job in jobs if job.deadline is not None and job.deadline <= now]

    def finish(self, job_id: str) -> bool:
        """Free the slot of a running job. Return False when it was not running (any more)."""
        job = self._running.pop(job_id, None)
        if job is None:
            return False
        self._leave_if_idle(job.tenant)
        return True

    def withdraw(self, job_id: str) -> bool:
        """Forget a waiting job. Return False when it was not waiting (any more)."""
        job = self._waiting.pop(job_id, None)
        if job is None:
            return False
        self._preempted.discard(job_id)
        line = self._lines[job.tenant]
        line.remove(job)
        if not line:
            del self._lines[job.tenant]
            self._leave_if_idle(job.tenant)
        return True

    def _leave_if_idle(self, tenant: str) -> None:
        if tenant not in self._wants():
            self._shares.leave(tenant)

    def _counts(self) -> Counter[str]:
        """Return how many slots each tenant has."""
        return Counter(job.tenant for job in self._running.values())

    def _wants(self) -> Counter[str]:
        """Return how many slots each tenant could use."""
        return self._counts() + Counter({name: len(line) for name, line in self._lines.items()})

    def _due(self) -> dict[str, int]:
        """Return how many slots each tenant is due: all of them, or all that are wanted."""
        wants, holds, weight = self._wants(), self._counts(), self._shares.weight
        due: dict[str, int] = {}
        left, whole = self.slots, sum(map(weight, wants))
        while content := [t for t in wants if wants[t] * whole <= left * weight(t)]:
            for tenant in content:  # they leave something of their part to the others
                due[tenant] = wants.pop(tenant)
            left = self.slots - sum(due.values())
            whole = sum(map(weight, wants))
        self._shares.compete(wants)
        due |= {tenant: left * weight(tenant) // whole for tenant in wants}

        def place(tenant: str) -> float:
            """To take over another's slot a tenant must be owed a slice more."""
            more = 0 if holds[tenant] > due[tenant] else SLICE
            return self._shares.stands(tenant) + more / weight(tenant)

        for tenant in sorted(wants, key=place)[: self.slots - sum(due.values())]:
            due[tenant] += 1
        return due
