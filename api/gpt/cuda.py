"""The model in bfloat16 on a GPU: one step, recorded once for each size of batch and then repeated.

A step is about items: one token of one slot each. Tokens that are read are items like those that
were drawn, so a row that is read again goes on with the same bits. What could still show is how
many items there are and an item's place among them: libraries choose their kernels by shape. So the
start compares, on this GPU and with this model: sizes whose items differ from those of the largest
are not used, and where an item's place shows the start fails (ValueError): a seed would not be a
text there.

Everything but the recording runs on any device: `Step` takes what records as an argument.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from api.gpt.decoder import PORTION, Portion
from api.gpt.model import GPT
from api.gpt.sampling import Draw, prepare, sample

Work = Callable[[], None]
Item = tuple[int, int, int]  # slot, token, position in the window

# Each head of each row is computed by itself; what cannot have that is put together from products.
ATTENTION = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
WARM_UP = 3  # runs before a recording: libraries set themselves up in the first

log = logging.getLogger(__name__)


class Recorder:
    """Makes CUDA graphs that share their memory: no two of them run at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Return what repeats `work` on the tensors that it used, whatever is in them by then."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        return graph.replay


def buckets(most: int) -> list[int]:
    """Return the sizes that are recorded: the powers of two below `most`, and `most`."""
    return [*(1 << n for n in range(most.bit_length()) if 1 << n < most), most]


class Step:
    """One token for each of some items: tensors that stay in place, and what computes on them.

    Where there are fewer items than the size that runs, the rest is computed for a slot of nobody.
    """

    def __init__(
        self,
        model: GPT,
        *,
        slots: int,
        device: torch.device,
        dtype: torch.dtype,
        record: Callable[[Work], Work],
    ) -> None:
        """Raise ValueError where the place of an item among the others shows in it."""
        config = model.config
        self.most = max(slots, PORTION)  # items at a time
        self._config, self._nobody = config, (slots, 0, 0)
        self._model = _moved(model, device, dtype)
        positions = -(-config.block_size // 16) * 16  # as attention kernels like it
        shape = (config.n_layer, slots + 1, config.n_head, positions, config.head_size)
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in "kv")
        self._items = torch.zeros(3, self.most, dtype=torch.int64, device=device)
        self._logits = torch.zeros(self.most, config.vocab_size, device=device)
        with torch.inference_mode(), sdpa_kernel(ATTENTION, set_priority=True):
            self._recorded = {
                size: record(partial(self._pass, size)) for size in reversed(buckets(self.most))
            }
        self.sizes = self._sizes_that_agree()
        if left_out := sorted(self._recorded.keys() - self.sizes):
            log.info("mode cuda: batches of %s are filled up, to keep a seed's text", left_out)

    @torch.inference_mode()
    def __call__(self, items: Sequence[Item]) -> Tensor:
        """Take in these items, at most `most`; return the logits after each (items, V) float32.

        Of items of one slot each sees those that stand before it in the text.
        """
        return self._run(next(size for size in self.sizes if size >= len(items)), items)

    def forget(self, slot: int) -> None:
        """Leave nothing of what was in a slot: what is not seen is still multiplied by zero."""
        self.keys[:, slot] = 0
        self.values[:, slot] = 0

    def _run(self, size: int, items: Sequence[Item]) -> Tensor:
        filled = [*items, *[self._nobody] * (size - len(items))]
        self._items[:, :size] = torch.tensor(filled).T
        self._recorded[size]()
        return self._logits[: len(items)].to("cpu", copy=True)  # waits for it

    def _pass(self, size: int) -> None:
        """The work that is recorded."""
        slots, tokens, positions = self._items[:, :size]
        attention = _Attention(self.keys, self.values, slots, positions)
        x = self._model.features(tokens[:, None], positions[:, None], attention)
        self._logits[:size] = self._model.head(x[:, -1])

    @torch.inference_mode()
    def _sizes_that_agree(self) -> list[int]:
        """Return the sizes whose items are those of the largest, bit for bit; it is the last."""
        context, slots = self._config.block_size, self._nobody[0]
        places = [(i % slots, (context - 1 - 5 * i) % context) for i in range(self.most)]
        items = [(s, (7 * s + 3 * p) % self._config.vocab_size, p) for s, p in places]
        whole = self._probe(self.most, items, items)
        for shift in (1, self.most // 2):
            moved = self._probe(self.most, items, items[shift:] + items[:shift])
            if not torch.equal(moved, whole.roll(-shift, 0)):
                raise ValueError(
                    "GENERATION_MODE cuda: on this GPU an item's place in the batch changes its "
                    "numbers, so a seed would not give one text: use auto"
                )
        agree = [
            size
            for size in self._recorded
            if torch.equal(self._probe(size, items, items[:size]), whole[:size])
        ]
        self.keys.zero_()
        self.values.zero_()
        return sorted(agree)

    def _probe(self, size: int, all_items: Sequence[Item], items: Sequence[Item]) -> Tensor:
        """Fill the slots, take in all the items, and then some of them again."""
        generator = torch.Generator().manual_seed(0)
        for tensor in (self.keys, self.values):
            noise = torch.randn(tensor[:, 0].shape, generator=generator).to(tensor)
            for slot in range(tensor.shape[1]):
                tensor[:, slot] = noise * (1 + slot / 7)
        self._run(self.most, all_items)
        return self._run(size, items)


class _Attention:
    """Attention of each item over the positions of its slot up to its own."""

    def __init__(self, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor) -> None:
        self._keys, self._values, self._slots, self._positions = keys, values, slots, positions
        places = torch.arange(keys.shape[3], device=positions.device)
        hidden = (places > positions[:, None])[:, None, None, :]  # (items, 1, 1, S)
        self._mask = torch.zeros(hidden.shape, dtype=keys.dtype, device=keys.device)
        self._mask.masked_fill_(hidden, -torch.inf)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self._keys[layer], self._values[layer]
        keys[self._slots, :, self._positions] = k[:, :, 0]
        values[self._slots, :, self._positions] = v[:, :, 0]
        return F.scaled_dot_product_attention(
            q,
            keys.index_select(0, self._slots),
            values.index_select(0, self._slots),
            attn_mask=self._mask,
        )


class CudaDecoder:
    """Draws one token for each slot, however many are wanted, and reads as many as fit beside."""

    reads_one_at_a_time = False

    def __init__(self, step: Step) -> None:
        self.step = step
        prepare()
        self._next: dict[int, tuple[int, int, Draw]] = {}  # token, position, draw of each slot

    def run(
        self, portions: Sequence[Portion], running: Mapping[int, int], _steps: int
    ) -> dict[int, list[int]]:
        items = [(slot, *self._next[slot][:2]) for slot in running]
        draws = {number: self._next[slot][2] for number, slot in enumerate(running)}
        for portion in portions:
            if portion.start == 0:
                self.step.forget(portion.slot)
            places = enumerate(portion.tokens, portion.start)
            items += [(portion.slot, token, position) for position, token in places]
            if portion.draw is not None:
                draws[len(items) - 1] = portion.draw
        logits = [
            self.step(items[i : i + self.step.most]) for i in range(0, len(items), self.step.most)
        ]
        if not draws:
            return {}
        tokens = sample(torch.cat(logits)[list(draws)].numpy(), list(draws.values()))
        drawn = {}
        for (number, draw), token in zip(draws.items(), tokens, strict=True):
            slot, _, position = items[number]
            self._next[slot] = token, position + 1, replace(draw, position=draw.position + 1)
            drawn[slot] = [token]
        return drawn

    def release(self, slot: int) -> None:
        self._next.pop(slot, None)

    def reset(self) -> None:
        self._next.clear()

    def interrupt(self) -> None:
        """Nothing to do: every run is one step, and what is read before it."""

    def close(self) -> None:
        """Nothing was started."""


def on_gpu(model: GPT, *, slots: int) -> CudaDecoder:
    """Return the decoder of mode `cuda`. Raise ValueError where it cannot run."""
    if not torch.cuda.is_available():
        raise ValueError("GENERATION_MODE cuda needs an NVIDIA GPU that torch sees: use auto")
    # Partial sums are not to be rounded to bfloat16 before they are added up.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    device = torch.device("cuda")
    try:
        return CudaDecoder(
            Step(model, slots=slots, device=device, dtype=torch.bfloat16, record=Recorder())
        )
    except (RuntimeError, AssertionError) as exc:  # what torch raises for driver, memory, capture
        why = (str(exc) or type(exc).__name__).splitlines()[0]
        raise ValueError(
            f"GENERATION_MODE cuda: the GPU cannot record the model's step ({why}): free memory on "
            "it or lower GENERATION_SLOTS, check that its driver suits this torch, or use auto"
        ) from exc


def _moved(model: GPT, device: torch.device, dtype: torch.dtype) -> GPT:
    with torch.device("meta"):
        twin = GPT(model.config)
    state = {name: value.to(device, dtype) for name, value in model.state_dict().items()}
    twin.load_state_dict(state, assign=True)
    return twin.eval().requires_grad_(False)
