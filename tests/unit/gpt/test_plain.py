"""The model in float32: what a plain forward says, whoever else is in the batch."""

import pytest
import torch

from api.gpt.linears import Float32Linear
from api.gpt.plain import PlainDecoder
from api.gpt.shape import GPTConfig
from tests.support.random_model import random_model

CONFIG = GPTConfig(vocab_size=65, block_size=48, n_layer=2, n_head=4, n_embd=64, bias=True)


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG)


def texts(count, length=CONFIG.block_size):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(CONFIG.vocab_size, (count, length), generator=generator).tolist()


def logits_of(decoder, text, portion):
    """Read a text in portions, then give the rest token by token; return logits (T-portion, V)."""
    decoder.read(text[:5], 0)
    logits = [decoder.read(text[5:portion], 5)]
    row = decoder.cache.join(portion)
    assert row == 0
    logits += [decoder.step([text[i]], [i]) for i in range(portion, len(text))]
    decoder.cache.leave(row)
    return torch.cat(logits)


def test_fp32_logits_equal_a_plain_forward(model):
    """At every position of the context the logits are those of a full forward within 1e-4."""
    decoder = PlainDecoder(model, slots=2, threads=1)
    for text in texts(3):
        plain = model(torch.tensor([text]))[0]
        assert (logits_of(decoder, text, 11) - plain[10:]).abs().max() < 1e-4


def test_rows_come_and_go_without_a_trace(model):
    """A row's logits are the same bits alone and in a batch whose rows join and leave."""
    alone = {}
    decoder = PlainDecoder(model, slots=1, threads=1)
    for i, text in enumerate(texts(6)):
        alone[i] = logits_of(decoder, text, 6 + i)[1:]

    decoder = PlainDecoder(model, slots=4, threads=1)
    waiting, running, seen = list(range(6)), [], {i: [] for i in range(6)}
    while waiting or running:
        if waiting and len(running) < 4:
            i = waiting.pop(0)
            decoder.read(texts(6)[i][:5], 0)
            decoder.read(texts(6)[i][5 : 6 + i], 5)
            decoder.cache.join(6 + i)
            running.append(i)
        places = [6 + i + len(seen[i]) for i in running]
        tokens = [texts(6)[i][place] for i, place in zip(running, places, strict=True)]
        for i, row in zip(running, decoder.step(tokens, places), strict=True):
            seen[i].append(row)
        for i in [i for i in running if 6 + i + len(seen[i]) == CONFIG.block_size]:
            decoder.cache.leave(running.index(i))
            last = running.pop()
            if last != i:
                running[running.index(i)] = last
    for i in range(6):
        assert torch.equal(torch.stack(seen[i]), alone[i]), i


def test_nothing_is_left_of_a_row_that_went(model):
    """Freed rows and the stage full of NaN do not show in the logits of the rows that follow."""
    text = texts(1)[0]
    decoder = PlainDecoder(model, slots=2, threads=1)
    clean = logits_of(decoder, text, 20)
    decoder.cache.keys.fill_(torch.nan)
    decoder.cache.values.fill_(torch.nan)
    assert torch.equal(logits_of(decoder, text, 20), clean)


def test_rows_are_computed_apart_where_they_would_mix(model, monkeypatch):
    """Arithmetic that depends on the number of rows is found out at start and worked around."""
    plain = Float32Linear.forward

    def mixing(self, x):
        return plain(self, x) * (1 + 1e-6 * (x.shape[0] > 1))

    monkeypatch.setattr(Float32Linear, "forward", mixing)
    decoder = PlainDecoder(model, slots=3, threads=1)
    assert decoder.rows_apart
    a, b, c = texts(3)
    alone = logits_of(decoder, b, 20)[1:2]
    for text in (a, b, c):
        decoder.read(text[:5], 0)
        decoder.read(text[5:20], 5)
        decoder.cache.join(20)
    assert torch.equal(decoder.step([a[20], b[20], c[20]], [20, 20, 20])[1:2], alone)


def test_a_text_that_is_read_leaves_what_drawing_it_left(model):
    """However much of a text is read and however much was drawn: the same keys, values and logits,
    bit for bit, so a row that is read again after a preemption goes on as it would have."""
    decoder, text = PlainDecoder(model, slots=2, threads=1), texts(1)[0]
    found = []
    for read in (1, 2, 20, 32, 33, len(text)):
        for start in range(0, read, 32):
            logits = decoder.read(text[start : min(start + 32, read)], start)
        decoder.cache.join(read)
        for position in range(read, len(text)):
            logits = decoder.step([text[position]], [position])
        row = decoder.cache.keys[:, 0].clone(), decoder.cache.values[:, 0].clone()
        found.append((logits, *row))
        decoder.cache.leave(0)
    assert all(torch.equal(a, b) for other in found for a, b in zip(found[0], other, strict=True))


def test_texts_are_read_apart_where_reading_would_show(model, monkeypatch):
    """Arithmetic that depends on how much is read at a time is found out at start and worked
    around: each position by itself, as it is drawn."""
    plain = Float32Linear.forward

    def mixing(self, x):
        return plain(self, x) * (1 + 1e-6 * (x.dim() == 3 and x.shape[1] > 1))

    text = texts(1)[0]
    expected = logits_of(PlainDecoder(model, slots=2, threads=1), text, 20)
    monkeypatch.setattr(Float32Linear, "forward", mixing)
    decoder = PlainDecoder(model, slots=2, threads=1)
    assert decoder.rows_apart
    assert torch.equal(logits_of(decoder, text, 20), expected)


def test_slots_are_counted(model):
    """A row more than there are slots, or one that is not there, is an error and no overwrite."""
    decoder = PlainDecoder(model, slots=1, threads=1)
    decoder.read([1], 0)
    decoder.cache.join(1)
    with pytest.raises(IndexError, match="every slot"):
        decoder.cache.join(1)
    with pytest.raises(IndexError, match="not in use"):
        decoder.cache.leave(1)
