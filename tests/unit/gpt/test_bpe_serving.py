"""A BPE model through the engine: characters are counted and handed out whole, and texts end."""

import json

import pytest
import torch

from api.gpt import checkpoint
from api.gpt.engine import Engine
from api.gpt.importers.vocabulary import bpe_of
from api.gpt.model import GPT
from api.gpt.request import FinishReason, GenerationMode, GenerationRequest
from api.gpt.shape import GPTConfig
from api.gpt.window import window_start

WAIT = 60.0
BLOCK = 32
ENDS_AT = 5.0  # what raises the logit of the end-of-text token: texts have tens of tokens


@pytest.fixture(scope="module")
def model(stranger_tokenizer, tmp_path_factory):
    """Random weights, so that tokens break characters and words wherever they can."""
    directory = tmp_path_factory.mktemp("bpe")
    (directory / "theirs.json").write_text(json.dumps(stranger_tokenizer))
    tokenizer = bpe_of(directory / "theirs.json")
    torch.manual_seed(5)
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size,
        block_size=BLOCK,
        n_layer=2,
        n_head=2,
        n_embd=32,
        bias=True,
        activation="gelu_tanh",
        tied_head=False,
        head_bias=True,
    )
    gpt = GPT(config)
    torch.nn.init.normal_(gpt.lm_head.weight, std=0.7)
    gpt.lm_head.bias.data[tokenizer.end_of_text] = ENDS_AT
    checkpoint.save(directory / "model", name="bpe", model=gpt, tokenizer=tokenizer)
    return checkpoint.load(directory / "model")


@pytest.fixture(scope="module", params=[GenerationMode.FP32, GenerationMode.INT8])
def engine(model, request):
    engine = Engine(model, slots=3, queue_limit=200, mode=request.param)
    engine.start()
    yield engine
    engine.close()


def ask(engine, number=0, **more):
    more = {"prompt": "naïve 😀", "seed": number, "num_chars": 60, "temperature": 1.0, **more}
    ask.count += 1
    return engine.submit(GenerationRequest(f"r{ask.count}", "t", **more))


ask.count = 0


def text_of(engine, seed, num_chars, **more):
    return ask(engine, seed, num_chars=num_chars, **more).result(WAIT).text


def test_characters_are_counted_whatever_the_tokens(engine):
    """A text has exactly the characters asked for, unless it ended; its length is the count."""
    results = [ask(engine, seed).result(WAIT) for seed in range(20)]
    assert {r.finish_reason for r in results} == {FinishReason.LENGTH, FinishReason.STOP}
    for result in results:
        assert len(result.text) == result.generated_chars
        assert (len(result.text) == 60) == (result.finish_reason is FinishReason.LENGTH)


def test_less_is_a_prefix_of_more(engine):
    """A request for n characters gives the beginning of the same request for more, for every n:
    also where n is in the middle of a token, and past the context."""
    seeds = (seed for seed in range(100) if len(text_of(engine, seed, 150)) == 150)
    seed = next(seeds)
    whole = text_of(engine, seed, 150)
    for n in range(1, 150, 7):
        assert text_of(engine, seed, n) == whole[:n]


def test_the_end_of_text_token_ends_it(engine):
    """A text that has ended is the same however much more was asked for, spells no token's name,
    and says that it stopped."""
    for seed in range(30):
        short = ask(engine, seed, num_chars=200).result(WAIT)
        if short.finish_reason is FinishReason.STOP:
            longer = ask(engine, seed, num_chars=5000).result(WAIT)
            assert (longer.text, longer.finish_reason) == (short.text, FinishReason.STOP)
            assert "endoftext" not in longer.text
            return
    pytest.fail("no text ended")


def test_a_stream_hands_out_whole_characters(engine):
    """The pieces of a stream are valid text, and together the text of the result."""
    for seed in range(10):
        generation, pieces = ask(engine, seed, num_chars=200), []
        while (text := generation.read(WAIT)) is not None:
            pieces.append(text)
        for piece in pieces:
            piece.encode("utf-8")
        assert "".join(pieces) == generation.result(WAIT).text


def test_stop_strings_are_found_in_the_text(engine):
    """A stop string counts wherever its characters come from: halves of tokens, or several."""
    for seed in range(5):
        text = text_of(engine, seed, 80)
        for start in range(0, len(text) - 3, 9):
            stop = text[start : start + 3]
            result = ask(engine, seed, num_chars=80, stop=(stop,)).result(WAIT)
            assert result.text == text[: text.index(stop)]
            assert result.finish_reason is FinishReason.STOP


def test_held_back_text_is_handed_out_when_the_text_ends(engine):
    """What might have begun a stop string belongs to the text once the text has ended."""
    for seed in range(40):
        plain = ask(engine, seed, num_chars=300).result(WAIT)
        if plain.finish_reason is FinishReason.STOP and plain.text:
            stop = plain.text[-1] + "never"
            assert ask(engine, seed, num_chars=300, stop=(stop,)).result(WAIT).text == plain.text
            return
    pytest.fail("no text ended")


def test_greedy_text_is_that_of_the_plain_model(model):
    """In fp32, at temperature 0, the text is what repeated full forwards give, past the context
    too, with the bytes of their tokens decoded as one."""
    engine = Engine(model, slots=1, queue_limit=2, mode=GenerationMode.FP32)
    engine.start()
    longest = 0
    for prompt in ("Žluť", "fox", "漢", "a b c", "😀 x"):
        expected = greedy_text(model, model.tokenizer.encode(prompt))
        n = max(1, len(expected) - 2)  # the last character may be one that has only begun
        assert text_of(engine, 0, n, prompt=prompt, temperature=0.0) == expected[:n]
        longest = max(longest, n)
    engine.close()
    assert longest > BLOCK


def greedy_text(model, tokens):
    """Return what the plain model's likeliest tokens spell, at most two contexts of them."""
    prompt, end = len(tokens), model.tokenizer.end_of_text
    while len(tokens) < prompt + 2 * BLOCK and tokens[-1] != end:
        view = tokens[window_start(len(tokens), BLOCK) :]
        tokens.append(int(model.model(torch.tensor([view]))[0, -1].argmax()))
    return model.tokenizer.decode(token for token in tokens[prompt:] if token != end)


def test_every_prompt_can_be_continued(engine):
    """Any text is a prompt: every script, control characters, the end-of-text token, and prompts
    longer than the context."""
    for prompt in ("\x00", "漢字", "<|endoftext|>", "a" * 4000, "👩‍👩‍👧" * 50, "\u202e\ufeff"):
        result = ask(engine, prompt=prompt, num_chars=5, seed=2).result(WAIT)
        assert result.finish_reason in {FinishReason.LENGTH, FinishReason.STOP}
