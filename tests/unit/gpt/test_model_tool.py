"""`python -m api.gpt`: what it writes is what the service would, and its refusals say why."""

import hashlib
import json
import math
import sys

import pytest
import torch

from api.gpt import checkpoint
from api.gpt import train as training
from api.gpt.__main__ import _shown, main
from api.gpt.bpe import BYTES, BpeTokenizer
from api.gpt.engine import Engine
from api.gpt.generation import Generation
from api.gpt.inspection import evaluate
from api.gpt.model import GPT
from api.gpt.request import GenerationRequest
from api.gpt.shape import GPTConfig


@pytest.fixture
def tool(capsys):
    """Run the tool; return its status, output and errors."""

    def run(*argv):
        try:
            status = main([str(argument) for argument in argv])
        except SystemExit as exc:
            status = exc.code
        return status, *capsys.readouterr()

    return run


def test_sample_writes_what_the_service_would(tool, tiny_model):
    """The same settings give the engine's text, after the prompt; the seed is told on stderr."""
    arguments = ["--prompt", "The ", "--seed", 7, "--num-chars", 90, "--temperature", 0.7]
    status, out, err = tool("sample", tiny_model, *arguments, "--top-k", 20, "--top-p", 0.9)
    engine = Engine(checkpoint.load(tiny_model), slots=3, queue_limit=1)
    engine.start()
    request = GenerationRequest("r", "t", "The ", 7, 90, temperature=0.7, top_k=20, top_p=0.9)
    text = engine.submit(request).result(60).text
    engine.close()
    assert (status, out) == (0, f"The {text}\n")
    assert "seed 7, 90 characters, length" in err


def test_sample_draws_a_seed_and_says_which(tool, tiny_model):
    """Without a seed one is drawn; giving the one that was told repeats the text."""
    _, first, err = tool("sample", tiny_model, "--num-chars", 30)
    seed = err.split()[1].rstrip(",")
    assert tool("sample", tiny_model, "--num-chars", 30, "--seed", seed)[1] == first
    assert tool("sample", tiny_model, "--num-chars", 30)[1] != first


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--num-chars", 0], 2, "give --num-chars of at least 1"),
        (["--temperature", 2.5], 2, "give --temperature from 0 to 2"),
        (["--temperature", "nan"], 2, "give --temperature from 0 to 2"),
        (["--seed", -1], 2, "give --seed from 0"),
        (["--seed", 2**63], 2, "give --seed from 0"),
        (["--top-k", 0], 2, "give --top-k of at least 1"),
        (["--top-p", 0], 2, "give --top-p above 0"),
        (["--stop", ""], 2, "give --stop of at least 1 character"),
        (["--num-chars", "many"], 2, "invalid int value"),
        (["--mode", "int4"], 2, "invalid choice"),
        (["--prompt", "naïve"], 1, 'the model has no token for "'),
    ],
)
def test_sample_refuses_by_name(arguments, status, message, tool, tiny_model):
    """Each bad setting is refused with one line that names it, and writes no text."""
    code, out, err = tool("sample", tiny_model, *arguments)
    assert (code, out) == (status, "")
    assert message in err


@pytest.mark.parametrize("command", ["sample", "inspect"])
def test_a_directory_that_is_no_model_is_refused(command, tool, tmp_path):
    """A wrong path or a broken model is one line on stderr and status 1."""
    status, out, err = tool(command, tmp_path)
    assert (status, out) == (1, "")
    assert err == f"{command}: manifest.json: No such file or directory\n"


def test_inspect_describes_a_verified_model(tool, tiny_model):
    """Shape, size, vocabulary, tensors, the recorded loss and the hash of every file are told."""
    status, out, _ = tool("inspect", tiny_model)
    assert status == 0
    assert "2 layers, 2 heads, 32 wide" in out
    assert "64 tokens" in out
    assert "96 characters: '\\n !" in out
    assert "blocks.*.attn.qkv.weight 96 x 32, 2 times" in out
    facts = json.loads((tiny_model / "training.json").read_text())
    assert f"{facts['held_out_loss_nats_per_character']:.4f} nats per character, says" in out
    assert f"{facts['parameters']:,}" in out
    for file in checkpoint.FILES:
        assert hashlib.sha256((tiny_model / file).read_bytes()).hexdigest() in out


def test_inspect_reproduces_the_loss_of_the_card(tool, tiny_model, tiny_text_file):
    """`--eval` with the text that was trained on measures the number of the model card."""
    status, out, _ = tool("inspect", tiny_model, "--eval", tiny_text_file)
    facts = json.loads((tiny_model / "training.json").read_text())
    loss = facts["held_out_loss_nats_per_character"]
    assert status == 0
    assert f"evaluation     {loss:.4f} nats per character over " in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("short", "its last tenth has 1 tokens, at least 65 are needed"),
        ("ünïcode" * 500, 'the model has no token for "'),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (None, "No such file"),
    ],
)
def test_a_text_that_cannot_be_evaluated_is_refused(text, message, tool, tiny_model, tmp_path):
    """Too short, unknown characters, no text, no file: one line on stderr and status 1."""
    path = tmp_path / "text.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, _, err = tool("inspect", tiny_model, "--eval", path)
    assert status == 1
    assert err.startswith("inspect: ")
    assert message in err


def test_a_loss_of_bpe_tokens_is_one_of_characters(tokens_of_bytes, tmp_path):
    """With a model that knows nothing, each byte costs ln 256; a character costs its bytes."""
    text = tmp_path / "text.txt"
    text.write_text("é漢" * 2000, encoding="utf-8")
    found = evaluate(tokens_of_bytes, text)
    assert found.nats_per_character == pytest.approx(2.5 * math.log(256), rel=0.01)


@pytest.fixture
def tokens_of_bytes(tmp_path):
    """A model of bytes whose logits are all zero."""
    model = GPT(GPTConfig(vocab_size=256, block_size=32, n_layer=1, n_head=1, n_embd=8))
    torch.nn.init.zeros_(model.token_embedding.weight)
    tokenizer = BpeTokenizer(sorted(BYTES), [])
    checkpoint.save(tmp_path / "bytes", name="bytes", model=model, tokenizer=tokenizer)
    return checkpoint.load(tmp_path / "bytes")


def test_a_terminal_is_not_steered(monkeypatch):
    """What a stranger's model writes reaches a terminal without control characters."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert _shown("a\x1b[2Jb\n\tc\x9b\u202e") == "a\ufffd[2Jb\n\tc\ufffd\ufffd"


@pytest.mark.parametrize(("why", "status"), [(BrokenPipeError(), 141), (KeyboardInterrupt(), 130)])
def test_an_end_from_outside_is_quiet(why, status, tool, tiny_model, monkeypatch):
    """`| head` and Ctrl-C end a text without a traceback, with the status of a shell's command."""

    def ended(*_, **__):
        raise why

    monkeypatch.setattr(Generation, "read", ended)
    code, _, err = tool("sample", tiny_model, "--num-chars", 5)
    assert (code, err.strip()) == (status, "")


def test_a_name_in_a_listing_does_not_steer_the_terminal(tool, tmp_path):
    """The token that ends a text is shown without its control characters and lines."""
    ends = "<\x1b[2J\n>"
    model = GPT(GPTConfig(vocab_size=257, block_size=8, n_layer=1, n_head=1, n_embd=8))
    tokenizer = BpeTokenizer([*sorted(BYTES), ends], [], added=[ends], end_of_text=ends)
    checkpoint.save(tmp_path, name="ends", model=model, tokenizer=tokenizer)
    assert "257 byte-level BPE tokens, <\ufffd[2J\ufffd> ends\n" in tool("inspect", tmp_path)[1]


def test_train_writes_a_model_that_samples(tool, tiny_text_file, tmp_path):
    """`train` ends with a model directory, its loss, and the command in the model card."""
    out = tmp_path / "mine"
    sizes = "--steps 3 --batch 4 --block-size 16 --n-layer 1 --n-head 2 --n-embd 16 --eval-every 2"
    arguments = ["train", "--text", tiny_text_file, "--out", out, *sizes.split()]
    status, text, _ = tool(*arguments)
    assert status == 0
    assert "nats per character" in text
    facts = json.loads((out / "training.json").read_text())
    assert facts["command"].startswith("python -m api.gpt train --text")
    assert [point["step"] for point in facts["curve"]] == [2, 3]
    assert len(tool("sample", out, "--num-chars", 20)[1]) == 21


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 0], "steps must be at least 1"),
        (["--n-embd", 10, "--n-head", 3], "n_embd 10 is not a multiple of n_head 3"),
        (["--block-size", 100_000], "too short"),
    ],
)
def test_train_refuses_what_cannot_work(arguments, message, tool, tiny_text_file, tmp_path):
    """A recipe that cannot work is one line on stderr and status 1, before any step."""
    out = tmp_path / "mine"
    status, _, err = tool("train", "--text", tiny_text_file, "--out", out, *arguments)
    assert status == 1
    assert message in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", 5, "--steps", 5], "give --steps or --minutes, not both"),
        (["--minutes", 0], "give --minutes above 0"),
        (["--seed", -1], "give --seed from 0 to 2^63-1"),
        (["--seed", 2**63], "give --seed from 0 to 2^63-1"),
        (["--dropout", "nan"], "give --dropout from 0, below 1"),
        (["--matrix-lr", "inf"], "give --matrix-lr above 0"),
        (["--other-lr", "nan"], "give --other-lr above 0"),
        (["--minutes", "nan"], "give --minutes above 0"),
        (["--minutes", "inf"], "give --minutes above 0"),
    ],
)
def test_train_refuses_numbers_out_of_bounds(arguments, message, tool, tiny_text_file, tmp_path):
    """A time budget is above 0 and stands in place of the steps; seed and rates have bounds."""
    status, _, err = tool("train", "--text", tiny_text_file, "--out", tmp_path / "m", *arguments)
    assert (status, err) == (2, f"train: {message}\n")


def test_a_model_that_cannot_be_read_back_is_one_line(tool, tiny_text_file, tmp_path, monkeypatch):
    """Whatever keeps a trained model from loading is told without a traceback."""

    def refused(*_, **__):
        raise checkpoint.CheckpointError("config.json: broken\x1b[2J")

    monkeypatch.setattr(training, "train", refused)
    status, _, err = tool("train", "--text", tiny_text_file, "--out", tmp_path / "mine")
    assert (status, err) == (1, "train: config.json: broken\ufffd[2J\n")


def test_a_stopped_training_says_how_to_go_on(tool, tiny_text_file, tmp_path, monkeypatch):
    """Ctrl-C is one line with what to do, and no traceback."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Trainer, "_step", interrupted)
    status, _, err = tool("train", "--text", tiny_text_file, "--out", tmp_path / "mine")
    assert status == 130
    assert err.endswith("train: stopped; the same command with --resume goes on\n")
