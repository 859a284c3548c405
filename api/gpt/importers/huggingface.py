"""A Hugging Face directory with a GPT-2 (transformers: `GPT2LMHeadModel`): linears are stored
transposed as Conv1D, inner width and activation are settings, a tokenizer lies beside it.

A setting of `config.json` that would change the arithmetic, and that this model does not know, is
refused by its name. Nothing but `config.json`, the weights and the tokenizer is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from api.gpt.importers import gpt2
from api.gpt.importers.files import ImportRefusedError, read_json
from api.gpt.importers.imported import Imported
from api.gpt.importers.tensors import (
    fit,
    read_safetensors,
    read_torch_file,
    state_of,
    stored_dtype,
)
from api.gpt.importers.vocabulary import bpe_of
from api.gpt.shape import NORM_EPS, Activation, GPTConfig

_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
}
# What must be so, where it is given at all: anything else is another model.
_MUST_BE: dict[str, Any] = {
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "layer_norm_epsilon": NORM_EPS,
    "quantization_config": None,
    "pruned_heads": {},
}


def read(directory: Path, *, tokenizer: Path | None = None) -> Imported:
    """Read a directory. `tokenizer` is where its tokens are, if not in it."""
    if not directory.is_dir():
        raise ImportRefusedError(f"{directory}: no such directory")
    settings = read_json(directory / "config.json")
    config = _config(settings, directory / "config.json")
    path, found = _weights(directory)
    if config.tied_head:
        found.pop("lm_head.weight", None)
    end_of_text = settings.get("eos_token_id")
    if end_of_text is not None and (type(end_of_text) is not int or end_of_text < 0):
        raise ImportRefusedError(f"{directory}/config.json: eos_token_id must be one token")
    return Imported(
        config=config,
        state=fit(config.tensor_shapes(), gpt2.sources(config, transposed=True), found, path),
        tokenizer=bpe_of(tokenizer or directory, end_of_text),
        dtype=stored_dtype(found.values()),
    )


def _config(settings: Mapping[str, Any], path: Path) -> GPTConfig:
    for name, value in _MUST_BE.items():
        given = settings.get(name)
        if given is not None and given != value:
            raise ImportRefusedError(f"{path}: {name} {given!r} cannot be served, only {value!r}")
    activation = settings.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ImportRefusedError(
            f"{path}: activation_function {activation!r} cannot be served, only "
            f"{', '.join(_ACTIVATIONS)}"
        )
    tied = settings.get("tie_word_embeddings", True)
    try:
        return GPTConfig(
            vocab_size=settings.get("vocab_size", 50257),
            block_size=settings.get("n_positions", 1024),
            n_layer=settings.get("n_layer", 12),
            n_head=settings.get("n_head", 12),
            n_embd=settings.get("n_embd", 768),
            n_hidden=settings.get("n_inner"),
            bias=True,
            tied_head=tied,
            activation=_ACTIVATIONS[activation],
        )
    except ValueError as exc:
        raise ImportRefusedError(f"{path}: {exc}") from exc


def _weights(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    path, pickled = directory / "model.safetensors", directory / "pytorch_model.bin"
    if path.is_file():
        document: Any = read_safetensors(path)
    elif pickled.is_file():
        path, document = pickled, read_torch_file(pickled)
    elif list(directory.glob("*.index.json")):
        raise ImportRefusedError(
            f"{directory}: its weights are in several files; save them as one with "
            "save_pretrained(..., max_shard_size='100GB')"
        )
    else:
        raise ImportRefusedError(f"{directory}: has no model.safetensors")
    found = state_of(document, path)
    bare = any(name.startswith("wte.") for name in found)  # saved without its head: GPT2Model
    named = {f"transformer.{name}" if bare else name: tensor for name, tensor in found.items()}
    return path, gpt2.without_masks(named)
