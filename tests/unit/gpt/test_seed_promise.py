"""The seed's promise: one request, one text, bit for bit, whatever else the engine is doing."""

import itertools
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.gpt import checkpoint, cuda
from api.gpt.compiled import CompiledDecoder
from api.gpt.cuda import CudaDecoder
from api.gpt.engine import Engine
from api.gpt.kv_cache import KVCache
from api.gpt.request import FinishReason, GenerationMode, GenerationRequest
from tests.support.cuda_step import on_cpu

WAIT = 60.0
DEMO = Path(__file__).parents[3] / "models" / "demo"
EXAMPLES = 400 if "SOAK" in os.environ else 8  # `make soak`
MIXES = max(EXAMPLES, 75)  # in int8, for each number of threads: it is quick
PROMPTS = ("\n", "The ", "x" * 64, "long prompt " * 20)
STOPS = ((), (" ",), ("e", "th"), ("never seen",))
INT8 = [(GenerationMode.INT8, t) for t in (1, 2)]
SLOWER = [(GenerationMode.FP32, 1), (GenerationMode.FP32, 2), (GenerationMode.CUDA, 1)]
numbers = itertools.count()


@pytest.fixture(scope="module")
def model(tiny_model):
    return checkpoint.load(tiny_model)


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Fill with NaN what no row may read: freed rows, the stage after use, rows never used."""
    created, join, leave = KVCache.__init__, KVCache.join, KVCache.leave

    def poison(cache, row):
        cache.keys[:, row] = torch.nan
        cache.values[:, row] = torch.nan

    def create(cache, *arguments):
        created(cache, *arguments)
        poison(cache, slice(None))

    def join_then_poison(cache, length):
        row = join(cache, length)
        poison(cache, cache.slots)
        return row

    def leave_then_poison(cache, row):
        leave(cache, row)
        poison(cache, cache.count)

    monkeypatch.setattr(KVCache, "__init__", create)
    monkeypatch.setattr(KVCache, "join", join_then_poison)
    monkeypatch.setattr(KVCache, "leave", leave_then_poison)

    compiled = CompiledDecoder.__init__

    def create_compiled(decoder, *arguments, slots, **more):
        compiled(decoder, *arguments, slots=slots, **more)
        for slot in range(slots):
            decoder.release(slot)

    def release(decoder, slot):
        cache, slots = decoder.cache, len(decoder._slots.token)
        for scales in (cache.key_scales, cache.value_scales):
            scales.reshape(slots, -1)[slot] = np.nan
        for numbers in (cache.keys, cache.values):
            numbers.reshape(slots, -1)[slot] = 0x80

    # As among many rows: what is read and what draws take turns, beside one row they do not.
    monkeypatch.setattr("api.gpt.batch.FEW", 1)
    monkeypatch.setattr(CompiledDecoder, "__init__", create_compiled)
    monkeypatch.setattr(CompiledDecoder, "release", release)


@pytest.fixture(autouse=True)
def _poisoned_cuda(monkeypatch):
    """The same for the slots of mode `cuda` that were released."""
    released = CudaDecoder.release

    def release_then_poison(decoder, slot):
        released(decoder, slot)
        decoder.step.keys[:, slot] = torch.nan
        decoder.step.values[:, slot] = torch.nan

    monkeypatch.setattr(CudaDecoder, "release", release_then_poison)


@pytest.fixture
def _cuda_on_cpu(monkeypatch, exact_products):
    """Without a GPU mode `cuda` runs as it is on the CPU, in bfloat16, and is not recorded."""
    monkeypatch.setattr(
        cuda, "on_gpu", lambda model, slots: CudaDecoder(on_cpu(model, slots, torch.bfloat16))
    )


@pytest.fixture(params=INT8 + SLOWER, ids=str)
def pair(request, model):
    """An engine where requests run alone, and one where they run in company."""
    mode, threads = request.param
    if mode is GenerationMode.CUDA and not torch.cuda.is_available():
        request.getfixturevalue("_cuda_on_cpu")
    before = torch.get_num_threads()
    engines = [
        Engine(model, slots=slots, queue_limit=200, threads=threads, mode=mode) for slots in (1, 3)
    ]
    step = engines[1]._batch.step
    engines[1]._batch.step = lambda _steps: step(1)  # the more steps for others to come between
    for engine in engines:
        engine.start()
    yield engines
    for engine in engines:
        engine.close()
    torch.set_num_threads(before)


def fresh(request):
    """The same request under an id of its own."""
    return GenerationRequest(**{**values(request), "request_id": f"r{next(numbers)}"})


def values(request):
    return {name: getattr(request, name) for name in request.__slots__}


def _tenant(request):
    return request.tenant


requests = st.builds(
    GenerationRequest,
    request_id=st.just(""),
    tenant=st.sampled_from(["a", "b", "c"]),
    prompt=st.sampled_from(PROMPTS),
    seed=st.integers(0, 2**63 - 1),
    num_chars=st.integers(1, 100),
    temperature=st.sampled_from([0.0, 0.5, 0.8, 2.0]),
    top_k=st.none() | st.integers(1, 20),
    top_p=st.none() | st.floats(0.1, 1.0),
    stop=st.sampled_from(STOPS),
    weight=st.integers(1, 16),
)


# More than fit in the slots, one tenant's after the other's: the first one's rows give way to those
# of the next, and are read again.
mixes = st.lists(requests, min_size=1, max_size=8).map(lambda mix: sorted(mix, key=_tenant))


def hold_to_the_promise(pair, mix, chance):
    """Alone and among arrivals, cancels and other lengths, streamed or not, the text is the same;
    and what a cancelled request gave until then is a prefix of it."""
    alone, company = pair
    expected = [alone.submit(fresh(request)).result(WAIT) for request in mix]
    running = []
    for request in mix:
        running.append(company.submit(fresh(request)))
        if chance.random() < 0.5:  # let some time pass: arrivals fall between steps
            chance.choice(running).read(0.002)
        if chance.random() < 0.2:
            chance.choice(running).abort()
    for generation, alone_result in zip(running, expected, strict=True):
        result = generation.result(WAIT)
        if result.finish_reason is FinishReason.ABORTED:
            assert alone_result.text.startswith(result.text)
        else:
            assert (result.text, result.finish_reason) == (
                alone_result.text,
                alone_result.finish_reason,
            )


@settings(
    max_examples=MIXES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mix=mixes, chance=st.randoms(use_true_random=False))
@pytest.mark.parametrize("pair", INT8, ids=str, indirect=True)
def test_a_request_gives_the_same_text_in_any_company(pair, mix, chance):
    """In int8, over hundreds of mixes: what is served."""
    hold_to_the_promise(pair, mix, chance)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mix=mixes, chance=st.randoms(use_true_random=False))
@pytest.mark.parametrize("pair", SLOWER, ids=str, indirect=True)
def test_the_other_modes_keep_the_promise(pair, mix, chance):
    """The same in fp32 and on a GPU, or as it would be there."""
    hold_to_the_promise(pair, mix, chance)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(request=requests, more=st.integers(0, 100))
def test_a_request_is_a_prefix_of_the_same_for_more(pair, request, more):
    """n characters begin the text for more, also where a stop string ends either of them."""
    longer = {**values(request), "num_chars": request.num_chars + more}
    less = pair[0].submit(fresh(request)).result(WAIT)
    text = pair[1].submit(fresh(GenerationRequest(**longer))).result(WAIT).text
    assert text.startswith(less.text)
    assert less.finish_reason is FinishReason.STOP or len(less.text) == request.num_chars


@pytest.mark.parametrize("mode", [GenerationMode.INT8, GenerationMode.FP32])
def test_the_threads_do_not_show(model, mode):
    """One thread and two give the same texts."""
    chance = random.Random(5)
    asked = [
        GenerationRequest(f"{i}", "t", chance.choice(PROMPTS), seed=i, num_chars=150)
        for i in range(10)
    ]
    texts = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        engine = Engine(model, slots=4, queue_limit=20, threads=threads, mode=mode)
        engine.start()
        generations = [engine.submit(request) for request in asked]
        texts.append([generation.result(WAIT).text for generation in generations])
        engine.close()
    torch.set_num_threads(before)
    assert texts[0] == texts[1]


def test_a_real_model_keeps_the_promise_in_fp32():
    """The demo model, its texts preempted and read again in the middle: what each would be alone.
    `make soak` does it past the context, whose window moves, for a hundred texts."""
    soak = "SOAK" in os.environ
    chars, rounds = (600, 20) if soak else (40, 1)
    loaded = checkpoint.load(DEMO)
    alone, company = (
        Engine(loaded, slots=slots, queue_limit=50, mode=GenerationMode.FP32) for slots in (1, 3)
    )
    for engine in (alone, company):
        engine.start()
    for _ in range(rounds):
        asked = [
            GenerationRequest("", "flood", PROMPTS[i % 2], seed=next(numbers), num_chars=chars)
            for i in range(3)
        ]
        running = [company.submit(fresh(request)) for request in asked]
        assert running[0].read(WAIT)
        for tenant in "ab":  # each takes a slot of the flood's
            other = GenerationRequest("", tenant, "\n", seed=next(numbers), num_chars=5)
            asked.append(other)
            running.append(company.submit(fresh(other)))
        for request, generation in zip(asked, running, strict=True):
            expected = alone.submit(fresh(request)).result(10 * WAIT)
            assert generation.result(10 * WAIT).text == expected.text
    for engine in (alone, company):
        engine.close()
