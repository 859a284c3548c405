"""A row's draws and positions follow from its request and its length alone."""

from api.gpt.generation import Generation
from api.gpt.request import FinishReason, GenerationRequest
from api.gpt.row import Row
from api.gpt.tokenizer import CharTokenizer


def row(prompt, *, num_chars=100, block_size=8, **more):
    request = GenerationRequest("r", "t", "p", seed=5, num_chars=num_chars, **more)
    generation = Generation(request, clock=lambda: 0.0, on_abort=lambda _: None)
    return Row(generation, list(prompt), block_size, CharTokenizer("abx"))


def test_draws_are_numbered_by_what_was_generated():
    """The n-th token takes the n-th draw of its seed, whatever the prompt and across every move of
    the window: none is taken twice, none is left out."""
    for prompt in ([1], [1] * 8, [1] * 30):
        subject, positions = row(prompt), []
        for _ in range(30):
            positions.append(subject.draw().position)
            subject.take([2])
            subject.move_window()
        assert positions == list(range(30))


def test_positions_stay_within_the_context():
    """The newest token always stands inside the context, and a move makes everything unread."""
    subject = row([1] * 5)
    for _ in range(40):
        subject.read = subject.position + 1
        subject.take([2])
        if subject.move_window():
            assert subject.read == 0
        assert 0 <= subject.position < 8
        assert len(subject.unread(100)) == subject.position + 1 - subject.read


def test_unread_tokens_come_in_order_and_portions():
    """Portions cover the view once, in order."""
    subject, seen = row(range(8)), []
    while portion := subject.unread(3):
        assert len(portion) <= 3
        subject.read += len(portion)
        seen += portion
    assert seen == list(range(8))


def test_the_deadline_ends_it():
    """From its deadline on the row has ended; before it, or without one, it has not."""
    assert not row([1]).end_if_due(1e9)
    subject = row([1], deadline=10.0)
    assert not subject.end_if_due(9.9)
    assert subject.end_if_due(10.0)
    assert subject.generation.result().finish_reason is FinishReason.DEADLINE
