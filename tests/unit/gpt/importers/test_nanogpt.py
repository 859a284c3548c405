"""nanoGPT's checkpoints come over with every logit, whatever was switched on in them."""

import json

import pytest
import torch

from api.gpt.__main__ import main
from tests.support.foreign_models import (
    nanogpt_checkpoint,
    nanogpt_logits,
    nanogpt_meta,
    nanogpt_state,
    numbers,
)

CHARS = "\n !abcdefgh"
V = len(CHARS)


@pytest.fixture
def files(tmp_path):
    """Write a checkpoint and its meta.pkl."""

    def write(state, *, n_head=2, change=None, **how):
        document = nanogpt_checkpoint(state, n_head=n_head, **how)
        if change:
            change(document)
        torch.save(document, tmp_path / "ckpt.pt")
        (tmp_path / "meta.pkl").write_bytes(nanogpt_meta(CHARS))
        return tmp_path / "ckpt.pt", tmp_path / "meta.pkl"

    return write


@pytest.mark.parametrize(
    "shape",
    [
        {"T": 16, "L": 1, "C": 16, "bias": False},
        {"T": 24, "L": 3, "C": 24, "bias": True},
        {"T": 8, "L": 2, "C": 32, "bias": False, "tied": False},
    ],
    ids=str,
)
def test_logits_are_those_of_nanogpt(shape, files, importing, same):
    """With biases or none, head tied or not: the logits of a plain restatement of nanoGPT."""
    state = nanogpt_state(V=V, **shape)
    loaded = importing("nanogpt", *files(state))
    same(loaded, lambda tokens: nanogpt_logits(state, 2, tokens))
    assert loaded.tokenizer.chars == tuple(CHARS)
    assert loaded.config.tied_head == shape.get("tied", True)


def test_a_compiled_model_and_its_masks_come_over(files, importing, same):
    """`_orig_mod.` prefixes, the masks of older torch, and model_args without `bias`."""
    state = nanogpt_state(V=V, T=12, L=2, C=16, bias=True)
    stored = {**state, "transformer.h.0.attn.bias": torch.ones(1, 1, 12, 12).tril()}
    stored["transformer.h.1.attn.bias"] = torch.ones(1, 1, 12, 12).tril()

    def old(document):
        del document["model_args"]["bias"]

    loaded = importing("nanogpt", *files(stored, prefix="_orig_mod.", change=old))
    same(loaded, lambda tokens: nanogpt_logits(state, 2, tokens))


def test_another_gelu_is_taken_when_told(files, importing, same):
    """`--activation gelu_tanh` gives the logits of nanoGPT's first versions."""
    state = nanogpt_state(V=V, T=12, L=2, C=16, bias=True)
    loaded = importing("nanogpt", *files(state), "--activation", "gelu_tanh")
    same(loaded, lambda tokens: nanogpt_logits(state, 2, tokens, "tanh"))


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_padding_of_the_vocabulary_is_left_out(form, files, importing, same, tokenizer_file):
    """A BPE model padded to a multiple of 64 keeps its tokens' logits and loses the padding; the
    tokens come in Hugging Face's form or in that of OpenAI's own release."""
    model = json.loads(tokenizer_file.read_text())["model"]
    tokens = len(model["vocab"])
    state = nanogpt_state(V=tokens + 60, T=16, L=2, C=16, bias=False)
    ckpt, _ = files(state)
    if form == "vocab.json":
        tokenizer_file = ckpt.with_name("vocab.json")
        tokenizer_file.write_text(json.dumps(model["vocab"]))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
        ckpt.with_name("merges.txt").write_text("\n".join(lines), encoding="utf-8")
    loaded = importing("nanogpt", ckpt, "--tokenizer", tokenizer_file)
    assert loaded.config.vocab_size == loaded.tokenizer.vocab_size == tokens
    same(loaded, lambda ids: nanogpt_logits(state, 2, ids))
    assert loaded.start_text == "<|endoftext|>"


def test_half_precision_stays_half(files, importing):
    """Weights that came in bfloat16 are stored so, bit for bit, and not in twice the size."""
    state = nanogpt_state(V=V, T=8, L=1, C=16, bias=False)
    halves = {name: tensor.bfloat16() for name, tensor in state.items()}
    loaded = importing("nanogpt", *files(halves))
    weight = loaded.model.token_embedding.weight
    assert torch.equal(weight, halves["transformer.wte.weight"].float())
    assert loaded.sha256


def test_every_tensor_that_does_not_fit_is_named(files, refusal):
    """Wrong, missing and extra tensors are listed one by one, expected and found."""
    state = nanogpt_state(V=V, T=8, L=2, C=16, bias=False)
    state["transformer.h.0.mlp.c_fc.weight"] = numbers(63, 16, seed=1)
    del state["transformer.h.1.attn.c_proj.weight"]
    state["transformer.h.1.extra"] = numbers(2, seed=1)
    said = refusal("nanogpt", *files(state)).splitlines()
    assert said[0].endswith("these tensors do not fit:")
    assert said[1:] == [
        "  transformer.h.0.mlp.c_fc.weight: expected (64, 16), found (63, 16)",
        "  transformer.h.1.attn.c_proj.weight: expected (16, 16), found none",
        "  transformer.h.1.extra: expected no such tensor, found (2,)",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("model_args"), 'has no "model" and "model_args"'),
        (lambda d: d["model_args"].pop("n_head"), "model_args lacks n_head"),
        (lambda d: d["model_args"].update(n_head=3), "n_embd 16 is not a multiple of n_head 3"),
        (lambda d: d["model_args"].update(n_layer=10**9), "n_layer must be an integer from 1 to"),
        (lambda d: d["model_args"].update(n_layer=1), "h.1.ln_1.weight: expected no such tensor"),
        (lambda d: d["model"].update(note="hello"), "'note' is a str, not a tensor"),
        (
            lambda d: d["model"].update({"transformer.ln_f.weight": torch.ones(16).int()}),
            "ln_f.weight: expected floating-point numbers, found torch.int32",
        ),
        (
            lambda d: d["model"]["transformer.ln_f.weight"].fill_(torch.nan),
            "ln_f.weight: is not finite",
        ),
        (
            lambda d: d["model"].update({"_orig_mod.lm_head.weight": torch.ones(V, 16)}),
            "holds two models",
        ),
    ],
)
def test_what_nanogpt_would_not_write_is_refused(change, message, files, refusal):
    """Each defect of a checkpoint is one refusal that names it."""
    state = nanogpt_state(V=V, T=8, L=2, C=16, bias=False)
    assert message in refusal("nanogpt", *files(state, change=change))


def test_a_missing_vocabulary_is_asked_for(files, refusal, tokenizer_file, tmp_path):
    """Without a vocabulary the refusal says which file nanoGPT has it in; with two, or one that
    is another model's, that."""
    ckpt, meta = files(nanogpt_state(V=V, T=8, L=1, C=16, bias=False))
    said = refusal("nanogpt", ckpt)
    assert "data/shakespeare_char/meta.pkl" in said
    assert "--tokenizer" in said
    assert "not both" in refusal("nanogpt", ckpt, meta, "--tokenizer", tokenizer_file)
    assert "do not belong together" in refusal("nanogpt", ckpt, "--tokenizer", tokenizer_file)
    meta.write_bytes(nanogpt_meta("abc"))
    assert f"3 characters, the model {V} entries" in refusal("nanogpt", ckpt, meta)


def test_options_of_another_format_are_refused(files, refusal, tmp_path):
    """An option that would be ignored is an error that names it, and so is a file too many."""
    ckpt, meta = files(nanogpt_state(V=V, T=8, L=1, C=16, bias=False))
    assert refusal("nanogpt", ckpt, "--chars", "abc") == "--from nanogpt has no use for --chars"
    assert "does not take" in refusal("nanogpt", ckpt, meta, meta)


def test_a_model_is_never_written_over(files, importing, tmp_path, capsys):
    """A directory that holds a model is left as it is."""
    ckpt, meta = files(nanogpt_state(V=V, T=8, L=1, C=16, bias=False))
    importing("nanogpt", ckpt, meta)
    again = ["import", "--from", "nanogpt", str(ckpt), str(meta), "--to", str(tmp_path / "model")]
    assert main(again) == 1
    assert "holds a model; use another --to" in capsys.readouterr().err
