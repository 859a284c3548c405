"""The scheduler under any sequence of events: no job lost, no slot lost, no tenant starved."""

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from api.gpt.scheduler import QUANTUM, Job, QueueFullError, Scheduler

SLOTS, QUEUE, TENANT_QUEUE, MAX_COST, WEIGHT = 3, 12, 6, 1_000, 2
TENANTS = ("a", "b", "c", "d")


class SchedulerMachine(RuleBasedStateMachine):
    """Checks the scheduler against the plainest model: who waits in what order, and who runs."""

    def __init__(self):
        super().__init__()
        self.scheduler = Scheduler(slots=SLOTS, queue_limit=QUEUE, tenant_queue_limit=TENANT_QUEUE)
        self.number = 0
        self.waiting = defaultdict(list)
        self.running = set()
        self.ended = set()
        self.passed_over = defaultdict(int)  # characters of others since a waiting tenant's last

    @rule(tenant=st.sampled_from(TENANTS), cost=st.integers(1, MAX_COST))
    def enqueue(self, tenant, cost):
        self.number += 1
        job = Job(str(self.number), tenant, cost, weight=WEIGHT)
        full = sum(map(len, self.waiting.values())) >= QUEUE
        try:
            self.scheduler.enqueue(job)
        except QueueFullError:
            assert full or len(self.waiting[tenant]) >= TENANT_QUEUE
            return
        assert not full
        assert len(self.waiting[tenant]) < TENANT_QUEUE
        self.waiting[tenant].append(job)

    @rule()
    def admit(self):
        free, waited = SLOTS - len(self.running), sum(map(len, self.waiting.values()))
        admitted = self.scheduler.admit()
        assert len(admitted) == min(free, waited), "a slot stays free while work waits"
        for job in admitted:
            assert self.waiting[job.tenant].pop(0) == job, "out of order within a tenant"
            self.running.add(job.job_id)
            self.passed_over[job.tenant] = 0
            for tenant, jobs in self.waiting.items():
                if jobs and tenant != job.tenant:
                    self.passed_over[tenant] += job.cost
        for tenant in TENANTS:
            if not self.waiting[tenant]:
                self.passed_over[tenant] = 0

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.running)))
        assert self.scheduler.finish(job_id)
        self.running.remove(job_id)
        self.ended.add(job_id)

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data())
    def withdraw(self, data):
        jobs = sorted((j for line in self.waiting.values() for j in line), key=lambda j: j.job_id)
        job = data.draw(st.sampled_from(jobs))
        assert self.scheduler.withdraw(job.job_id)
        self.waiting[job.tenant].remove(job)
        self.ended.add(job.job_id)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def end_again(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.ended)))
        assert not self.scheduler.finish(job_id)
        assert not self.scheduler.withdraw(job_id)

    @invariant()
    def nothing_is_lost(self):
        assert self.scheduler.running == len(self.running) <= SLOTS
        assert self.scheduler.waiting == sum(map(len, self.waiting.values()))
        costs = [job.cost for jobs in self.waiting.values() for job in jobs]
        assert self.scheduler.waiting_cost() == sum(costs)

    @invariant()
    def nobody_starves(self):
        """A waiting tenant is passed over by no more than the others' turns until it can pay."""
        turns = -(-MAX_COST // (QUANTUM * WEIGHT)) + 1
        most = (len(TENANTS) - 1) * (turns * QUANTUM * WEIGHT + MAX_COST)
        assert all(passed <= most for passed in self.passed_over.values())


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None
)
TestScheduler = SchedulerMachine.TestCase
