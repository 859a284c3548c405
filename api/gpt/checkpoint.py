"""Model directories: written whole, read only when every file has the hash its manifest names.

A directory holds `config.json`, `model.safetensors`, `tokenizer.json` and `manifest.json` (SHA-256
of the other three). Loading reads nothing else and executes nothing from it; anything missing,
altered or of the wrong shape raises `CheckpointError` with one line that names the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from api.gpt import tokenizer as tokenizers
from api.gpt.shape import GPTConfig
from api.gpt.shown import shown
from api.gpt.tokenizer import Tokenizer

if TYPE_CHECKING:  # torch takes seconds to import, and serving can do without
    import torch

    from api.gpt.model import GPT

FORMAT = "quillgate-gpt/1"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
WRITTEN = (*FILES, "manifest.json")
LIMITS = {"manifest.json": 2**16, "config.json": 2**20, "tokenizer.json": 2**26}  # bytes
_SHA256 = re.compile("[0-9a-f]{64}")
_DTYPES: dict[str, np.dtype[Any]] = {
    "BF16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}


class CheckpointError(Exception):
    """The model directory cannot be served; the message says which file and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights, with what a reader needs to use them."""

    name: str
    config: GPTConfig
    weights: Mapping[str, NDArray[np.float32]]  # converted when looked up
    tokenizer: Tokenizer
    start_text: str  # what generation continues when no prompt is given
    sha256: str  # of model.safetensors

    @cached_property
    def model(self) -> GPT:
        """The model as a torch module, float32, for what needs gradients or plain arithmetic."""
        import torch

        from api.gpt.model import GPT

        with torch.device("meta"):
            model = GPT(self.config)
        state = {name: torch.from_numpy(array) for name, array in self.weights.items()}
        model.load_state_dict(state, assign=True)
        return model.eval().requires_grad_(False)


class _Weights(Mapping[str, NDArray[np.float32]]):
    """Tensors as they lie in the file, widened to float32 one at a time."""

    def __init__(self, stored: Mapping[str, NDArray[Any]]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        stored = self._stored[name]
        if stored.dtype == np.uint16:  # bfloat16: the upper half of a float32
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def save(
    directory: Path,
    *,
    name: str,
    model: GPT,
    tokenizer: Tokenizer,
    start_text: str | None = None,  # None: the tokenizer's
    dtype: torch.dtype | None = None,  # of the weights; None: bfloat16
) -> None:
    """Write the four files. `manifest.json` comes last and makes it whole."""
    import torch
    from safetensors.torch import save as save_safetensors

    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().to(dtype or torch.bfloat16).contiguous()
        for key, value in model.state_dict().items()
    }
    config = {
        "format": FORMAT,
        "name": name,
        "start_text": tokenizer.start_text if start_text is None else start_text,
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


def first_of(directory: Path, names: Iterable[str]) -> str | None:
    """Return the first of these files that a directory has; writing would replace it."""
    return next((name for name in names if (directory / name).exists()), None)


def name_problem(name: object) -> str | None:
    """Say what keeps a model from having this name."""
    if isinstance(name, str) and name.isprintable() and 1 <= len(name) <= 100:
        return None
    return "must be 1 to 100 characters that print"


def start_text_problem(text: object, tokenizer: Tokenizer) -> str | None:
    """Say what keeps a model with this vocabulary from going on after this text."""
    if not isinstance(text, str) or not 1 <= len(text) <= 4000:
        return "must be a string of 1 to 4000 characters"
    try:
        tokenizer.encode(text)
    except ValueError as exc:
        return f"cannot be read: {exc}"
    return None


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
            raise ValueError(f"unknown setting {shown(', '.join(unknown))}")
        model_config = GPTConfig(**config["model"])
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(f"config.json: {exc}") from exc
    try:
        tokenizer = tokenizers.from_json(_parse_json(contents["tokenizer.json"], "tokenizer.json"))
    except ValueError as exc:
        raise CheckpointError(f"tokenizer.json: {exc}") from exc
    if tokenizer.vocab_size != model_config.vocab_size:
        raise CheckpointError(
            f"tokenizer.json has {tokenizer.vocab_size} tokens, "
            f"config.json says vocab_size {model_config.vocab_size}"
        )
    name, start_text = config.get("name", directory.name), config.get("start_text", "\n")
    if problem := name_problem(name):
        raise CheckpointError(f'config.json: "name" {problem}')
    if problem := start_text_problem(start_text, tokenizer):
        raise CheckpointError(f'config.json: "start_text" {problem}')
    return Checkpoint(
        name=name,
        config=model_config,
        weights=_Weights(_tensors(model_config, contents["model.safetensors"])),
        tokenizer=tokenizer,
        start_text=start_text,
        sha256=hashlib.sha256(contents["model.safetensors"]).hexdigest(),
    )


def _tensors(config: GPTConfig, data: bytes) -> dict[str, NDArray[Any]]:
    try:
        stored = dict(deserialize(data))
    except SafetensorError as exc:
        raise CheckpointError(f"model.safetensors: {shown(exc)}") from exc
    expected = config.tensor_shapes()
    found = {name: tuple(tensor["shape"]) for name, tensor in stored.items()}
    if expected != found:
        name = min(set(expected.items()) ^ set(found.items()))[0]
        raise CheckpointError(
            f"model.safetensors: {shown(name)}: expected {expected.get(name, 'no such tensor')}, "
            f"found {found.get(name, 'none')}"
        )
    for name, tensor in stored.items():
        if tensor["dtype"] not in _DTYPES:
            raise CheckpointError(
                f"model.safetensors: {name}: {tensor['dtype']} is none of {', '.join(_DTYPES)}"
            )
    return {
        name: np.frombuffer(bytes(tensor["data"]), _DTYPES[tensor["dtype"]]).reshape(expected[name])
        for name, tensor in stored.items()
    }


def manifest_hashes(data: bytes) -> dict[str, str]:
    """Return the SHA-256 of each of `FILES`, in hexadecimal. Raise CheckpointError."""
    manifest = _parse_json(data, "manifest.json")
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(hashes, dict) or set(hashes) != set(FILES):
        raise CheckpointError(f'manifest.json: "sha256" must name exactly {", ".join(FILES)}')
    if not all(isinstance(h, str) and _SHA256.fullmatch(h) for h in hashes.values()):
        raise CheckpointError("manifest.json: a SHA-256 has 64 hexadecimal digits")
    return hashes


def _verified_contents(directory: Path) -> dict[str, bytes]:
    """Read each file once and hash what was read, so that nothing can change in between."""
    if directory.is_file():
        raise CheckpointError(f"{directory}: is a file; give the directory that holds the model")
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such model directory")
    hashes = manifest_hashes(_read(directory / "manifest.json"))
    contents = {}
    for file in FILES:
        contents[file] = _read(directory / file)
        if hashlib.sha256(contents[file]).hexdigest() != hashes[file]:
            raise CheckpointError(f"{file}: its SHA-256 is not the one in manifest.json")
    return contents


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LIMITS.get(path.name, math.inf):
            raise CheckpointError(f"{path.name}: larger than {LIMITS[path.name]} bytes")
        return path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path.name}: {exc.strerror or exc}") from exc


def _parse_json(data: bytes, file: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{file}: not JSON: {exc}") from exc


def _json_bytes(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
