"""A model directory is served only whole and untouched; every refusal names the file."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from api.gpt import checkpoint
from api.gpt.checkpoint import CheckpointError
from api.gpt.model import GPT
from api.gpt.shape import GPTConfig
from api.gpt.tokenizer import CharTokenizer


@pytest.fixture
def directory(tiny_model, tmp_path):
    """A copy of the tiny model that a test may break."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def rewrite(directory, file, data):
    """Replace a file and make the manifest agree, so that only its content can be at fault."""
    (directory / file).write_bytes(data)
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["sha256"][file] = hashlib.sha256(data).hexdigest()
    (directory / "manifest.json").write_text(json.dumps(manifest))


def edit_config(directory, **changes):
    config = json.loads((directory / "config.json").read_text())
    for key, value in changes.items():
        (config["model"] if key in config["model"] else config)[key] = value
    rewrite(directory, "config.json", json.dumps(config).encode())


def test_what_is_saved_is_what_is_loaded(tmp_path):
    """Weights come back as their bfloat16 rounding; config, tokenizer and hash as written."""
    model = GPT(GPTConfig(vocab_size=3, block_size=8, n_layer=1, n_head=1, n_embd=8, bias=True))
    checkpoint.save(
        tmp_path, name="abc", model=model, tokenizer=CharTokenizer("abc"), start_text="a"
    )
    loaded = checkpoint.load(tmp_path)
    assert (loaded.name, loaded.start_text, loaded.tokenizer.chars) == ("abc", "a", tuple("abc"))
    assert loaded.model.config == model.config
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value.to(torch.bfloat16).float()), key
    data = (tmp_path / "model.safetensors").read_bytes()
    assert loaded.sha256 == hashlib.sha256(data).hexdigest()
    assert not loaded.model.training


@pytest.mark.parametrize("file", [*checkpoint.FILES, "manifest.json"])
def test_a_missing_file_is_named(file, directory):
    """Each of the four files is needed, and the one that is not there is named."""
    (directory / file).unlink()
    with pytest.raises(CheckpointError, match=f"^{file}: No such file"):
        checkpoint.load(directory)


@pytest.mark.parametrize("file", checkpoint.FILES)
def test_an_altered_file_is_named(file, directory):
    """One changed bit in any file stops the load."""
    data = bytearray((directory / file).read_bytes())
    data[-3] ^= 1
    (directory / file).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"^{file}: its SHA-256"):
        checkpoint.load(directory)


def test_a_tensor_of_the_wrong_shape_is_named(directory):
    """Weights that do not fit the configuration are refused by the name of the tensor."""
    tensors = load_file(directory / "model.safetensors")
    tensors["position_embedding.weight"] = tensors["position_embedding.weight"][:-1].clone()
    save_file(tensors, directory / "model.safetensors")
    rewrite(directory, "model.safetensors", (directory / "model.safetensors").read_bytes())
    with pytest.raises(
        CheckpointError,
        match=r"^model\.safetensors: position_embedding\.weight: "
        r"expected \(64, 32\), found \(63, 32\)",
    ):
        checkpoint.load(directory)


def test_a_missing_and_an_extra_tensor_are_named(directory):
    """Nothing may be missing and nothing may be added."""
    tensors = load_file(directory / "model.safetensors")
    gone = tensors.pop("ln_f.weight")
    save_file(tensors, directory / "model.safetensors")
    rewrite(directory, "model.safetensors", (directory / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"ln_f\.weight: .*found none"):
        checkpoint.load(directory)
    save_file(
        {**tensors, "ln_f.weight": gone, "more": gone.clone()}, directory / "model.safetensors"
    )
    rewrite(directory, "model.safetensors", (directory / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"more: expected no such tensor"):
        checkpoint.load(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other/1"}, '"format" must be "quillgate-gpt/1"'),
        ({"n_head": 3}, "n_embd 32 is not a multiple of n_head 3"),
        ({"n_layer": "2"}, "n_layer must be an integer from 1"),
        ({"n_layer": True}, "n_layer must be an integer from 1"),
        ({"dropout": 2.0}, "dropout must be in"),
        ({"dropout": "x"}, "dropout must be in"),
        ({"start_text": ""}, '"start_text" must be a string'),
        ({"start_text": "a" * 4001}, '"start_text" must be a string'),
        ({"name": 7}, '"name" must be'),
        ({"name": "a\nb"}, '"name" must be'),
        ({"start_text": "é"}, "the model has no token for"),
        ({"model": {"vocab_size": 96, "rope": 1}}, "unknown setting rope"),
        ({"model": {"vocab_size": 96, "a\x1b\n": 1}}, "unknown setting a\ufffd\ufffd$"),
        ({"vocab_size": 7}, "vocab_size 7"),
    ],
)
def test_a_wrong_configuration_is_refused(changes, message, directory):
    """Each wrong setting is refused with its name, before any tensor is built."""
    edit_config(directory, **changes)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(directory)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"format": ' + b"9" * 5000 + b"}"),
        ("tokenizer.json", b"\xff"),
        ("tokenizer.json", b'{"type": "char", "chars": ["ab"]}'),
        ("model.safetensors", b"not safetensors"),
    ],
)
def test_a_malformed_file_is_named(file, data, directory):
    """Bytes that do not parse are a refusal that names the file, never a traceback."""
    rewrite(directory, file, data)
    with pytest.raises(CheckpointError, match=file):
        checkpoint.load(directory)


@pytest.mark.parametrize("file", ["manifest.json", "config.json", "tokenizer.json"])
def test_a_file_beyond_reason_is_not_read(file, directory):
    """A file that could only be there to fill the memory is refused by its size."""
    with (directory / file).open("r+b") as data:
        data.truncate(checkpoint.LIMITS[file] + 1)
    with pytest.raises(CheckpointError, match=f"^{file}: larger than"):
        checkpoint.load(directory)


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"sha256": {"config.json": ""}}', "nonsense"])
def test_a_manifest_must_name_every_file(manifest, directory):
    """A manifest that vouches for less than every file vouches for nothing."""
    (directory / "manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError, match=r"^manifest\.json"):
        checkpoint.load(directory)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    """A wrong path is told as such."""
    with pytest.raises(CheckpointError, match="nowhere: no such model directory"):
        checkpoint.load(tmp_path / "nowhere")


def test_a_file_is_no_model_directory(directory):
    """Who names a file of a model in its place is told that it is one."""
    with pytest.raises(CheckpointError, match=r"config\.json: is a file; give the directory"):
        checkpoint.load(directory / "config.json")
