"""The scheduler under any sequence of events: no job lost, no slot lost, no tenant starved."""

from collections import Counter, defaultdict

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
        self.running = {}  # job id -> Job, in the order of their starts
        self.ended = set()
        self.ran = set()  # what was admitted, once or more often
        self.passed_over = defaultdict(int)  # characters of others since a waiting tenant's last

    @rule(tenant=st.sampled_from(TENANTS), cost=st.integers(1, MAX_COST))
    def enqueue(self, tenant, cost):
        self.number += 1
        job = Job(str(self.number), tenant, cost, weight=WEIGHT)
        new = {t: sum(j.job_id not in self.ran for j in line) for t, line in self.waiting.items()}
        full = sum(new.values()) >= QUEUE
        try:
            self.scheduler.enqueue(job)
        except QueueFullError:
            assert full or new[tenant] >= TENANT_QUEUE
            return
        assert not full
        assert new.get(tenant, 0) < TENANT_QUEUE
        self.waiting[tenant].append(job)

    @rule()
    def admit(self):
        free, waited = SLOTS - len(self.running), sum(map(len, self.waiting.values()))
        admitted = self.scheduler.admit()
        assert len(admitted) == min(free, waited), "a slot stays free while work waits"
        for job in admitted:
            assert self.waiting[job.tenant].pop(0) == job, "out of order within a tenant"
            self.running[job.job_id] = job
            self.passed_over[job.tenant] = 0
            if job.job_id in self.ran:
                continue  # it was paid for
            self.ran.add(job.job_id)
            for tenant, jobs in self.waiting.items():
                if jobs and tenant != job.tenant:
                    self.passed_over[tenant] += job.cost
        for tenant in TENANTS:
            if not self.waiting[tenant]:
                self.passed_over[tenant] = 0

    def shares(self):
        tenants = {job.tenant for job in self.running.values()}
        tenants |= {tenant for tenant, line in self.waiting.items() if line}
        return dict.fromkeys(tenants, max(1, SLOTS // max(1, len(tenants))))

    @rule()
    def preempt_and_admit(self):
        """What the engine does before each step: afterwards nobody waits who is owed a slot."""
        before = self.shares()
        for job in self.scheduler.preempt():
            same = [j for j in self.running.values() if j.tenant == job.tenant]
            assert job == same[-1], "not the last to start"
            assert len(same) > before[job.tenant], "taken below its share"
            del self.running[job.job_id]
            self.waiting[job.tenant].insert(0, job)
        self.admit()
        shares = self.shares()
        counts = Counter(job.tenant for job in self.running.values())
        owed = any(line and counts[t] < shares[t] for t, line in self.waiting.items())
        assert not owed or all(counts[t] <= shares[t] for t in counts)
        assert not self.scheduler.preempt(), "it would go to and fro"

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.running)))
        assert self.scheduler.finish(job_id)
        del self.running[job_id]
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
        jobs = [*self.running.values(), *(j for line in self.waiting.values() for j in line)]
        everything = sum(job.cost for job in jobs)
        for tenant in TENANTS:
            assert 0 <= self.scheduler.cost_ahead(tenant, WEIGHT, {}) <= everything

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
