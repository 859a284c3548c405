"""The scheduler: bounds, order, and each tenant's share."""

from collections import Counter

import pytest

from api.gpt.scheduler import SAVED, SLICE, Job, QueueFullError, Scheduler


def scheduler(slots=1, queue_limit=100, tenant_queue_limit=100):
    return Scheduler(slots=slots, queue_limit=queue_limit, tenant_queue_limit=tenant_queue_limit)


def job(name, tenant="a", cost=200, **more):
    return Job(str(name), tenant, cost, **more)


def served(queue, count):
    """Let `count` jobs through a queue, one after the other to its end; return their tenants."""
    tenants = []
    for _ in range(count):
        (admitted,) = queue.admit()
        tenants.append(admitted.tenant)
        queue.worked({admitted.tenant: admitted.cost})
        queue.finish(admitted.job_id)
    return tenants


def flood(queue, weights, jobs=100, **more):
    for tenant, weight in weights.items():
        for i in range(jobs):
            queue.enqueue(job(f"{tenant}-{i}", tenant, weight=weight, **more))


def work_of(queue, tokens):
    """Let every running job do some tokens at a time, as the engine does, until so many are done;
    return each tenant's, and how many jobs had to make room."""
    done, moved = Counter(), 0
    while done.total() < tokens:
        moved += len(queue.preempt())
        queue.admit()
        work = Counter()
        for running in queue._running.values():
            work[running.tenant] += 8
        queue.worked(work)
        done += work
    return done, moved


def test_within_a_tenant_first_come_is_first_served():
    """Jobs of one tenant start in the order they came, whatever they cost."""
    queue = scheduler(slots=2)
    for i, cost in enumerate((10_000, 1, 500, 1)):
        queue.enqueue(job(i, cost=cost))
    assert [j.job_id for j in queue.admit()] == ["0", "1"]
    queue.finish("1")
    queue.finish("0")
    assert [j.job_id for j in queue.admit()] == ["2", "3"]


def test_a_flood_does_not_take_anothers_turn():
    """With a hundred jobs of one tenant waiting, another tenant's job is the next."""
    queue = scheduler()
    for i in range(99):
        queue.enqueue(job(i, "flood"))
    served(queue, 10)
    queue.enqueue(job("x", "other"))
    assert served(queue, 1) == ["other"]


@pytest.mark.parametrize("cost", [50, 200, 999])
def test_tenants_share_by_weight(cost):
    """Over a long time, tenants of weight 1, 4 and 16 get characters in that proportion."""
    queue = scheduler(queue_limit=10_000, tenant_queue_limit=5_000)
    weights = {"free": 1, "standard": 4, "partner": 16}
    flood(queue, weights, jobs=2_000, cost=cost)
    counts = Counter(served(queue, 1_050))
    for tenant, weight in weights.items():
        assert counts[tenant] / 1_050 == pytest.approx(
            weight / 21, rel=0.05, abs=2 * SAVED / cost / 1_050
        )


@pytest.mark.parametrize(
    ("slots", "weights"),
    [
        (2, {"light": 1, "heavy": 3}),
        (2, dict.fromkeys("abcde", 1)),
        (1, {"free": 1, "standard": 4, "partner": 16}),
        (3, {"free": 1, "standard": 4, "partner": 16}),
        (32, {**{f"free {i}": 1 for i in range(31)}, "partner": 16}),
    ],
    ids=str,
)
def test_where_slots_are_fewer_than_shares_they_go_round_by_weight(slots, weights):
    """Texts without end, and shares that are no whole number of slots: each tenant's work follows
    its weight all the same, and slots change hands no more than once in some hundred tokens."""
    queue = scheduler(slots, queue_limit=10_000)
    flood(queue, weights, jobs=40, cost=10_000)
    whole = sum(weights.values())
    tokens = 25 * SLICE * whole
    done, moved = work_of(queue, tokens)
    for tenant, weight in weights.items():
        assert done[tenant] == pytest.approx(tokens * weight / whole, abs=8 * SLICE)
    assert moved <= done.total() / (SLICE / 2) + slots


def test_long_jobs_of_one_tenant_do_not_outweigh_short_ones_of_another():
    """Shares are of characters: ten jobs of 100 weigh as much as one of 1000."""
    queue = scheduler(queue_limit=1_000, tenant_queue_limit=500)
    for i in range(400):
        queue.enqueue(job(f"s{i}", "short", 100))
        queue.enqueue(job(f"l{i}", "long", 1_000))
    counts = Counter(served(queue, 220))
    assert counts["short"] == pytest.approx(200, abs=12)


def test_an_idle_tenant_saves_up_no_more_than_a_bound():
    """A tenant that was away for long comes back to what may be saved up, and then to its part."""
    queue = scheduler(queue_limit=1_000, tenant_queue_limit=1_000)
    for i in range(500):
        queue.enqueue(job(i, "busy"))
    queue.enqueue(job("x", "idle", cost=1))
    served(queue, 400)
    for i in range(50):
        queue.enqueue(job(f"y{i}", "idle"))
    found = Counter(served(queue, 20))
    first = SAVED // 200
    assert found["idle"] == pytest.approx(first + (20 - first) / 2, abs=2)


def test_who_wants_little_is_owed_no_more_than_a_bound():
    """A tenant that long had all it wanted gets no more for that later than one that was away."""
    queue = scheduler(slots=3, queue_limit=1_000)
    queue.enqueue(job("x", "modest", cost=10_000))
    flood(queue, {"busy": 1})
    work_of(queue, 100 * SLICE)
    flood(queue, {"modest": 1})
    done, _ = work_of(queue, 60 * SLICE)
    assert done["modest"] <= 30 * SLICE + SAVED + SLICE


def test_what_a_tenant_had_too_much_is_not_forgotten_when_its_jobs_end():
    """Going away for a moment does not make a tenant one that has waited long."""
    queue = scheduler(queue_limit=1_000)
    flood(queue, {"b": 1}, jobs=60)
    counts = Counter()
    for i in range(40):
        queue.enqueue(job(f"hit and run {i}", "a"))
        counts.update(served(queue, 1))
        queue.withdraw(f"hit and run {i}")
    assert counts["a"] == pytest.approx(20, abs=SAVED // 200)


def test_what_was_done_while_nobody_waited_is_held_against_nobody():
    """Tenants that came one after another, each alone, stand even: the first of them is served
    beside the last as soon as one that never was here."""
    queue = scheduler(queue_limit=1_000)
    tenants = [f"t{i}" for i in range(50)]
    for tenant in tenants:
        queue.enqueue(job("alone", tenant, cost=20))
        served(queue, 1)
    assert len(queue._shares._away) <= len(tenants)
    flood(queue, {tenants[-1]: 1, tenants[0]: 1})
    done, _ = work_of(queue, 4 * SLICE)
    assert min(done[tenants[0]], done[tenants[-1]]) >= SLICE


def test_who_used_what_others_left_is_served_beside_those_who_come_then():
    """A tenant that long had the slots which modest ones left free is not made to wait for that
    when many come who want them too."""
    queue = scheduler(slots=8, queue_limit=1_000)
    flood(queue, {f"modest {i}": 1 for i in range(5)}, jobs=1, cost=100_000)
    flood(queue, {"busy": 1}, cost=100_000)
    work_of(queue, 200 * SLICE)
    late = {f"late {i}": 1 for i in range(6)}
    flood(queue, late, jobs=10, cost=100_000)
    done, _ = work_of(queue, 60 * SLICE)
    assert done["busy"] == pytest.approx(done["late 0"], abs=2 * SAVED + SLICE)


def test_the_queue_is_bounded_in_all_and_for_each_tenant():
    """A tenant at its bound is refused while others may still wait; then all are."""
    queue = scheduler(queue_limit=3, tenant_queue_limit=2)
    queue.enqueue(job(1))
    queue.enqueue(job(2))
    with pytest.raises(QueueFullError, match="tenant's"):
        queue.enqueue(job(3))
    queue.enqueue(job(4, "b"))
    with pytest.raises(QueueFullError, match="the queue"):
        queue.enqueue(job(5, "c"))
    assert queue.withdraw("1")
    queue.enqueue(job(5, "c"))
    assert (queue.waiting, queue.running) == (3, 0)


def test_ends_are_idempotent():
    """Finishing or withdrawing twice, or what was never here, changes nothing."""
    queue = scheduler()
    queue.enqueue(job(1))
    queue.enqueue(job(2))
    queue.admit()
    assert [queue.finish(i) for i in ("1", "1", "2", "?")] == [True, False, False, False]
    assert [queue.withdraw(i) for i in ("2", "2", "1", "?")] == [True, False, False, False]
    assert (queue.running, queue.waiting) == (0, 0)


def test_overdue_jobs_are_named_from_their_deadline_on():
    """Only what waits and whose deadline has come is overdue."""
    queue = scheduler()
    queue.enqueue(job(0, deadline=1.0))
    queue.admit()
    queue.enqueue(job(1, deadline=5.0))
    queue.enqueue(job(2))
    assert queue.overdue(4.9) == []
    assert queue.overdue(5.0) == ["1"]


def test_a_job_id_is_taken_once():
    """The same id cannot wait or run twice at a time."""
    queue = scheduler()
    queue.enqueue(job(1))
    with pytest.raises(ValueError, match="already"):
        queue.enqueue(job(1))


@pytest.mark.parametrize("name", ["slots", "queue_limit", "tenant_queue_limit"])
def test_bounds_of_nothing_are_refused(name):
    """A scheduler that could never run or queue anything is not built."""
    with pytest.raises(ValueError, match="at least 1"):
        scheduler(**{name: 0})


def test_who_comes_late_takes_the_place_of_who_has_too_many():
    """A tenant that holds every slot gives up those that another is due, its latest first, at once;
    they go on, in their order, when there is room, and pay nothing again."""
    queue = scheduler(slots=4)
    for i in range(6):
        queue.enqueue(job(i, "flood", cost=10_000))
    assert len(queue.admit()) == 4
    assert queue.preempt() == []
    queue.enqueue(job("x", "late", cost=10_000))
    queue.enqueue(job("y", "late"))
    queue.enqueue(job("z", "late"))
    assert [j.job_id for j in queue.preempt()] == ["3", "2"]
    assert [j.job_id for j in queue.admit()] == ["x", "y"]
    assert queue.preempt() == []
    queue.finish("x")
    assert [j.job_id for j in queue.admit()] == ["z"]
    queue.finish("y")
    queue.finish("z")
    assert [j.job_id for j in queue.admit()] == ["2", "3"]


def test_a_heavy_tenant_is_due_more_slots():
    """A weight of 3 against 1 is three of four slots."""
    queue = scheduler(slots=4)
    for i in range(4):
        queue.enqueue(job(i, "light"))
    queue.admit()
    for i in range(4):
        queue.enqueue(job(f"h{i}", "heavy", weight=3))
    assert len(queue.preempt()) == 3
    assert {j.tenant for j in queue.admit()} == {"heavy"}


def test_who_is_due_a_slot_waits_for_nobody():
    """What is ahead of a new job is its own line and what runs, and nothing if it is due a slot."""
    queue = scheduler(slots=2)
    for i in range(6):
        queue.enqueue(job(i, "flood", cost=1_000))
    queue.admit()
    assert queue.cost_ahead("other", 1, {}) == 0
    assert queue.cost_ahead("flood", 1, {}) == 2 * (1_000 + 2 * 1_000)
    assert queue.cost_ahead("flood", 1, {"0": 10, "1": 500}) == 2 * (10 + 2 * 1_000)
