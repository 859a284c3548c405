"""Model directories: written whole, read only when every file has the hash its manifest names.

A directory holds `config.json`, `model.safetensors`, `tokenizer.json` and `manifest.json` (SHA-256
of the other three). Loading reads nothing else and executes nothing from it; anything missing,
altered or of the wrong shape raises `CheckpointError` with one line that names the file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from api.gpt.model import GPT, GPTConfig
from api.gpt.tokenizer import CharTokenizer

FORMAT = "quillgate-gpt/1"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


class CheckpointError(Exception):
    """The model directory cannot be served; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to run, with what a reader needs to use it."""

    name: str
    model: GPT
    tokenizer: CharTokenizer
    start_text: str  # what generation continues when no prompt is given
    sha256: str  # of model.safetensors


def save(
    directory: Path, *, name: str, model: GPT, tokenizer: CharTokenizer, start_text: str = "\n"
) -> None:
    """Write the four files; weights in bfloat16. `manifest.json` comes last and makes it whole."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().to(torch.bfloat16).contiguous()
        for key, value in model.state_dict().items()
    }
    config = {
        "format": FORMAT,
        "name": name,
        "start_text": start_text,
        "model": {**model.config.to_json(), "dropout": 0.0},
    }
    contents = {
        "config.json": _json_bytes(config),
        "model.safetensors": save_safetensors(tensors, {"format": FORMAT}),
        "tokenizer.json": _json_bytes(tokenizer.to_json()),
    }
    for file, data in contents.items():
        (directory / file).write_bytes(data)
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in contents.items()}
    (directory / "manifest.json").write_bytes(_json_bytes({"sha256": hashes}))


def load(directory: Path) -> Checkpoint:
    """Verify and read a model directory; weights come back in float32. Raise CheckpointError."""
    contents = _verified_contents(directory)
    config = _parse_json(contents["config.json"], "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f'config.json: "format" must be "{FORMAT}"')
    try:
        known = {field.name for field in fields(GPTConfig)}
        unknown = sorted(set(config["model"]) - known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}")
        model_config = GPTConfig(**config["model"])
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(f"config.json: {exc}") from exc
    try:
        tokenizer = CharTokenizer.from_json(
            _parse_json(contents["tokenizer.json"], "tokenizer.json")
        )
    except ValueError as exc:
        raise CheckpointError(f"tokenizer.json: {exc}") from exc
    if tokenizer.vocab_size != model_config.vocab_size:
        raise CheckpointError(
            f"tokenizer.json has {tokenizer.vocab_size} tokens, "
            f"config.json says vocab_size {model_config.vocab_size}"
        )
    start_text = config.get("start_text", "\n")
    if not isinstance(start_text, str) or not start_text:
        raise CheckpointError('config.json: "start_text" must be a string of at least 1 character')
    try:
        tokenizer.encode(start_text)
    except ValueError as exc:
        raise CheckpointError(f'config.json: "start_text": {exc}') from exc
    return Checkpoint(
        name=str(config.get("name", directory.name)),
        model=_build(model_config, contents["model.safetensors"]),
        tokenizer=tokenizer,
        start_text=start_text,
        sha256=hashlib.sha256(contents["model.safetensors"]).hexdigest(),
    )


def _build(config: GPTConfig, data: bytes) -> GPT:
    try:
        tensors = load_safetensors(data)
    except SafetensorError as exc:
        raise CheckpointError(f"model.safetensors: {exc}") from exc
    with torch.device("meta"):
        model = GPT(config)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))
        key = wrong[0][0]
        raise CheckpointError(
            f"model.safetensors: {key}: expected {expected.get(key, 'no such tensor')}, "
            f"found {found.get(key, 'none')}"
        )
    model.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _verified_contents(directory: Path) -> dict[str, bytes]:
    """Read each file once and hash what was read, so that nothing can change in between."""
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such model directory")
    manifest = _parse_json(_read(directory / "manifest.json"), "manifest.json")
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(hashes, dict) or set(hashes) != set(FILES):
        raise CheckpointError(f'manifest.json: "sha256" must name exactly {", ".join(FILES)}')
    contents = {}
    for file in FILES:
        contents[file] = _read(directory / file)
        if hashlib.sha256(contents[file]).hexdigest() != hashes[file]:
            raise CheckpointError(f"{file}: its SHA-256 is not the one in manifest.json")
    return contents


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path.name}: {exc.strerror or exc}") from exc


def _parse_json(data: bytes, file: str) -> Any:
    try:
        return json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise CheckpointError(f"{file}: not JSON: {exc}") from exc


def _json_bytes(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
