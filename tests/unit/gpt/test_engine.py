"""The engine: every request is answered once, whatever happens; what cannot be done is refused."""

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from api.gpt import checkpoint
from api.gpt.checkpoint import Checkpoint
from api.gpt.compiled import MOST_STEPS
from api.gpt.engine import RESTARTS, STUCK_SECONDS, Engine
from api.gpt.model import GPT
from api.gpt.request import (
    EngineRefusedError,
    FinishReason,
    GenerationMode,
    GenerationRequest,
    NotEncodableError,
)
from api.gpt.shape import GPTConfig
from api.gpt.tokenizer import CharTokenizer
from tests.support.waiting import wait_until

WAIT = 60.0  # seconds: far beyond what is needed, so that a hang fails instead of hanging


@pytest.fixture(scope="module")
def model(tiny_model):
    return checkpoint.load(tiny_model)


@pytest.fixture
def make(model):
    """Build engines that are closed after the test."""
    engines = []

    def build(*, start=True, **more):
        engine = Engine(model, **{"slots": 2, "queue_limit": 8, **more})
        engines.append(engine)
        if start:
            engine.start()
        return engine

    yield build
    for engine in engines:
        engine.close()


class Hold:
    """Stops an engine before each of its steps until it is told to go on."""

    def __init__(self, engine):
        self._go, self.steps = threading.Semaphore(0), 0
        self._step = engine._batch.step
        engine._batch.step = self

    def __call__(self, _steps):
        assert self._go.acquire(timeout=WAIT)
        self.steps += 1
        return self._step(1)

    def go(self, steps=1):
        self._go.release(steps)

    def go_on(self):
        self._go.release(1_000_000)


def ask(name="r", *, num_chars=20, prompt="\n", **more):
    more = {"tenant": "t", "seed": 1, **more}
    return GenerationRequest(str(name), prompt=prompt, num_chars=num_chars, **more)


def test_the_text_has_as_many_characters_as_asked_for(make):
    """One character, a few, and many more than the context (64): exactly that many, no crash."""
    engine = make()
    for num_chars in (1, 63, 64, 65, 400):
        result = engine.submit(ask(num_chars, num_chars=num_chars)).result(WAIT)
        assert (len(result.text), result.generated_chars) == (num_chars, num_chars)
        assert result.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 129, 1000])
def test_a_prompt_of_any_length_is_continued(make, length):
    """Prompts shorter than, as long as and longer than the context (64) are all continued."""
    result = make().submit(ask(prompt="x" * length, num_chars=70)).result(WAIT)
    assert result.generated_chars == 70


def test_the_stream_is_the_result(make):
    """What is read piece by piece is the text of the result."""
    generation, pieces = make().submit(ask(num_chars=4000)), []
    while (text := generation.read(WAIT)) is not None:
        pieces.append(text)
    assert "".join(pieces) == generation.result(WAIT).text
    assert len(pieces) > 1


def test_greedy_text_is_that_of_the_plain_model(model, make):
    """At temperature 0 in fp32 the text is what repeated full forwards give, up to the context."""
    tokens = model.tokenizer.encode("The ")
    while len(tokens) < 64:
        tokens.append(int(model.model(torch.tensor([tokens]))[0, -1].argmax()))
    engine = make(mode=GenerationMode.FP32)
    result = engine.submit(ask(prompt="The ", num_chars=60, temperature=0.0)).result(WAIT)
    assert result.text == model.tokenizer.decode(tokens[4:])


def test_past_the_context_the_text_is_that_of_the_moved_window(model, make):
    """Past the context each token is what the plain model says of the second half, and on."""
    tokens, prompt = model.tokenizer.encode("ab"), "ab"
    for _ in range(150):
        start = 0 if len(tokens) <= 64 else -(-(len(tokens) - 64) // 32) * 32
        tokens.append(int(model.model(torch.tensor([tokens[start:]]))[0, -1].argmax()))
    engine = make(mode=GenerationMode.FP32)
    result = engine.submit(ask(prompt=prompt, num_chars=150, temperature=0.0)).result(WAIT)
    assert result.text == model.tokenizer.decode(tokens[2:])


def test_a_stop_string_ends_the_text_before_it(make):
    """The text ends where the stop string begins, and says that it was one."""
    engine = make()
    whole = engine.submit(ask("whole", num_chars=200)).result(WAIT).text
    stop = whole[100:103]
    result = engine.submit(ask("stopped", num_chars=200, stop=(stop,))).result(WAIT)
    assert result.text == whole[: whole.index(stop)]
    assert result.finish_reason is FinishReason.STOP


def test_seed_and_temperature_matter(make):
    """Another seed gives another text; so does another temperature."""
    engine = make()
    texts = [
        engine.submit(ask(i, num_chars=100, seed=seed, temperature=t)).result(WAIT).text
        for i, (seed, t) in enumerate([(1, 0.8), (2, 0.8), (1, 1.5), (2**63 - 1, 0.8)])
    ]
    assert len(set(texts)) == 4


def test_what_cannot_be_encoded_is_refused_by_name(make):
    """A prompt with a character that the model has no token for never reaches the queue."""
    engine = make()
    with pytest.raises(NotEncodableError) as refusal:
        engine.submit(ask(prompt="naïve"))
    assert refusal.value.characters == ("ï",)
    with pytest.raises(ValueError, match="at least 1 character"):
        engine.submit(ask(prompt=""))
    assert engine.stats().waiting == engine.stats().running == 0


def test_the_speed_is_that_of_what_runs(make):
    """Its last measurement is kept for the next text, and told of none that runs no longer."""
    engine = make(start=False)
    hold = Hold(engine)
    engine.start()
    one = engine.submit(ask())
    wait_until(lambda: engine.stats().running == 1)
    engine._rate.per_second = 100.0
    assert engine.stats().chars_per_second == 100.0
    hold.go_on()
    one.result(WAIT)
    wait_until(lambda: engine.stats().running == 0)
    assert engine.stats().chars_per_second == 0.0
    assert engine._rate.per_second


def test_a_full_queue_refuses(make):
    """Beyond slots and queue a request is refused at once, with a time to come back."""
    engine = make(start=False, slots=1, queue_limit=3, tenant_queue_limit=2)
    hold = Hold(engine)
    engine.start()
    running = engine.submit(ask(0))
    wait_until(lambda: engine.stats().running == 1)
    waiting = [engine.submit(ask(1)), engine.submit(ask(2))]
    with pytest.raises(EngineRefusedError) as refusal:
        engine.submit(ask(3))  # the tenant's bound
    assert (refusal.value.code, refusal.value.retry_after_seconds >= 1) == ("overloaded", True)
    waiting.append(engine.submit(ask(4, tenant="other")))
    with pytest.raises(EngineRefusedError):
        engine.submit(ask(5, tenant="third"))  # the queue's bound
    hold.go_on()
    assert all(g.result(WAIT).generated_chars == 20 for g in (running, *waiting))


def test_an_aborted_row_leaves_within_one_step(make):
    """After abort the slot is free after at most one more step, and the next request gets it."""
    engine = make(start=False, slots=1)
    hold = Hold(engine)
    engine.start()
    first, second = engine.submit(ask(1, num_chars=10_000)), engine.submit(ask(2))
    hold.go(3)
    wait_until(lambda: hold.steps == 3)
    first.abort()
    hold.go(2)
    wait_until(lambda: hold.steps == 5)
    assert first.result(WAIT).finish_reason is FinishReason.ABORTED
    assert first.result(WAIT).generated_chars <= 4
    assert engine.stats().waiting == 0, "the slot was not given on"
    hold.go_on()
    assert second.result(WAIT).generated_chars == 20


def test_an_aborted_request_leaves_the_queue_at_once(make):
    """A waiting request that is aborted makes room for another without any step."""
    engine = make(start=False, slots=1, queue_limit=1)
    hold = Hold(engine)
    engine.start()
    engine.submit(ask(1))
    wait_until(lambda: engine.stats().running == 1)
    engine.submit(ask(2)).abort()
    third = engine.submit(ask(3))
    hold.go_on()
    assert third.result(WAIT).generated_chars == 20


def test_who_leaves_while_it_makes_room_is_forgotten(make):
    """A request that is aborted in the moment in which its slot is due to another one is neither
    waiting nor known afterwards."""
    engine = make(start=False)
    hold = Hold(engine)
    engine.start()
    engine.submit(ask(0, num_chars=500))
    last = engine.submit(ask(1, num_chars=500))
    hold.go(2)
    wait_until(lambda: engine.stats().running == 2 and hold.steps == 2)
    remove = engine._batch.remove_ended

    def remove_then_leave(now):
        ended = remove(now)
        last.abort()
        return ended

    engine._batch.remove_ended = remove_then_leave
    engine.submit(ask(2, tenant="other"))
    hold.go()
    wait_until(lambda: hold.steps == 3)
    assert (engine.stats().waiting, engine._rows.keys()) == (0, {"0", "2"})
    hold.go_on()


def test_a_deadline_ends_a_running_and_a_waiting_request(make):
    """Past its deadline a request ends with what it has; one that was never started is refused."""
    now = [1000.0]
    engine = make(start=False, slots=1, clock=lambda: now[0])
    hold = Hold(engine)
    engine.start()
    running = engine.submit(ask(1, num_chars=5_000, deadline=1010.0))
    wait_until(lambda: engine.stats().running == 1)
    waiting = engine.submit(ask(2, deadline=1010.0))
    hold.go(5)
    wait_until(lambda: hold.steps == 5)
    now[0] = 1010.0
    hold.go_on()
    assert running.result(WAIT).finish_reason is FinishReason.DEADLINE
    assert waiting.result(WAIT).finish_reason is FinishReason.REFUSED
    assert 0 < running.result(WAIT).generated_chars < 20
    assert waiting.result(WAIT).text == ""
    wait_until(lambda: engine.stats().running == 0)


def test_a_request_that_would_wait_past_its_deadline_is_refused(make):
    """Work that cannot start in time is refused at once instead of queued to die."""
    now = [1000.0]
    engine = make(start=False, slots=1, clock=lambda: now[0])
    hold = Hold(engine)
    engine.start()
    with pytest.raises(EngineRefusedError):
        engine.submit(ask(1, deadline=999.0))
    engine.submit(ask(2))
    engine.submit(ask(3, num_chars=10_000))
    with pytest.raises(EngineRefusedError) as refusal:
        engine.submit(ask(4, deadline=1001.0))
    assert refusal.value.code == "overloaded"
    engine.submit(ask(5, deadline=1e9))
    hold.go_on()


def test_what_runs_counts_as_work_ahead(make):
    """With nothing waiting, a request waits for the running text that is nearest its end: a
    deadline before that is refused, and one after it taken. Another tenant takes a slot at once."""
    now = [1000.0]
    engine = make(start=False, clock=lambda: now[0])
    hold = Hold(engine)
    engine.start()
    for chars in (10_000, 3_000):
        engine.submit(ask(chars, num_chars=chars))
    wait_until(lambda: engine.stats().running == 2)
    with pytest.raises(EngineRefusedError) as refusal:
        engine.submit(ask("hasty", deadline=1005.0))
    assert refusal.value.retry_after_seconds == 2 * 3_000 / 1000
    engine.submit(ask("patient", deadline=1007.0))
    engine.submit(ask("other", tenant="other", deadline=1001.0))
    hold.go_on()


def test_a_slow_reader_is_cut_and_the_others_are_not(make):
    """Who does not read is ended; the engine goes on for those who do."""
    engine = make()
    slow = engine.submit(ask("slow", num_chars=10_000))
    slow._unread_limit = 50
    quick = engine.submit(ask("quick", num_chars=400))
    assert quick.result(WAIT).generated_chars == 400
    wait_until(lambda: slow.ended)
    assert slow.result(WAIT).finish_reason is FinishReason.ABORTED
    assert slow.result(WAIT).generated_chars < 50 + 2 * MOST_STEPS


def test_a_failing_step_is_answered_to_every_request(make, caplog, monkeypatch):
    """A failure ends running and waiting requests with an error; then nothing is taken for now."""
    monkeypatch.setattr("api.gpt.engine.RESTART_SECONDS", WAIT)
    engine = make(start=False, slots=1)
    hold = Hold(engine)
    engine.start()
    assert engine.healthy
    generations = [engine.submit(ask(i)) for i in range(3)]
    wait_until(lambda: engine.stats().running == 1)

    def fail(_steps):
        raise RuntimeError("the arithmetic broke")

    hold._step = fail
    hold.go()
    for generation in generations:
        result = generation.result(WAIT)
        assert result.finish_reason is FinishReason.ERROR
        assert result.error == "RuntimeError: the arithmetic broke"
        assert generation.read(0) is None
    assert not engine.healthy
    with pytest.raises(EngineRefusedError):
        engine.submit(ask("late"))
    assert engine.drain(WAIT)
    assert "the engine failed" in caplog.text


@pytest.mark.parametrize("failing", [0, 1])
def test_a_thread_that_fails_leaves_no_other_waiting(failing, make, monkeypatch):
    """Where one of the threads fails in a step, whichever, the step fails: its requests end with an
    error, and the next one gets its text from the same threads."""
    monkeypatch.setattr("api.gpt.engine.RESTART_SECONDS", 0.0)
    engine = make(mode=GenerationMode.INT8, threads=2)
    text = engine.submit(ask("before", num_chars=100)).result(WAIT).text
    run = engine._decoder._run

    def fail(thread, steps):
        if thread == failing:
            raise MemoryError
        run(thread, steps)

    engine._decoder._run = fail
    assert engine.submit(ask("failed")).result(WAIT).finish_reason is FinishReason.ERROR
    engine._decoder._run = run
    wait_until(lambda: engine.healthy)
    assert engine.submit(ask("after", num_chars=100)).result(WAIT).text == text


def test_a_step_that_does_not_end_is_seen(make):
    """An engine whose step has been under way for far longer than any takes is not healthy, and
    refuses; with its end it is healthy again."""
    now = [1000.0]
    engine = make(start=False, clock=lambda: now[0])
    hold = Hold(engine)
    engine.start()
    generation = engine.submit(ask())
    wait_until(lambda: engine._step_since is not None)
    now[0] += STUCK_SECONDS
    assert engine.healthy
    now[0] += 1
    assert not engine.healthy
    with pytest.raises(EngineRefusedError):
        engine.submit(ask("late"))
    hold.go_on()
    assert generation.result(WAIT).generated_chars == 20
    wait_until(lambda: engine.healthy)


@pytest.mark.parametrize("mode", [GenerationMode.INT8, GenerationMode.FP32])
def test_after_a_failure_the_engine_begins_again(mode, make, caplog, monkeypatch):
    """What comes after a failure gets its text, the same as ever; after too many nothing does."""
    monkeypatch.setattr("api.gpt.engine.RESTART_SECONDS", 0.0)
    engine = make(mode=mode)
    text = engine.submit(ask("before", num_chars=100)).result(WAIT).text

    def fail(*arguments):
        run(*arguments)
        raise RuntimeError("the arithmetic broke")

    for failure in range(RESTARTS):
        run = engine._decoder.run
        monkeypatch.setattr(engine._decoder, "run", fail)
        assert engine.submit(ask(f"f{failure}")).result(WAIT).finish_reason is FinishReason.ERROR
        monkeypatch.undo()
        monkeypatch.setattr("api.gpt.engine.RESTART_SECONDS", 0.0)
        wait_until(lambda: engine.healthy)
        assert engine.submit(ask(f"s{failure}", num_chars=100)).result(WAIT).text == text
    monkeypatch.setattr(engine._decoder, "run", fail)
    assert engine.submit(ask("last")).result(WAIT).finish_reason is FinishReason.ERROR
    wait_until(lambda: not engine._thread.is_alive())
    assert not engine.healthy
    assert "too often" in caplog.text


@pytest.mark.parametrize("width", [64, 20])
def test_what_is_compiled_is_compiled_before_the_first_request(width, monkeypatch):
    """Also a model that the kernels do not cover, whose draws are compiled all the same, has them
    when the engine is made: no caller waits for a compiler."""
    from api.gpt import compiled, draw

    called = []
    for module, name in ((draw, "draw_each"), (compiled, "run")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real: called.append(1) or real(*a))
    config = GPTConfig(vocab_size=1, block_size=16, n_layer=1, n_head=1, n_embd=width)
    torch.manual_seed(0)
    weights = {name: value.numpy() for name, value in GPT(config).state_dict().items()}
    loaded = Checkpoint("made", config, weights, CharTokenizer("a"), "a", "")
    engine = Engine(loaded, slots=1, queue_limit=1)
    assert engine.mode == ("int8" if width == 64 else "fp32")
    assert called
    engine.close()


@pytest.mark.parametrize("mode", [GenerationMode.INT8, GenerationMode.FP32])
def test_a_text_that_ends_where_the_context_does_breaks_nothing(mode, make):
    """One character after a prompt that fills the context (64), beside a running text: its row ends
    in a pass of its own, without room for another token, and the running text goes on."""
    engine = make(mode=mode, slots=4)
    running = engine.submit(ask("running", num_chars=2_000))
    wait_until(lambda: running._chars)
    for name, length in enumerate((63, 64, 64, 63)):
        full = engine.submit(ask(name, tenant=f"{name}", prompt="x" * length, num_chars=1))
        assert full.result(WAIT).finish_reason is FinishReason.LENGTH
    assert running.result(WAIT).generated_chars == 2_000


@pytest.mark.parametrize("mode", [GenerationMode.INT8, GenerationMode.FP32])
def test_who_was_preempted_goes_on_without_a_trace(mode, make):
    """A tenant with every slot gives one up to another's request at once; its own text is the one
    that it would have been, to the character, and streamed on."""
    engine = make(mode=mode, slots=2)
    wanted = [ask(f"w{i}", num_chars=1500, seed=i) for i in range(2)]
    alone = [engine.submit(request).result(WAIT).text for request in wanted]
    long = [engine.submit(replace(r, request_id=f"l{i}")) for i, r in enumerate(wanted)]
    wait_until(lambda: all(generation._chars for generation in long))
    for other in range(3):
        quick = engine.submit(ask(f"q{other}", tenant="other", num_chars=3))
        assert quick.result(WAIT).generated_chars == 3
    assert [generation.result(WAIT).text for generation in long] == alone


@pytest.mark.parametrize("mode", [GenerationMode.INT8, GenerationMode.FP32])
def test_a_model_that_breaks_is_an_error_and_no_text(mode, make):
    """Weights that give no numbers end the request with an error."""
    engine = make(start=False, mode=mode)
    if mode is GenerationMode.INT8:
        engine._decoder._weights.gains[-1] = np.nan
    else:
        final = engine._decoder._model.ln_f
        final.weight = torch.nn.Parameter(final.weight * torch.nan, requires_grad=False)
    engine.start()
    result = engine.submit(ask()).result(WAIT)
    assert result.finish_reason is FinishReason.ERROR
    assert result.text == ""
    wait_until(lambda: not engine.healthy)


def test_draining_lets_the_running_end_and_takes_nothing_new(make):
    """During a drain what is here is finished, what comes is refused; then the engine is empty."""
    engine = make(start=False, slots=1)
    hold = Hold(engine)
    engine.start()
    generations = [engine.submit(ask(i)) for i in range(3)]
    drained = []
    draining = threading.Thread(target=lambda: drained.append(engine.drain(WAIT)))
    draining.start()
    wait_until(lambda: engine._state == "draining")
    with pytest.raises(EngineRefusedError) as refusal:
        engine.submit(ask("late"))
    assert refusal.value.code == "draining"
    hold.go_on()
    draining.join(WAIT)
    assert drained == [True]
    assert [g.result(WAIT).generated_chars for g in generations] == [20, 20, 20]


def test_a_drain_that_runs_out_of_time_ends_the_rest(make):
    """What has not ended in time ends with DRAINING, with what it had."""
    engine = make(start=False, slots=1)
    hold = Hold(engine)
    engine.start()
    generations = [engine.submit(ask(i, num_chars=500)) for i in range(3)]
    hold.go(4)
    wait_until(lambda: hold.steps == 4)
    assert not engine.drain(0.0)
    for generation in generations:
        assert generation.result(WAIT).finish_reason is FinishReason.DRAINING
    assert generations[0].result(WAIT).generated_chars > 0
    hold.go_on()


def test_closing_ends_everything_and_stops_the_thread(make):
    """After close no request waits, no thread runs, and closing again does nothing."""
    engine = make(slots=1)
    generations = [engine.submit(ask(i, num_chars=10_000)) for i in range(3)]
    engine.close()
    engine.close()
    assert all(g.result(WAIT).finish_reason is FinishReason.DRAINING for g in generations)
    assert not engine._thread.is_alive()
    assert not engine.healthy
    with pytest.raises(EngineRefusedError):
        engine.submit(ask("late"))


def test_before_its_start_the_engine_is_loading(make):
    """An engine that was not started refuses with `model_loading`; it starts once."""
    engine = make(start=False)
    assert not engine.healthy
    with pytest.raises(EngineRefusedError) as refusal:
        engine.submit(ask())
    assert refusal.value.code == "model_loading"
    engine.start()
    with pytest.raises(RuntimeError, match="running"):
        engine.start()


def test_a_long_prompt_costs_what_is_read_of_it(make, monkeypatch):
    """The scheduler is told of a request's characters and of its prompt's tokens in view."""
    engine, jobs = make(), []
    enqueue = engine._scheduler.enqueue
    monkeypatch.setattr(engine._scheduler, "enqueue", lambda job: enqueue(job) or jobs.append(job))
    for length in (1, 60, 1000):
        engine.submit(ask(length, prompt="x" * length, num_chars=7))
    assert [job.cost for job in jobs] == [8, 67, 7 + 64 - (64 - 1000) % 32]


def test_the_numbers_add_up(make):
    """Statistics count the characters handed out and what runs and waits."""
    engine = make()
    for i in range(3):
        engine.submit(ask(i, num_chars=50)).result(WAIT)
    wait_until(lambda: engine.stats().running == 0)
    stats = engine.stats()
    assert (stats.slots, stats.running, stats.waiting, stats.generated_chars) == (2, 0, 0, 150)


def test_a_flood_of_prompts_does_not_keep_a_text_from_being_read():
    """Beside a tenant that keeps every queue full of prompts to read, another one's text begins and
    goes on past the context (256), where its window jumps and half of it is read again."""
    loaded = checkpoint.load(Path(__file__).parents[3] / "models" / "demo")
    engine = Engine(loaded, slots=6, queue_limit=40)
    step, numbers, flooding = engine._batch.step, itertools.count(), threading.Event()
    flooding.set()

    def step_in_a_flood(steps):
        while flooding.is_set():
            try:
                engine.submit(
                    ask(next(numbers), tenant="flood", prompt="the quick " * 12, num_chars=1)
                )
            except EngineRefusedError:
                break
        return step(steps)

    engine._batch.step = step_in_a_flood
    engine.start()
    generation = engine.submit(ask("text", prompt="now is the " * 20, num_chars=50))
    result = generation.result(WAIT)
    assert (result.finish_reason, result.generated_chars) == (FinishReason.LENGTH, 50)
    flooding.clear()
    engine.close()
