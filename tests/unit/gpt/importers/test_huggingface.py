"""GPT-2 directories of transformers come over with every logit and every token."""

import json
import shutil

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model, GPT2Tokenizer
from transformers.utils import logging

from api.gpt.__main__ import main

SMALL = {"n_positions": 24, "n_layer": 2, "n_head": 2, "n_embd": 32}
SHAPES = {
    "as OpenAI's": {},
    "exact gelu, a narrow feed-forward": {"activation_function": "gelu", "n_inner": 40},
    "relu, one head": {"activation_function": "relu", "n_head": 1, "n_layer": 1},
    "an untied head": {"tie_word_embeddings": False, "activation_function": "gelu_pytorch_tanh"},
    "a longer context": {"n_positions": 100, "n_embd": 48, "n_head": 4, "n_layer": 3},
}


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable_progress_bar()


@pytest.fixture
def saved(tokenizer_file, tmp_path):
    """Save a model of random weights as transformers does; return it and its directory."""

    def save(*, head=True, settings=None, tokenizer=True, **shape):
        tokens = len(json.loads(tokenizer_file.read_text())["model"]["vocab"])
        config = GPT2Config(
            **{"vocab_size": tokens, **SMALL, **shape}, bos_token_id=0, eos_token_id=0
        )
        torch.manual_seed(4)
        model = GPT2LMHeadModel(config).eval()
        for parameter in model.parameters():  # biases and norms too; a lost one must show
            torch.nn.init.normal_(parameter, std=0.3)
        directory = tmp_path / "theirs"
        (model if head else model.transformer).save_pretrained(directory)
        if settings:
            path = directory / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
        if tokenizer:
            shutil.copy(tokenizer_file, directory / "tokenizer.json")
        return model, directory

    return save


def logits_of(model):
    def logits(tokens):
        with torch.no_grad():
            return model(torch.tensor([tokens])).logits[0]

    return logits


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape, saved, importing, same):
    """Conv1D, inner width, activation, head: the logits of transformers' own GPT-2."""
    model, directory = saved(**SHAPES[shape])
    loaded = importing("huggingface", directory)
    same(loaded, logits_of(model))
    assert loaded.tokenizer.end_of_text == 0


def test_a_model_without_its_head_and_with_padding_comes_over(saved, importing, same):
    """A bare GPT2Model has other names; a padded vocabulary loses its padding."""
    model, directory = saved(head=False, vocab_size=448)
    loaded = importing("huggingface", directory)
    same(loaded, logits_of(model))
    assert loaded.config.vocab_size == loaded.tokenizer.vocab_size < 448


def test_older_weights_come_over(saved, importing, same):
    """`pytorch_model.bin`, with the masks that older versions saved, where it is all there is."""
    model, directory = saved()
    (directory / "model.safetensors").unlink()
    state = dict(model.state_dict())
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 24, 24).tril().to(torch.uint8)
    state["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, directory / "pytorch_model.bin")
    same(importing("huggingface", directory), logits_of(model))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"activation_function": "silu"}, "activation_function 'silu' cannot be served"),
        ({"scale_attn_weights": False}, "scale_attn_weights False cannot be served, only True"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ({"add_cross_attention": True}, "add_cross_attention True"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon 1e-06 cannot be served, only 1e-05"),
        ({"model_type": "llama"}, "model_type 'llama' cannot be served, only 'gpt2'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"n_head": 5}, "n_embd 32 is not a multiple of n_head 5"),
        ({"n_layer": "2"}, "n_layer must be an integer"),
        ({"tie_word_embeddings": "no"}, "tied_head must be true or false"),
        ({"activation_function": ["gelu"]}, "activation_function ['gelu'] cannot be served"),
        ({"eos_token_id": True}, "eos_token_id must be one token"),
        ({"eos_token_id": [0, 1]}, "eos_token_id must be one token"),
        ({"eos_token_id": 10**9}, "the end-of-text token 1000000000 is beyond"),
        ({"n_positions": 23}, "transformer.wpe.weight: expected (23, 32), found (24, 32)"),
        ({"vocab_size": 10**6}, "transformer.wte.weight: expected (1000000, 32)"),
    ],
)
def test_an_unusual_setting_is_refused_by_name(setting, message, saved, refusal):
    """What would change the arithmetic, and is not known here, is never silently dropped."""
    _, directory = saved(settings=setting)
    assert message in refusal("huggingface", directory)


def test_a_directory_that_lacks_something_is_refused(saved, refusal, tmp_path):
    """No directory, no tokenizer, no weights, weights in several files: each has its line."""
    assert refusal("huggingface", tmp_path / "no") == f"{tmp_path}/no: no such directory"
    _, directory = saved(tokenizer=False)
    assert "has no tokenizer.json, and no vocab.json" in refusal("huggingface", directory)
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    assert "has no model.safetensors" in refusal("huggingface", directory)
    (directory / "model.safetensors.index.json").write_text("{}")
    assert "save them as one" in refusal("huggingface", directory)
    (directory / "config.json").write_text("[" * 100_000)
    assert "config.json: not JSON" in refusal("huggingface", directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer NFC"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer Whitespace"),
        ({"pre_tokenizer": None}, "pre_tokenizer None"),
        ({"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}, "without use_regex"),
        ({"post_processor": {"type": "TemplateProcessing"}}, "post_processor TemplateProcessing"),
        ({"post_processor": {"type": "TemplateProcessing", "single": [1]}}, "post_processor"),
        ({"normalizer": {"type": "a\x1b[2J\n"}}, "normalizer a\ufffd[2J\ufffd:"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "only byte-level BPE"),
        ({"model": []}, "only byte-level BPE"),
        ({"model": {"type": "BPE", "dropout": 0.1}}, "model.dropout 0.1"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 5}, "merges": []}}, "without gaps"),
        ({"model": {"type": "BPE", "vocab": {"a": "0"}, "merges": []}}, "give every token a num"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}, "not of two tokens"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": {}}}, "merges must be a list"),
        ({"added_tokens": {"a": 1}}, "added_tokens must be a list"),
        ({"added_tokens": [{"id": 1}]}, "an added token needs a content"),
        ({"added_tokens": [{"id": 3, "content": "x", "lstrip": True}]}, "'x': lstrip"),
        ({"added_tokens": [{"id": 9, "content": "<|endoftext|>"}]}, "has two numbers"),
    ],
)
def test_an_unusual_tokenizer_is_refused_by_name(change, message, saved, refusal, tokenizer_file):
    """A tokenizer that would give a text other tokens than this one does is refused."""
    _, directory = saved()
    document = {**json.loads(tokenizer_file.read_text()), "added_tokens": [], **change}
    (directory / "tokenizer.json").write_text(json.dumps(document))
    assert message in refusal("huggingface", directory)


def split_tokenizer(tokenizer_file, directory, ends):
    """Write vocab.json and merges.txt; a token of the vocabulary is called "model"."""
    model = json.loads(tokenizer_file.read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {token: i for i, token in enumerate([*tokens, "model"])}
    lines = ["#version: 0.2", *(" ".join(p) if isinstance(p, list) else p for p in model["merges"])]
    (directory / "vocab.json").write_text(json.dumps(vocab))
    (directory / "merges.txt").write_bytes("".join(line + ends for line in lines).encode())
    return len(vocab)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_vocabulary_may_have_a_token_called_model(ends, saved, importing, tokenizer_file):
    """GPT-2's two files are told from a tokenizer.json by what "model" is; Windows' line ends are
    no part of a merge."""
    tokens = len(json.loads(tokenizer_file.read_text())["model"]["vocab"]) + 1
    _, directory = saved(tokenizer=False, vocab_size=tokens)
    split_tokenizer(tokenizer_file, directory, ends)
    loaded = importing("huggingface", directory)
    assert loaded.tokenizer.vocab_size == tokens
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("the fox\r\n")) == "the fox\r\n"


def test_a_vocabulary_without_its_merges_is_refused(saved, refusal, tokenizer_file):
    """vocab.json alone does not say how a text is cut into tokens: the missing file is named."""
    _, directory = saved(tokenizer=False)
    split_tokenizer(tokenizer_file, directory, "\n")
    (directory / "merges.txt").unlink()
    assert "merges.txt: No such file" in refusal("huggingface", directory)


def test_a_source_is_never_written_over(saved, capsys):
    """`--to` the very directory that is read, or any that holds such a file, is refused."""
    _, directory = saved()
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    arguments = ["import", "--from", "huggingface", str(directory), "--to", str(directory)]
    assert main(arguments) == 1
    assert "holds a config.json of something else; use another --to" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "a" * 101], "--name must be 1 to 100 characters that print"),
        (["--start-text", "a" * 4001], "--start-text must be a string of 1 to 4000 characters"),
        ([], "--name must be 1 to 100 characters that print"),
    ],
)
def test_what_does_not_fit_our_own_format_writes_nothing(options, message, saved, tmp_path, capsys):
    """A name or start text that could not be read back is refused before a file is written."""
    _, directory = saved()
    out = tmp_path / ("a" if options else "two\nlines")
    arguments = ["import", "--from", "huggingface", str(directory), "--to", str(out), *options]
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("adds", [False, True])
def test_what_transformers_saves_is_read(adds, saved, importing, refusal):
    """Its own tokenizer class writes a template that adds nothing, or a token before each text:
    the one is read, the other refused."""
    _, directory = saved()
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    theirs = GPT2Tokenizer(vocab=model["vocab"], merges=merges, add_bos_token=adds)
    theirs.save_pretrained(directory)
    if adds:
        assert "post_processor TemplateProcessing" in refusal("huggingface", directory)
    else:
        tokenizer = importing("huggingface", directory).tokenizer
        assert tokenizer.encode("fox 漢") == theirs("fox 漢").input_ids


def test_what_transformers_itself_computes_is_compared_with():
    """The models compared with are transformers' own classes, not something of this project."""
    assert GPT2LMHeadModel.__module__ == GPT2Model.__module__
    assert GPT2LMHeadModel.__module__.startswith("transformers.")
