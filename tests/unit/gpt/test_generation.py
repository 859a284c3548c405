"""The handle of a generation: it ends once, stays silent after, and never waits for its reader."""

import threading

import pytest

from api.gpt.generation import Generation
from api.gpt.request import FinishReason, GenerationRequest


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def generation(clock=None, aborted=None, **more):
    request = GenerationRequest("id", "tenant", "prompt", seed=1, num_chars=10)
    on_abort = (lambda _: None) if aborted is None else aborted.append
    return Generation(request, clock=clock or Clock(), on_abort=on_abort, **more)


def test_text_is_read_once_and_the_end_follows_it():
    """A reader gets all that came since its last call, then None, for ever."""
    handle = generation()
    handle.put("a")
    handle.put("")
    handle.put("bc")
    assert handle.read(0) == "abc"
    assert handle.read(0) == ""
    handle.put("d")
    handle.end(FinishReason.LENGTH)
    assert [handle.read(0), handle.read(0), handle.read(0)] == ["d", None, None]
    assert handle.result().text == "abcd"


def test_a_waiting_reader_is_woken():
    """Text and the end reach a reader that waits, long before its time-out."""
    handle = generation()
    threading.Timer(0.05, handle.put, ["x"]).start()
    assert handle.read(60) == "x"
    threading.Timer(0.05, handle.end, [FinishReason.STOP]).start()
    assert handle.read(60) is None


def test_the_first_end_counts():
    """Whoever ends it first says how; later ends and later text change nothing."""
    handle = generation()
    handle.put("ab")
    assert handle.end(FinishReason.LENGTH)
    assert not handle.end(FinishReason.ERROR, "late")
    handle.put("late")
    handle.abort()
    result = handle.result()
    assert (result.text, result.finish_reason, result.error) == ("ab", FinishReason.LENGTH, None)


def test_an_aborted_generation_is_silent_and_counts_what_it_made():
    """After abort nothing is read, the engine hears of it once, and what was made is known."""
    aborted = []
    handle = generation(aborted=aborted)
    handle.put("abc")
    handle.abort()
    handle.abort()
    handle.put("more")
    assert handle.read(60) is None
    assert aborted == ["id"]
    assert handle.result().finish_reason is FinishReason.ABORTED
    assert handle.result().generated_chars == 3


def test_a_reader_too_far_behind_is_cut():
    """Text beyond the bound ends the generation instead of growing or waiting."""
    handle = generation(unread_limit=5)
    handle.put("abcde")
    assert handle.read(0) == "abcde"
    handle.put("abcde")
    assert not handle.ended
    handle.put("f")
    assert handle.ended
    assert handle.read(0) is None
    assert handle.result().finish_reason is FinishReason.ABORTED


def test_who_waits_for_the_whole_is_never_late():
    """The bound is for streaming: `result` may wait for any length."""
    handle = generation(unread_limit=5)
    results = []
    waiting = threading.Thread(target=lambda: results.append(handle.result(60)))
    waiting.start()
    while not handle._collecting:
        pass
    handle.put("abcdefgh")
    handle.end(FinishReason.LENGTH)
    waiting.join(60)
    assert results[0].text == "abcdefgh"


def test_a_result_that_does_not_come_in_time_is_an_error():
    """`result` with a time-out raises instead of returning half an answer."""
    with pytest.raises(TimeoutError):
        generation().result(timeout_seconds=0)


def test_times_are_counted_from_submission(clock):
    """Milliseconds in the queue, to the first character and in all, on the engine's clock."""
    handle = generation(clock)
    clock.now += 0.5
    handle.start()
    clock.now += 0.25
    handle.put("a")
    clock.now += 0.25
    handle.put("b")
    handle.end(FinishReason.LENGTH)
    result = handle.result()
    assert (result.queued_ms, result.first_char_ms, result.total_ms) == (500, 750, 1000)


def test_one_that_never_started_was_queued_all_its_life(clock):
    """Ended in the queue, it has no first character and its whole time was waiting."""
    handle = generation(clock)
    clock.now += 2
    handle.abort()
    result = handle.result()
    assert (result.queued_ms, result.first_char_ms, result.total_ms) == (2000, None, 2000)
