"""Sampling: the published random stream, the asked-for distribution, and rows that never mix."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.gpt.draw import philox4x32
from api.gpt.draw import uniform as compiled_uniform
from api.gpt.sampling import Draw, NonFiniteLogitsError, sample

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
    assert philox4x32(*map(np.uint64, (*counter, *key))) == words


def uniform(seed, position):
    return compiled_uniform(np.uint64(seed), np.uint64(position))


def array(*rows):
    return np.array(rows, np.float32)


def noise(rows, vocabulary):
    return np.random.default_rng(rows).standard_normal((rows, vocabulary), np.float32) * 3


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
    logits = array([0.0, 1.0, 2.0, -1.0])
    n, temperature = 8_000, 0.7
    tokens = sample(logits.repeat(n, 0), [Draw(9, i, temperature) for i in range(n)])
    shares = np.exp(logits[0] / temperature)
    for token, p in enumerate(shares / shares.sum()):
        assert abs(tokens.count(token) - n * p) < 5 * (n * p * (1 - p)) ** 0.5


def tokens_of(logits, **settings):
    """Which tokens 300 draws give."""
    draws = [Draw(3, i, 1.0, **settings) for i in range(300)]
    return set(sample(array(logits).repeat(300, 0), draws))


def test_top_k_keeps_the_k_likeliest():
    """Only the k likeliest are drawn; of equals the lower token first; a large k keeps all."""
    assert tokens_of([0.0, 1.0, 0.9, 0.8], top_k=2) == {1, 2}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=2) == {0, 1}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=1) == {0}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=99) == {0, 1, 2, 3}
    assert tokens_of([0.0, 0.0, 0.0, 0.0], top_k=10**30) == {0, 1, 2, 3}


def test_top_p_keeps_the_fewest_that_make_the_share():
    """The likeliest tokens are kept until their share reaches p; one at least."""
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    assert tokens_of(logits, top_p=0.45) == {0}
    assert tokens_of(logits, top_p=0.6) == {0, 1}
    assert tokens_of(logits, top_p=0.9) == {0, 1, 2}
    assert tokens_of(logits, top_p=1e-9) == {0}
    assert tokens_of(logits, top_p=1.0) == {0, 1, 2, 3}


def test_top_p_is_taken_of_what_top_k_left():
    """With both, the share is of the k likeliest."""
    logits = np.log([0.4, 0.2, 0.2, 0.2])
    assert tokens_of(logits, top_k=2, top_p=0.6) == {0}


def test_temperature_zero_is_greedy_and_the_smallest_is_nearly():
    """0 takes the likeliest token, the first of equals; a tiny temperature is finite and agrees."""
    logits = array([1.0, 3.0, 3.0, 2.0], [5.0, 3.0, 3.0, 2.0])
    assert sample(logits, [Draw(1, 0, 0.0), Draw(1, 0, 0.0)]) == [1, 0]
    assert sample(logits[1:], [Draw(1, 0, 1e-300)]) == [0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_not_sampled(bad):
    """Logits that are not finite raise instead of becoming text."""
    logits = np.zeros((2, 4), np.float32)
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
    logits = noise(len(draws), vocabulary)
    together = sample(logits, draws)
    alone = [sample(logits[i : i + 1], [draw])[0] for i, draw in enumerate(draws)]
    assert together == alone


def test_all_of_the_vocabulary_is_no_truncation():
    """top_k of the whole vocabulary and top_p of 1 give the very token of neither."""
    logits = noise(50, 65)
    plain = [Draw(7, i, 1.1) for i in range(50)]
    assert sample(logits, plain) == sample(logits, [replace(d, top_k=65, top_p=1.0) for d in plain])


def plainly(logits, draw):
    """The token by sorting and adding up in float64: the method in its simplest form."""
    shares = np.exp((logits - logits.max()).astype(np.float64) / draw.temperature)
    order = np.argsort(-shares, kind="stable")[: draw.top_k]
    before = np.cumsum(shares[order]) - shares[order]
    kept = order[before < (2 if draw.top_p is None else draw.top_p) * shares[order].sum()]
    shares[np.setdiff1d(np.arange(len(shares)), kept)] = 0
    passed = np.cumsum(shares)
    u = uniform(draw.seed, draw.position)
    return int(np.searchsorted(passed, u * passed[-1], side="right"))


@pytest.mark.parametrize("vocabulary", [5, 65, 1000])
def test_draws_are_those_of_the_plain_method(vocabulary):
    """Of 500 draws with all kinds of settings, at most one (by rounding) differs."""
    source = np.random.default_rng(vocabulary)
    logits = noise(500, vocabulary)
    draws = [
        Draw(
            seed=int(source.integers(2**63)),
            position=int(source.integers(10_000)),
            temperature=float(source.choice([0.3, 0.8, 1.7])),
            top_k=None if source.random() < 0.5 else int(source.integers(1, vocabulary)),
            top_p=None if source.random() < 0.5 else float(source.uniform(0.05, 1)),
        )
        for _ in range(500)
    ]
    expected = [plainly(row, draw) for row, draw in zip(logits, draws, strict=True)]
    wrong = sum(a != b for a, b in zip(sample(logits, draws), expected, strict=True))
    assert wrong <= 1
