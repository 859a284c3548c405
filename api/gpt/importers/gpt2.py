"""GPT-2's names for its tensors, which nanoGPT and Hugging Face share; and its causal masks."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from api.gpt.importers.tensors import Source
from api.gpt.shape import GPTConfig

_MASK = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
_LINEARS = {
    "attn.qkv": "attn.c_attn",
    "attn.proj": "attn.c_proj",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
_OTHERS = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "ln_f": "transformer.ln_f",
    "lm_head": "lm_head",
}


def sources(config: GPTConfig, *, transposed: bool) -> dict[str, Source]:
    """Return where each of our tensors comes from; `transposed`: linears are stored as Conv1D."""
    found = {}
    for ours in config.tensor_shapes():
        module, _, kind = ours.rpartition(".")
        if module in _OTHERS:
            found[ours] = Source((f"{_OTHERS[module]}.{kind}",))
            continue
        _, layer, part = module.split(".", 2)
        theirs = f"transformer.h.{layer}.{_LINEARS.get(part, part)}.{kind}"
        turned = transposed and part in _LINEARS and kind == "weight"
        found[ours] = Source((theirs,), transposed=turned)
    return found


def without_masks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the causal masks that older versions keep beside the weights."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not (_MASK.fullmatch(name) and tensor.ndim in (0, 4))
    }
