"""The model of the lecture "Let's build GPT" (karpathy/ng-video-lecture: `gpt.py`): a bare state
dict, projections apart for each head, ReLU, a head with weights and a bias of its own.

The character list is not in the file: it is given, or taken from the text trained on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from api.gpt.importers.files import ImportRefusedError
from api.gpt.importers.imported import Imported, belong_together
from api.gpt.importers.tensors import (
    Source,
    fit,
    layers,
    read_torch_file,
    state_of,
    stored_dtype,
)
from api.gpt.importers.vocabulary import chars_of, is_file
from api.gpt.shape import Activation, GPTConfig

_MASK = re.compile(r"blocks\.\d+\.sa\.heads\.\d+\.tril")
_LAYER = re.compile(r"(?<=blocks\.)\d+")
_NAMES = {
    "token_embedding": "token_embedding_table",
    "position_embedding": "position_embedding_table",
    "ln_f": "ln_f",
    "lm_head": "lm_head",
}
_PARTS = {
    "ln_1": "ln1",
    "attn.proj": "sa.proj",
    "ln_2": "ln2",
    "mlp.up": "ffwd.net.0",
    "mlp.down": "ffwd.net.2",
}
_WRAPPED = ("model_state_dict", "state_dict", "model")  # as many save it beside their optimizer


def read(
    path: Path, *, chars: str, activation: Activation = "relu", scaled_by_width: bool = False
) -> Imported:
    """Read a state dict. `scaled_by_width`: attention is divided by the root of n_embd.

    That is what the lecture's first version wrote (`C**-0.5`); the later one, and every other GPT,
    takes the head size. It is undone in the queries' weights.
    """
    document = read_torch_file(path)
    if isinstance(document, dict):
        document = next((document[key] for key in _WRAPPED if key in document), document)
    found = {
        name: tensor
        for name, tensor in state_of(document, path).items()
        if not _MASK.fullmatch(name)
    }
    config = _config(found, path, activation)
    if config.tied_head:  # the same numbers are stored twice
        found.pop("lm_head.weight", None)
    sources, shapes = _sources(config), config.tensor_shapes()
    _fill_absent_biases(found, sources, shapes)
    state = fit(shapes, sources, found, path)
    if scaled_by_width:
        for name, tensor in state.items():
            if ".attn.qkv." in name:
                tensor[: config.n_embd] *= config.n_head**-0.5
    tokenizer = chars_of(chars)
    if not belong_together(tokenizer, config.vocab_size):
        raise ImportRefusedError(
            f"--chars gives {tokenizer.vocab_size} characters, the model has {config.vocab_size}: "
            "give the very text that it was trained on"
            + ("" if is_file(chars) else f"; {chars[:40]!r} is no file")
        )
    return Imported(
        config=config, state=state, tokenizer=tokenizer, dtype=stored_dtype(found.values())
    )


def _config(found: Mapping[str, Tensor], path: Path, activation: Activation) -> GPTConfig:
    def shape(name: str, axis: int) -> int:
        tensor = found.get(name)
        if tensor is None or tensor.ndim != 2:
            raise ImportRefusedError(f"{path}: not the lecture's model: it has no matrix {name}")
        return tensor.shape[axis]

    head, embedding = found.get("lm_head.weight"), found.get("token_embedding_table.weight")
    own_bias = "lm_head.bias" in found
    tied = not own_bias and (
        head is None or (embedding is not None and torch.equal(head, embedding))
    )
    try:
        return GPTConfig(
            vocab_size=shape("token_embedding_table.weight", 0),
            block_size=shape("position_embedding_table.weight", 0),
            n_layer=layers(found, "blocks"),
            n_head=layers(found, "blocks.0.sa.heads"),
            n_embd=shape("token_embedding_table.weight", 1),
            n_hidden=shape("blocks.0.ffwd.net.0.weight", 0),
            bias=True,
            qkv_bias="blocks.0.sa.heads.0.query.bias" in found,
            tied_head=tied,
            head_bias=own_bias,
            activation=activation,
        )
    except ValueError as exc:
        raise ImportRefusedError(f"{path}: {exc}") from exc


def _sources(config: GPTConfig) -> dict[str, Source]:
    found = {}
    for ours in config.tensor_shapes():
        module, _, kind = ours.rpartition(".")
        if module in _NAMES:
            found[ours] = Source((f"{_NAMES[module]}.{kind}",))
            continue
        _, layer, part = module.split(".", 2)
        if part == "attn.qkv":
            found[ours] = Source(
                tuple(
                    f"blocks.{layer}.sa.heads.{head}.{projection}.{kind}"
                    for projection in ("query", "key", "value")
                    for head in range(config.n_head)
                )
            )
        else:
            found[ours] = Source((f"blocks.{layer}.{_PARTS[part]}.{kind}",))
    return found


def _fill_absent_biases(
    found: dict[str, Tensor],
    sources: Mapping[str, Source],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """A bias that no block has was switched off: it is zero. One that some have is missing."""
    kinds = {_LAYER.sub("", name) for name in found}
    for ours, source in sources.items():
        for name in source.names:
            if name.endswith(".bias") and _LAYER.sub("", name) not in kinds:
                found[name] = torch.zeros(source.shape(shapes[ours]))
