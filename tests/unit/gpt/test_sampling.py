"""Sampling: the published random stream, the asked-for distribution, and rows that never mix."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from api.gpt.sampling import Draw, NonFiniteLogitsError, philox4x32, sample, uniform

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_generator_is_the_published_one(counter, key, words):
    """Philox 4x32-10 gives the known answers of its authors' Random123 library."""
    assert philox4x32(counter, key) == words


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**34))
def test_draws_are_in_the_unit_interval_and_differ(seed, position):
    """Every draw is in [0, 1); another position or seed, also in the high bits, draws another."""
    assert 0.0 <= uniform(seed, position) < 1.0
    assert uniform(seed, position) != uniform(seed, position + 1)
    assert uniform(seed, position) != uniform(seed ^ (1 << 62), position)
    assert uniform(seed, position) != uniform(seed, position ^ (1 << 33))


def test_draws_are_spread_evenly():
    """Over many positions each tenth of the interval gets its share (5 standard deviations)."""
    counts = [0] * 10
    for position in range(10_000):
        counts[int(uniform(42, position) * 10)] += 1
    assert all(abs(count - 1000) < 150 for count in counts)


def test_tokens_come_with_the_probabilities_of_the_temperature():
    """Frequencies follow softmax(logits / temperature) within 5 standard deviations."""
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    n, temperature = 8_000, 0.7
    draws = [Draw(9, i, temperature) for i in range(n)]
    tokens = torch.tensor(sample(logits.expand(n, -1), draws))
    for token, p in enumerate((logits[0] / temperature).softmax(0).tolist()):
        assert abs((tokens == token).sum().item() - n * p) < 5 * (n * p * (1 - p)) ** 0.5


def tokens_of(logits, **settings):
    """Which tokens 300 draws give."""
    draws = [Draw(3, i, 1.0, **settings) for i in range(300)]
    return set(sample(torch.tensor([logits]).expand(300, -1), draws))


def test_top_k_keeps_the_k_likeliest():
    """Only the k likeliest are drawn; of equals the lower token first; a large k keeps all."""
    assert tokens_of([0.0, 1.0, 0.9, 0.8], top_k=2) == {1, 2}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=2) == {0, 1}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=1) == {0}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=99) == {0, 1, 2, 3}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=10**30) == {0, 1, 2, 3}


def test_top_p_keeps_the_fewest_that_make_the_share():
    """The likeliest tokens are kept until their share reaches p; one at least."""
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert tokens_of(logits, top_p=0.45) == {0}
    assert tokens_of(logits, top_p=0.6) == {0, 1}
    assert tokens_of(logits, top_p=0.9) == {0, 1, 2}
    assert tokens_of(logits, top_p=1e-9) == {0}
    assert tokens_of(logits, top_p=1.0) == {0, 1, 2, 3}


def test_top_p_is_taken_of_what_top_k_left():
    """With both, the share is of the k likeliest."""
    logits = torch.tensor([0.4, 0.2, 0.2, 0.2]).log().tolist()
    assert tokens_of(logits, top_k=2, top_p=0.6) == {0}


def test_temperature_zero_is_greedy_and_the_smallest_is_nearly():
    """0 takes the likeliest token, the first of equals; a tiny temperature is finite and agrees."""
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0], [5.0, 3.0, 3.0, 2.0]])
    assert sample(logits, [Draw(1, 0, 0.0), Draw(1, 0, 0.0)]) == [1, 0]
    assert sample(logits[1:], [Draw(1, 0, 1e-300)]) == [0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_a_number_is_not_sampled(bad):
    """Logits that are not finite raise instead of becoming text."""
    logits = torch.zeros(2, 4)
    logits[1, 2] = bad
    with pytest.raises(NonFiniteLogitsError):
        sample(logits, [Draw(1, 0, 0.0), Draw(1, 0, 1.0)])


settings_of_rows = st.builds(
    Draw,
    seed=st.integers(0, 2**63 - 1),
    position=st.integers(0, 10_000),
    temperature=st.sampled_from([0.0, 0.01, 0.8, 2.0]),
    top_k=st.none() | st.integers(1, 80),
    top_p=st.none() | st.floats(0.01, 1.0),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(settings_of_rows, min_size=1, max_size=33), st.sampled_from([5, 65, 96, 257]))
def test_a_row_draws_the_same_alone_and_among_others(draws, vocabulary):
    """Whatever the neighbours' settings, each row's token is the one it draws alone."""
    generator = torch.Generator().manual_seed(len(draws))
    logits = torch.randn(len(draws), vocabulary, generator=generator) * 3
    together = sample(logits, draws)
    alone = [sample(logits[i : i + 1], [draw])[0] for i, draw in enumerate(draws)]
    assert together == alone


def test_all_of_the_vocabulary_is_no_truncation():
    """top_k of the whole vocabulary and top_p of 1 give the very token of neither."""
    logits = torch.randn(50, 65, generator=torch.Generator().manual_seed(0))
    plain = [Draw(7, i, 1.1) for i in range(50)]
    assert sample(logits, plain) == sample(logits, [replace(d, top_k=65, top_p=1.0) for d in plain])
