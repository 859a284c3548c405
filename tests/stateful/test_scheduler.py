"""The scheduler under any sequence of events: no job lost, no slot lost, no tenant starved, and
each tenant's part by its weight."""

from collections import Counter, defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api.gpt.scheduler import SAVED, SLICE, Job, QueueFullError, Scheduler

SLOTS, QUEUE, TENANT_QUEUE, MAX_COST, MOST_TOKENS = 3, 12, 6, 1_000, 256
WEIGHTS = {"a": 1, "b": 1, "c": 2, "d": 5}
# How far apart two tenants may stand who both wait, in work for each of their weight: what they
# brought with them, a slice, and a step in all slots.
APART = 2 * SAVED + SLICE + SLOTS * MOST_TOKENS


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
        self.work = Counter()  # of each tenant
        self.both_wait = {}  # pairs of tenants -> each one's work when both had begun to wait
        self.passed_over = Counter()  # work for others while a tenant waits and none of it runs

    @rule(tenant=st.sampled_from(sorted(WEIGHTS)), cost=st.integers(1, MAX_COST))
    def enqueue(self, tenant, cost):
        self.number += 1
        job = Job(str(self.number), tenant, cost, weight=WEIGHTS[tenant])
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
            self.ran.add(job.job_id)

    def holds(self):
        return Counter(job.tenant for job in self.running.values())

    def whole_parts(self):
        """Return the whole slots that each tenant's weight is worth among all with work; what
        one of them does not want makes the others' parts larger."""
        wants = self.holds() + Counter({t: len(line) for t, line in self.waiting.items()})
        left, parts = SLOTS, {}
        while True:
            whole = sum(WEIGHTS[t] for t in wants)
            content = {t: n for t, n in wants.items() if n * whole <= left * WEIGHTS[t]}
            if not content:
                return parts | {t: left * WEIGHTS[t] // whole for t in wants}
            for tenant, count in content.items():
                parts[tenant] = wants.pop(tenant)
                left -= count

    @rule(times=st.integers(1, 40), tokens=st.integers(1, MOST_TOKENS))
    def steps(self, times, tokens):
        """What the engine does: preempt, admit, and let every running job do some tokens."""
        for _ in range(times):
            self.preempt_and_admit()
            self.note_who_waits()  # also who has a turn that is over by the last step
            work = Counter()
            for job in self.running.values():
                work[job.tenant] += tokens
            self.scheduler.worked(work)
            self.work += work
            for tenant in self.waiting:
                self.passed_over[tenant] += sum(work.values())
            self.who_waits_gets_its_part()
            self.nobody_starves()

    @initialize(tenants=st.lists(st.sampled_from(sorted(WEIGHTS)), max_size=40))
    def come_alone(self, tenants):
        """One after another, with nobody else here: each is served at once and goes."""
        for tenant in tenants:
            self.enqueue(tenant, 20)
            self.steps(1, 20)
            (job,) = self.running.values()
            assert job.tenant == tenant
            assert self.scheduler.finish(job.job_id)
            del self.running[job.job_id]
            self.ended.add(job.job_id)

    def note_who_waits(self):
        """Begin to count anew for those who do not wait, or not without a slot."""
        holds = self.holds()
        for one in WEIGHTS:
            if holds[one] or not self.waiting[one]:
                self.passed_over[one] = 0
            for other in WEIGHTS:
                if self.waiting[one] and self.waiting[other]:
                    self.both_wait.setdefault((one, other), dict(self.work))
                else:
                    self.both_wait.pop((one, other), None)

    def preempt_and_admit(self):
        """Afterwards each has what its weight is worth, to a slot, and the last made room."""
        before = self.holds()
        for job in self.scheduler.preempt():
            same = [j for j in self.running.values() if j.tenant == job.tenant]
            assert job == same[-1], "not the last to start"
            del self.running[job.job_id]
            self.waiting[job.tenant].insert(0, job)
        self.admit()
        holds, parts = self.holds(), self.whole_parts()
        for tenant, count in parts.items():
            assert count <= holds[tenant] <= count + 1, "not its weight's part"
            assert not self.waiting[tenant] or holds[tenant] >= min(before[tenant], count)
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
        for tenant, weight in WEIGHTS.items():
            assert 0 <= self.scheduler.cost_ahead(tenant, weight, {}) <= everything

    @invariant()
    def who_waits_gets_its_part(self):
        """While two tenants both have work waiting, what is done for them goes by their weights."""
        self.note_who_waits()
        for pair, then in self.both_wait.items():
            since = [(self.work[t] - then.get(t, 0)) / WEIGHTS[t] for t in pair]
            assert abs(since[0] - since[1]) <= APART

    @invariant()
    def nobody_starves(self):
        """A tenant that waits without a slot is passed over by no more than lifts all others as far
        as they may stand before it, in the one slot or more that is nobody's whole part."""
        self.note_who_waits()
        for tenant in WEIGHTS:
            others = sum(weight for t, weight in WEIGHTS.items() if t != tenant)
            assert self.passed_over[tenant] <= SLOTS * others * APART


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None
)
TestScheduler = SchedulerMachine.TestCase
