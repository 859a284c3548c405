"""Mode `cuda`: its step, its buckets and its decoder on any device; on a GPU, recorded, in bf16."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from api.gpt import checkpoint, cuda
from api.gpt.cuda import CudaDecoder, Step, buckets
from api.gpt.decoder import PORTION, Portion, build
from api.gpt.engine import Engine
from api.gpt.request import GenerationMode, GenerationRequest
from api.gpt.sampling import Draw
from api.gpt.shape import GPTConfig
from tests.support.cuda_step import on_cpu
from tests.support.random_model import random_model

CONFIG = GPTConfig(vocab_size=65, block_size=48, n_layer=2, n_head=4, n_embd=64, bias=True)
GREEDY = GenerationRequest("greedy", "t", "The ", seed=1, num_chars=150, temperature=0.0)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: capture and replay need one"
)


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG)


def texts(count, length=CONFIG.block_size):
    source = np.random.default_rng(count)
    return source.integers(CONFIG.vocab_size, size=(count, length)).tolist()


def logits_of(step, slot, text):
    """Give a slot a text token by token; return the logits after each (T, V)."""
    step.forget(slot)
    return torch.cat([step([(slot, token, i)]) for i, token in enumerate(text)])


def read(decoder, slot, text, start=0):
    """Read a text in portions; return the token drawn after it."""
    for first in range(start, len(text), PORTION):
        tokens = text[first : first + PORTION]
        last = first + PORTION >= len(text)
        drawn = decoder.run(
            [Portion(slot, tokens, first, Draw(7, 0, 0.9) if last else None)], {}, 1
        )
    return drawn[slot][0]


def test_buckets_are_powers_of_two_up_to_every_row():
    """1, 2, 4 ... and the most there can be, so that a batch is at most doubled to fill a graph."""
    assert buckets(1) == [1]
    assert buckets(2) == [1, 2]
    assert buckets(48) == [1, 2, 4, 8, 16, 32, 48]
    assert buckets(64) == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.usefixtures("exact_products")
def test_every_size_is_used_where_all_agree(model):
    """The smallest recorded size that holds the items runs, and no larger one."""
    ran = []

    def record(work):
        return lambda: ran.append(work.args[0]) or work()

    step = Step(model, slots=40, device=torch.device("cpu"), dtype=torch.float32, record=record)
    assert step.sizes == [1, 2, 4, 8, 16, 32, 40]
    ran.clear()
    for count in (1, 2, 3, 4, 5, 17, 33, 40):
        assert len(step([(slot, 1, 0) for slot in range(count)])) == count
    assert ran == [1, 2, 4, 4, 8, 32, 40, 40]


@pytest.mark.usefixtures("exact_products")
def test_the_step_says_what_a_plain_forward_says(model):
    """At every position of the context, in the first slot and the last, within 1e-4 in float32;
    in bfloat16 the logits still correlate to 0.999."""
    plain = model(torch.tensor(texts(1)))[0]
    step = on_cpu(model, 3)
    for slot in (0, 2):
        assert (logits_of(step, slot, texts(1)[0]) - plain).abs().max() < 1e-4
    rounded = logits_of(on_cpu(model, 1, torch.bfloat16), 0, texts(1)[0])
    for mine, exactly in zip(rounded, plain, strict=True):
        assert np.corrcoef(mine, exactly)[0, 1] > 0.999


@pytest.mark.usefixtures("exact_products")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_come_and_go_without_a_trace(model, dtype):
    """Logits are the same bits token by token alone, and several tokens at a time among rows that
    come, pause and go, in slots full of NaN, in whatever size of batch."""
    stories = texts(5, 30)
    alone = [logits_of(on_cpu(model, 1, dtype), 0, story) for story in stories]
    step, source = on_cpu(model, 5, dtype), np.random.default_rng(1)
    step.keys.fill_(torch.nan)
    step.values.fill_(torch.nan)
    at = {}  # slot -> story, tokens read
    for _ in range(100):
        items, expected = [], []
        for slot in range(5):
            if source.random() < 0.4:
                continue
            if slot not in at:
                at[slot] = int(source.integers(5)), 0
                step.forget(slot)
            story, done = at[slot]
            end = min(30, done + int(source.integers(1, 7)))
            items += [(slot, stories[story][i], i) for i in range(done, end)]
            expected += [alone[story][i] for i in range(done, end)]
            at[slot] = story, end
        if items:
            assert torch.equal(step(items), torch.stack(expected))
        for slot in [slot for slot, (_, done) in at.items() if done == 30 or source.random() < 0.1]:
            del at[slot]
            step.keys[:, slot] = step.values[:, slot] = torch.nan


@pytest.mark.usefixtures("exact_products")
def test_sizes_that_compute_otherwise_are_not_used(model, monkeypatch, caplog):
    """A kernel that a smaller batch gets and the largest does not is found out at start; its sizes
    are filled up instead, the log says so, and a row keeps its numbers."""
    linear = functional.linear

    def mixing(x, weight, bias=None):
        return linear(x, weight, bias) * (1 + 1e-5 * (len(x) in {1, 4}))

    monkeypatch.setattr(functional, "linear", mixing)
    caplog.set_level("INFO")
    step = on_cpu(model, 8)
    assert step.sizes == [2, 8, 16, 32]
    assert "[1, 4]" in caplog.text
    text, other = texts(2)
    together = [step([(0, text[i], i), (7, other[i], i), (3, 1, i)])[0] for i in range(len(text))]
    assert torch.equal(torch.stack(together), logits_of(step, 0, text))


@pytest.mark.usefixtures("exact_products")
def test_where_a_rows_place_shows_the_start_fails(model, monkeypatch):
    """Where the same row has other numbers in another slot no seed is a text: refused in a line."""
    linear = functional.linear

    def mixing(x, weight, bias=None):
        y = linear(x, weight, bias)
        return y * (1 + 1e-5 * torch.arange(len(x)).view(-1, *[1] * (y.dim() - 1)))

    monkeypatch.setattr(functional, "linear", mixing)
    with pytest.raises(ValueError, match="use auto"):
        on_cpu(model, 4)


@pytest.mark.usefixtures("exact_products")
def test_texts_and_running_rows_share_the_steps(model):
    """Texts of several lengths, read beside rows that run and in parts, are drawn from as alone."""
    stories = [text[:length] for text, length in zip(texts(4), (3, 33, 40, 1), strict=True)]
    alone = []
    for story in stories:
        decoder = CudaDecoder(on_cpu(model, 1))
        first = read(decoder, 0, story)
        alone.append([first, *(decoder.run([], {0: 9}, 1)[0][0] for _ in range(5))])
    decoder = CudaDecoder(on_cpu(model, 4))
    draw = Draw(7, 0, 0.9)
    drawn = {0: [read(decoder, 0, stories[0])], 1: [], 2: [], 3: []}
    first = [Portion(1, stories[1][:32], 0, None), Portion(1, stories[1][32:], 32, draw),
             Portion(2, stories[2][:32], 0, None)]  # fmt: skip
    then = [Portion(2, stories[2][32:], 32, draw), Portion(3, stories[3], 0, draw)]
    for portions in (first, then, [], [], [], [], []):
        running = {slot: 9 for slot, tokens in drawn.items() if tokens}
        for slot, tokens in decoder.run(portions, running, 1).items():
            drawn[slot] += tokens
    for slot, tokens in drawn.items():
        assert tokens[:6] == alone[slot]


@pytest.mark.usefixtures("exact_products")
def test_a_row_that_is_read_again_goes_on_with_the_same_bits(model):
    """What was drawn and is read again, after a preemption, leaves the keys and values it left."""
    decoder = CudaDecoder(on_cpu(model, 2))
    text = texts(1)[0][:10]
    tokens = [read(decoder, 0, text)]
    tokens += [decoder.run([], {0: 9}, 1)[0][0] for _ in range(20)]
    kept = decoder.step.keys[:, 0].clone(), decoder.step.values[:, 0].clone()
    decoder.release(0)
    read(decoder, 1, text + tokens[:-1])
    places = slice(len(text) + 20)
    for tensor, before in zip((decoder.step.keys, decoder.step.values), kept, strict=True):
        assert torch.equal(tensor[:, 1, :, places], before[:, :, places])


def test_bfloat16_keeps_the_held_out_loss(tiny_model, tiny_text_file):
    """Weights, activations, keys and values of bfloat16 cost at most 0.5 % of held-out loss."""
    loaded = checkpoint.load(tiny_model)
    tokens = loaded.tokenizer.encode(tiny_text_file.read_text()[-600:])
    blocks = [tokens[i : i + 60] for i in range(0, 540, 60)]
    step = on_cpu(loaded.model, 1, torch.bfloat16)
    found = torch.cat([logits_of(step, 0, block[:-1]) for block in blocks])
    expected = torch.tensor([block[1:] for block in blocks]).flatten()
    plain = loaded.model(torch.tensor([block[:-1] for block in blocks])).flatten(0, 1)
    assert (
        functional.cross_entropy(found, expected)
        < functional.cross_entropy(plain, expected) * 1.005
    )


@pytest.mark.usefixtures("exact_products")
def test_the_engine_runs_on_it(tiny_model, monkeypatch):
    """Asked for by name, the mode writes the plain model's greedy text, past the context too."""
    monkeypatch.setattr(cuda, "on_gpu", lambda model, slots: CudaDecoder(on_cpu(model, slots)))
    loaded = checkpoint.load(tiny_model)
    texts = []
    for mode in (GenerationMode.FP32, GenerationMode.CUDA):
        engine = Engine(loaded, slots=2, queue_limit=2, mode=mode)
        engine.start()
        texts.append(engine.submit(GREEDY).result(60).text)
        assert engine.mode == mode
        engine.close()
    assert texts[0] == texts[1]
    assert len(texts[0]) == 150


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_start_ends_with_a_line(tiny_model):
    """Asked for where there is none, the mode is refused with what to do; nothing else runs."""
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        build(checkpoint.load(tiny_model), GenerationMode.CUDA, slots=1, threads=1)


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        AssertionError("Torch not compiled with CUDA enabled"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_recording_that_fails_is_one_line(tiny_model, monkeypatch, failure):
    """Whatever the GPU refuses while the step is recorded, the start ends with one line that has
    the first of its reason and says what to do."""

    def refuse():
        raise failure

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "Recorder", refuse)
    with pytest.raises(ValueError, match="use auto") as refused:
        build(checkpoint.load(tiny_model), GenerationMode.CUDA, slots=1, threads=1)
    assert str(failure).splitlines()[0] in str(refused.value)
    assert "\n" not in str(refused.value)


@needs_gpu
def test_recorded_steps_are_the_steps(model):
    """On a GPU, for every size: what a graph repeats is what its step computes unrecorded, bit for
    bit, and near the plain model."""
    recorded = cuda.on_gpu(model, slots=20).step
    gpu = torch.device("cuda")
    eager = Step(model, slots=20, device=gpu, dtype=torch.bfloat16, record=lambda work: work)
    plain = model(torch.tensor(texts(1)))[0]
    for slot in (0, 1, 3, 6, 19):
        found = logits_of(recorded, slot, texts(1)[0])
        assert torch.equal(found, logits_of(eager, slot, texts(1)[0])), slot
        assert np.corrcoef(found[-1], plain[-1])[0, 1] > 0.995


@needs_gpu
def test_on_a_gpu_a_seed_is_a_text(tiny_model):
    """On a GPU a request alone and the same among others of all lengths give one text."""
    loaded = checkpoint.load(tiny_model)
    engine = Engine(loaded, slots=20, queue_limit=99, mode=GenerationMode.CUDA)
    engine.start()
    wanted = [replace(GREEDY, request_id=f"a{i}", seed=i, temperature=0.9) for i in range(20)]
    alone = [engine.submit(request).result(60).text for request in wanted]
    again = [
        engine.submit(replace(request, request_id=f"b{i}", num_chars=request.num_chars - 5 * i))
        for i, request in enumerate(wanted)
    ]
    for text, generation in zip(alone, again, strict=True):
        assert text.startswith(generation.result(60).text)
    engine.close()
