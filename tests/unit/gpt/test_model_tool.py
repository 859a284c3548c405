"""`python -m api.gpt`: what it writes is what the service would, and its refusals say why."""

import json

import pytest

from api.gpt import checkpoint
from api.gpt.__main__ import main
from api.gpt.engine import Engine
from api.gpt.request import GenerationRequest


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
    """Shape, size, vocabulary and hash are told."""
    status, out, _ = tool("inspect", tiny_model)
    assert status == 0
    assert "2 layers, 2 heads, 32 wide" in out
    assert "64 tokens" in out
    assert "96 tokens" in out
    assert checkpoint.load(tiny_model).sha256 in out


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
