"""The order in which texts are read, and who waits for whom meanwhile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.gpt.batch import FEW, Batch
from api.gpt.decoder import PORTION, READ_AHEAD, READ_ALONE, READ_BESIDE
from api.gpt.generation import Generation
from api.gpt.reading import SAVED_IN_STEP
from api.gpt.request import GenerationRequest
from api.gpt.row import Row
from api.gpt.tokenizer import CharTokenizer


class Recorder:
    """A decoder that draws token 0 and notes what it is asked for."""

    reads_one_at_a_time = False

    def __init__(self):
        self.passes = []  # of (slots that read, tokens read, slots that decode)
        self.released = []

    def run(self, portions, running, steps):
        slots = [portion.slot for portion in portions]
        self.passes.append((slots, sum(len(p.tokens) for p in portions), sorted(running)))
        drawn = {p.slot: [0] for p in portions if p.draw is not None}
        return drawn | {slot: [0] * (1 if portions else steps) for slot in running}

    def release(self, slot):
        self.released.append(slot)


@pytest.fixture
def decoder():
    return Recorder()


@pytest.fixture
def batch(decoder):
    return Batch(decoder, slots=8, context=512)


def spend(batch, *tenants):
    """Let tenants without a text to be read have nothing saved up."""
    for tenant in tenants:
        batch._reading._left[tenant] = batch._reading._steps, 0


def row(length, tenant="t", **more):
    request = GenerationRequest("r", tenant, "x", seed=0, **{"num_chars": 1_000, **more})
    generation = Generation(request, clock=lambda: 0.0, on_abort=lambda _: None)
    return Row(generation, [0] * length, 512, CharTokenizer("a"))


def test_a_short_text_does_not_wait_for_long_ones(batch, decoder):
    """A newcomer with a short prompt is read in the next pass, in one without the running rows,
    whatever is being read already."""
    batch.add(running := row(1))
    batch.step(4)
    spend(batch, "t")
    for _ in range(3):
        batch.add(row(400))
    batch.step(4)
    decoder.passes.clear()
    batch.add(newcomer := row(3))
    batch.step(4)
    assert decoder.passes[0] == ([newcomer.slot], 3, [])
    assert len(newcomer.tokens) == 3 + 2  # read, and decoded with the others
    assert running.slot in decoder.passes[1][2]


def test_running_rows_wait_for_a_portion_at_a_time(batch, decoder):
    """Beside running rows a step reads a portion, alone some more; nothing is read twice. So it is
    for a tenant that has nothing saved up."""
    batch.add(long := row(400))
    batch.step(4)
    assert decoder.passes == [([long.slot] * 4, READ_ALONE, [])]
    batch._reading._lines["t"].saved = 0
    batch.add(row(1))
    batch.step(4)
    decoder.passes.clear()
    while list(batch._reading):
        batch.step(4)
    read = [tokens for _, tokens, _ in decoder.passes]
    assert max(read) <= READ_BESIDE
    assert all(len(slots) <= READ_BESIDE // PORTION for slots, _, _ in decoder.passes)
    assert sum(read) == 400 - READ_ALONE - READ_BESIDE


def test_many_rows_and_what_is_read_take_turns(decoder):
    """Where many rows run no pass both reads and draws, a portion is read between two draws, and a
    newcomer comes before whichever is next."""
    batch = Batch(decoder, 2 * FEW, context=512)
    for _ in range(FEW + 1):
        batch.add(row(1))
        batch.step(1)
    spend(batch, "t")
    batch.add(row(400))
    decoder.passes.clear()
    read = [batch.step(4).read for _ in range(20)]
    assert sorted((read[0::2], read[1::2])) == [[0] * 10, [READ_BESIDE] * 10]
    assert not any(tokens and running for _, tokens, running in decoder.passes)
    for _ in range(2):
        decoder.passes.clear()
        batch.add(newcomer := row(3))
        batch.step(4)
        assert decoder.passes[0] == ([newcomer.slot], 3, [])
        assert len(decoder.passes) == 2


def test_who_was_not_reading_is_read_at_once(batch, decoder):
    """Beside a flood of prompts, a text of a tenant that had none is read ahead of all turns, a
    bounded part in a step, in passes without the running rows, and the flood has its turns too."""
    batch.add(row(1, "flood"))
    batch.step(1)
    spend(batch, "flood")
    for _ in range(5):
        batch.add(row(400, "flood"))
    batch.step(1)
    decoder.passes.clear()
    batch.add(newcomer := row(300, "newcomer"))
    steps = 0
    while newcomer.is_new:
        batch.step(1)
        steps += 1
    assert steps == -(-300 // READ_AHEAD)
    ahead = [(slots, tokens) for slots, tokens, running in decoder.passes if not running]
    assert all(set(slots) == {newcomer.slot} and tokens <= READ_AHEAD for slots, tokens in ahead)
    beside = [tokens for _, tokens, running in decoder.passes if running]
    assert beside == [READ_BESIDE] * steps


def test_reading_is_saved_up_slowly_and_to_a_bound(batch, decoder):
    """A tenant that had its text read ahead is read in turn until steps have passed without one of
    its own; and no wait is worth more than a context."""
    batch.add(row(1, "busy"))
    batch.step(1)
    ahead = []
    for pause in (0, 8, 1_000, 100_000):
        batch._reading.passed(pause)
        batch.add(text := row(510, "t", num_chars=1))
        decoder.passes.clear()
        while text.is_new:
            batch.step(1)
        batch.remove_ended(0.0)
        passes = [tokens for _, tokens, running in decoder.passes if not running]
        ahead.append(sum(passes))
    assert ahead[0] + ahead[1] <= 512 + 16 * SAVED_IN_STEP
    assert ahead[1] < 510 / 2
    assert ahead[2] == ahead[3] == ahead[0] > 400


def test_a_tenant_that_is_long_gone_is_not_kept_in_mind(batch):
    """What is remembered of tenants is bounded by the steps that it takes to save up all."""
    batch.add(row(1, "busy"))
    for number in range(200):
        batch.add(text := row(40, f"{number}", num_chars=1))
        while text.is_new:
            batch.step(1)
        batch.remove_ended(0.0)
    assert len(batch._reading._left) <= 512 // SAVED_IN_STEP + 2


def test_what_was_begun_is_read_to_its_end_where_it_must_be(batch, decoder):
    """A decoder with one stage is never given another text's portion in the middle of one."""
    decoder.reads_one_at_a_time = True
    batch.add(row(1))
    batch.step(1)
    spend(batch, "t")
    batch.add(long := row(200))
    batch.step(1)
    batch.add(row(2))
    decoder.passes.clear()
    while list(batch._reading):
        batch.step(1)
    order = [slot for slots, _, _ in decoder.passes for slot in slots]
    assert order[:-1] == [long.slot] * 6
    assert order[-1] != long.slot


def test_a_row_that_was_evicted_is_read_again_from_its_start(batch, decoder):
    """Its slot is free for another; added again it reads all it has, and goes on."""
    batch.add(subject := row(5))
    batch.step(3)
    batch.step(3)
    tokens = len(subject.tokens)
    batch.evict(subject)
    assert decoder.released == [subject.slot]
    decoder.passes.clear()
    batch.add(subject)
    batch.step(3)
    assert decoder.passes[0][1] == tokens
    assert len(subject.tokens) == tokens + 1


def test_a_text_that_ends_with_its_first_character_is_not_gone_on_with(batch, decoder):
    """A row that ended in the pass of its own is neither decoded nor told more in the same step."""
    batch.add(row(1))
    batch.step(4)
    decoder.passes.clear()
    batch.add(ending := row(1, stop=("a",)))
    batch.step(4)
    assert ending.generation.ended
    assert ending.slot not in decoder.passes[1][2]
    assert decoder.released == [ending.slot]
    assert ending.take([0, 0]) == 0
    assert batch.remove_ended(0.0) == [ending]


def most_steps(batch, subject, weights):
    """Return how many steps a row that is to be read may take, whatever joins from now on: what
    stands before it in its tenant's line, and a turn of each other tenant for each of its own's.
    """
    line = [r for r in batch._reading if r.tenant == subject.tenant]
    ahead = sum(r.position + 1 - r.read for r in line[: line.index(subject) + 1])
    begun = 512 if batch._decoder.reads_one_at_a_time else PORTION  # read beyond what a turn pays
    turns = -(-(ahead + begun) // (PORTION * weights[subject.tenant])) + 1
    others = sum(PORTION * w + begun for t, w in weights.items() if t != subject.tenant)
    return (ahead + turns * others) // READ_BESIDE + 1


@settings(max_examples=60, deadline=None)
@given(
    weights=st.fixed_dictionaries({tenant: st.integers(1, 16) for tenant in "abc"}),
    flood=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 300), st.sampled_from([1, 2, 600])),
        min_size=1,
        max_size=12,
    ),
    one_at_a_time=st.booleans(),
)
def test_every_row_is_read_within_a_number_of_steps(weights, flood, one_at_a_time):
    """Whatever joins, and however fast, no row with a slot waits to be read for longer than its own
    line and its tenant's turns take: neither at its beginning nor when its window has moved."""
    decoder = Recorder()
    decoder.reads_one_at_a_time = one_at_a_time
    batch = Batch(decoder, slots=8, context=512)
    due, joined = {}, 0
    batch.add(row(1, "a", weight=weights["a"]))
    batch.add(row(500, "b", weight=weights["b"]))
    for step in range(150):
        while batch._free:
            tenant, length, chars = flood[joined % len(flood)]
            batch.add(row(length, tenant, weight=weights[tenant], num_chars=chars))
            joined += 1
        reading = {id(r): r for r in batch._reading}
        for key, r in reading.items():
            due.setdefault(key, (r, step + most_steps(batch, r, weights)))
        due = {key: (r, last) for key, (r, last) in due.items() if key in reading}
        assert all(step <= last for _, last in due.values())
        batch.step(1)
        batch.remove_ended(0.0)


def test_reading_is_shared_by_weight(batch, decoder):
    """Beside each other, tenants' long texts are read in proportion to their weights."""
    batch.add(row(1))
    batch.step(1)
    spend(batch, "light", "heavy")
    rows = [row(500, "light"), row(500, "heavy", weight=3)]
    for r in rows:
        batch.add(r)
    for _ in range(16):
        batch.step(1)
    assert [r.read for r in rows] == [4 * PORTION, 12 * PORTION]
