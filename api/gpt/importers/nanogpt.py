"""nanoGPT's `ckpt.pt` (karpathy/nanoGPT: `model.py`, `train.py`): linears with biases or without,
a head tied to the embedding, a vocabulary in `meta.pkl` or GPT-2's, padded to a multiple of 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from api.gpt.importers import gpt2
from api.gpt.importers.files import ImportRefusedError
from api.gpt.importers.imported import Imported
from api.gpt.importers.tensors import fit, read_torch_file, state_of, stored_dtype
from api.gpt.importers.vocabulary import bpe_of, chars_of_meta
from api.gpt.shape import Activation, GPTConfig
from api.gpt.shown import shown
from api.gpt.tokenizer import Tokenizer

_SIZES = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")


def read(
    path: Path, *, meta: Path | None, tokenizer: Path | None, activation: Activation = "gelu"
) -> Imported:
    """Read a checkpoint, its characters from `meta` or GPT-2's tokens from `tokenizer`."""
    document = read_torch_file(path)
    if not isinstance(document, dict) or not {"model", "model_args"} <= set(document):
        raise ImportRefusedError(f'{path}: has no "model" and "model_args", as nanoGPT saves them')
    found = gpt2.without_masks(state_of(document["model"], path))
    embedding, head = found.get("transformer.wte.weight"), found.get("lm_head.weight")
    tied = head is None or (embedding is not None and torch.equal(head, embedding))
    if tied:  # it is stored twice
        found.pop("lm_head.weight", None)
    config = _config(document["model_args"], found, path, tied_head=tied, activation=activation)
    return Imported(
        config=config,
        state=fit(config.tensor_shapes(), gpt2.sources(config, transposed=False), found, path),
        tokenizer=_tokenizer(meta, tokenizer, document, path),
        dtype=stored_dtype(found.values()),
    )


def _config(model_args: Any, found: Mapping[str, Tensor], path: Path, **more: Any) -> GPTConfig:
    if not isinstance(model_args, dict):
        raise ImportRefusedError(f"{path}: model_args is not a dictionary")
    missing = [name for name in _SIZES if name not in model_args]
    if missing:
        raise ImportRefusedError(f"{path}: model_args lacks {', '.join(missing)}")
    # The first versions had biases and no setting for them.
    bias = model_args.get("bias", "transformer.ln_f.bias" in found)
    try:
        return GPTConfig(**{name: model_args[name] for name in _SIZES}, bias=bias, **more)
    except ValueError as exc:
        raise ImportRefusedError(f"{path}: model_args: {exc}") from exc


def _tokenizer(
    meta: Path | None, tokenizer: Path | None, document: Mapping[str, Any], path: Path
) -> Tokenizer:
    if meta is not None and tokenizer is not None:
        raise ImportRefusedError("give meta.pkl or --tokenizer, not both")
    if meta is not None:
        return chars_of_meta(meta)
    if tokenizer is not None:
        return bpe_of(tokenizer)
    config = document.get("config")
    data_set = config.get("dataset") if isinstance(config, dict) else None
    where = f"data/{shown(data_set)}/meta.pkl" if isinstance(data_set, str) else "data/.../meta.pkl"
    raise ImportRefusedError(
        f"{path}: its vocabulary is in another file. A character model: give nanoGPT's {where} "
        "after it. A model of GPT-2's tokens: give --tokenizer with GPT-2's tokenizer.json, or its "
        "vocab.json with merges.txt beside it"
    )
