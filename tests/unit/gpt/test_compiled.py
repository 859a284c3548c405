"""The compiled int8 kernels: near the plain model, and the same bits in any company."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from api.gpt import checkpoint, rowwise
from api.gpt.checkpoint import Checkpoint
from api.gpt.compiled import CompiledDecoder
from api.gpt.decoder import PORTION, Portion
from api.gpt.model import GPT, activate
from api.gpt.sampling import Draw
from api.gpt.shape import GPTConfig
from api.gpt.simd import load, store
from api.gpt.tokenizer import CharTokenizer

CONFIG = GPTConfig(vocab_size=65, block_size=48, n_layer=2, n_head=4, n_embd=64, bias=True)
CONFIGS = [
    CONFIG,
    replace(CONFIG, bias=False, qkv_bias=True, activation="gelu_tanh"),
    replace(CONFIG, activation="relu", n_hidden=80, tied_head=False, head_bias=True),
    replace(CONFIG, vocab_size=300, n_head=1, qkv_bias=False, block_size=200),
]


def made(config):
    """A checkpoint of random weights, biases and norms, so that a lost one shows."""
    torch.manual_seed(3)
    model = GPT(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, mean=1.0 if "ln" in name else 0.0)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return Checkpoint("made", config, weights, CharTokenizer("a"), "a", "")


def texts(count, config, length=None):
    source = np.random.default_rng(count)
    size = (count, length or config.block_size)
    return source.integers(config.vocab_size, size=size).tolist()


def read(decoder, slot, text):
    """Read a text in portions; return the logits after it."""
    for start in range(0, len(text), PORTION):
        end = min(start + PORTION, len(text))
        draw = Draw(0, 0, 0.0) if end == len(text) else None
        decoder.run([Portion(slot, text[start:end], start, draw)], {}, 1)
    return decoder.logits(1)[0]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_logits_are_near_those_of_a_plain_forward(config):
    """For every kind of model the service takes, at every length, logits correlate to 0.995."""
    loaded = made(config)
    decoder = CompiledDecoder(loaded, slots=2, threads=1)
    text = texts(1, config)[0]
    plain = loaded.model(torch.tensor([text]))[0].numpy()
    for length in (1, 2, 15, 16, 17, 33, config.block_size):
        logits = read(decoder, 1, text[:length])
        assert np.corrcoef(logits, plain[length - 1])[0, 1] > 0.995, length
        assert abs(logits - plain[length - 1]).mean() < 0.1 * plain[length - 1].std(), length


def test_int8_keeps_the_held_out_loss(tiny_model, tiny_text_file):
    """The default arithmetic, cache and all, costs at most 0.5 % of held-out loss."""
    loaded = checkpoint.load(tiny_model)
    tokens = loaded.tokenizer.encode(tiny_text_file.read_text()[-1500:])
    blocks = [tokens[i : i + 24] for i in range(0, 1400, 24)]
    decoder = CompiledDecoder(loaded, slots=1, threads=1)
    int8 = [[read(decoder, 0, b[:n]) for n in range(1, 24)] for b in blocks]
    expected = torch.tensor([block[1:] for block in blocks]).flatten()

    def loss(logits):
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), expected))

    plain = loss(loaded.model(torch.tensor([block[:-1] for block in blocks])))
    assert loss(torch.from_numpy(np.array(int8))) < plain * 1.005


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_come_and_go_without_a_trace(threads):
    """Logits are the same bits alone on one thread and in a batch whose rows come and go on many,
    whether a text is read whole or token by token."""
    loaded = made(CONFIG)
    alone, decoder = {}, CompiledDecoder(loaded, slots=1, threads=1)
    stories = texts(9, CONFIG, 40)
    for i, text in enumerate(stories):
        alone[i] = [read(decoder, 0, text[:n]) for n in range(1, 41)]
    decoder = CompiledDecoder(loaded, slots=7, threads=threads)
    source = np.random.default_rng(threads)
    at = {}  # slot -> story, tokens read
    for _ in range(150):
        portions = []
        for slot in range(7):
            if slot in at and source.random() < 0.1:
                del at[slot]
            story, done = at.get(slot, (int(source.integers(9)), 0))
            more = min(int(source.integers(0, 6)), 40 - done)
            if more:
                tokens = stories[story][done : done + more]
                portions.append(Portion(slot, tokens, done, Draw(0, 0, 0.0)))
                at[slot] = story, done + more
            elif done == 40:
                at.pop(slot)
        decoder.run(portions, {}, 1)
        for logits, portion in zip(decoder.logits(len(portions)), portions, strict=True):
            story, done = at[portion.slot]
            assert np.array_equal(logits, alone[story][done - 1])
    decoder.close()


def test_many_steps_in_one_call_are_the_steps_one_by_one():
    """Tokens drawn in a long call are those of single calls; it ends when one row has no more."""
    loaded, text = made(CONFIG), texts(1, CONFIG, 5)[0]
    decoders = [CompiledDecoder(loaded, slots=3, threads=1) for _ in range(2)]
    start = [Portion(slot, text, 0, Draw(slot, 0, 0.9, top_k=20)) for slot in range(3)]
    assert decoders[0].run(start, {}, 9) == decoders[1].run(start, {}, 1)
    together = decoders[0].run([], {0: 30, 1: 12, 2: 30}, 64)
    assert [len(tokens) for tokens in together.values()] == [12, 12, 12]
    one_by_one = [decoders[1].run([], {0: 30, 1: 30, 2: 30}, 1) for _ in range(12)]
    assert together == {slot: [step[slot][0] for step in one_by_one] for slot in range(3)}
    decoders[0].interrupt()
    assert [len(t) for t in decoders[0].run([], {0: 20, 2: 20}, 20).values()] == [1, 1]
    assert [len(t) for t in decoders[0].run([], {0: 20, 2: 20}, 20).values()] == [20, 20]


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "relu"])
def test_activations_are_exact_to_the_sixth_digit(name):
    """Within 1e-6 of the exact function, and of its size where it is large."""
    from numba import njit

    from api.gpt.packed import ACTIVATIONS

    @njit
    def over(kind, x, y):
        for i in range(0, len(x), 16):
            store(y, i, rowwise.activate(kind, load(x, i)))

    x = np.linspace(-12, 12, 1 << 14, dtype=np.float32)
    y = np.zeros_like(x)
    over(ACTIVATIONS[name], x, y)
    exact = activate(torch.from_numpy(x).double(), name).numpy()
    assert (abs(y - exact) < 1e-6 * np.maximum(4, abs(x))).all()


KINDS = """
import sys
from api.gpt import processor
processor.use(sys.argv[1])
from tests.unit.gpt.test_compiled import CONFIG, CompiledDecoder, made, read, texts
decoder = CompiledDecoder(made(CONFIG), slots=1, threads=1)
print(read(decoder, 0, texts(1, CONFIG)[0]).tobytes().hex())
"""


def test_every_kind_of_processor_computes_the_same():
    """Code for processors without VNNI gives the same logits, bit for bit."""
    command = [sys.executable, "-c", KINDS, "avx2"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    decoder = CompiledDecoder(made(CONFIG), slots=1, threads=1)
    assert bytes.fromhex(found) == read(decoder, 0, texts(1, CONFIG)[0]).tobytes()
