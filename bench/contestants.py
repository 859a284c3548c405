"""The engines that are compared, each in a process of its own that waits for orders on stdin.

`python -m bench.contestants NAME MODEL SCRATCH` answers each line {"rows", "chars", "threads"} with
{"seconds", "way"}: the time in which that many sequences of that many characters were generated
from the same weights, each continuing a new line, sampled at temperature 0.8; and which of the
engine's own settings won the trial runs at that size. Seeds differ between calls; nothing is kept
between them.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEMPERATURE = 0.8
START = 0  # the token of a new line, from which every text begins
CONTEXT = 256
MOST_ROWS = 32
TRIAL = 48  # characters of a trial run

Generate = Callable[[int, int, int], None]  # rows, characters, threads


class Best:
    """Several ways of one engine to do the same; at each size the one that wins a trial."""

    def __init__(self, ways: dict[str, Generate]) -> None:
        self._ways = ways
        self._chosen: dict[tuple[int, int], str] = {}

    def way(self, rows: int, threads: int) -> str:
        """Return the name of the fastest way, found on the first call: the better of two runs."""
        if (rows, threads) not in self._chosen:
            took = dict.fromkeys(self._ways, float("inf"))
            for name in [*self._ways] * 2:
                begin = time.perf_counter()
                self._ways[name](rows, TRIAL, threads)
                took[name] = min(took[name], time.perf_counter() - begin)
            self._chosen[rows, threads] = min(took, key=lambda name: took[name])
        return self._chosen[rows, threads]

    def __call__(self, rows: int, chars: int, threads: int) -> None:
        self._ways[self.way(rows, threads)](rows, chars, threads)


def quillgate(model: Path, _scratch: Path) -> Generate:
    from api.gpt import checkpoint
    from api.gpt.engine import Engine
    from api.gpt.request import GenerationRequest

    loaded = checkpoint.load(model)
    engines = {
        threads: Engine(
            loaded, slots=MOST_ROWS, queue_limit=100, tenant_queue_limit=100, threads=threads
        )
        for threads in (1, 2)
    }
    for engine in engines.values():
        engine.start()
    numbers = itertools.count()

    def generate(rows: int, chars: int, threads: int) -> None:
        started = [
            engines[threads].submit(
                GenerationRequest(f"{n}", "bench", "\n", seed=n, num_chars=chars)
            )
            for n in itertools.islice(numbers, rows)
        ]
        for generation in started:
            assert generation.result(600).generated_chars == chars

    return generate


def nanogpt(model: Path, _scratch: Path) -> Generate:
    """nanoGPT's `generate`: every token from a forward over the whole context."""
    import torch

    from api.gpt import checkpoint

    gpt = checkpoint.load(model).model

    @torch.no_grad()
    def generate(rows: int, chars: int, threads: int) -> None:
        torch.set_num_threads(threads)
        tokens = torch.full((rows, 1), START)
        for _ in range(chars):
            logits = gpt.head(gpt.features(tokens[:, -CONTEXT:])[:, -1]) / TEMPERATURE
            tokens = torch.cat([tokens, torch.multinomial(logits.softmax(1), 1)], 1)

    return generate


def as_gpt2(model: Path) -> Any:
    """The weights as a GPT-2 of transformers; what the model has no biases for gets zeros."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from api.gpt import checkpoint

    loaded = checkpoint.load(model)
    c, weights = loaded.config, loaded.weights
    config = GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.block_size, n_embd=c.n_embd, n_layer=c.n_layer,
        n_head=c.n_head, activation_function="gelu", bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    gpt2 = GPT2LMHeadModel(config).eval()
    names = {"attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj", "mlp.up": "mlp.c_fc",
             "mlp.down": "mlp.c_proj", "ln_1": "ln_1", "ln_2": "ln_2"}  # fmt: skip
    state = {k: torch.zeros_like(v) if k.endswith("bias") else v
             for k, v in gpt2.state_dict().items()}  # fmt: skip
    for name in weights:
        value = torch.from_numpy(weights[name])
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            ours, kind = rest.rsplit(".", 1)
            linear = ours.startswith(("attn", "mlp")) and kind == "weight"
            state[f"transformer.h.{layer}.{names[ours]}.{kind}"] = value.t() if linear else value
        elif name == "token_embedding.weight":
            state["transformer.wte.weight"] = state["lm_head.weight"] = value
        elif name == "position_embedding.weight":
            state["transformer.wpe.weight"] = value
        else:
            state[f"transformer.{name}"] = value
    gpt2.load_state_dict(state)
    return gpt2


def transformers(model: Path, _scratch: Path) -> Generate:
    import torch

    gpt2 = as_gpt2(model)

    def generate(rows: int, chars: int, threads: int) -> None:
        torch.set_num_threads(threads)
        prompt = torch.full((rows, 1), START)
        text = gpt2.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=True, pad_token_id=0,
            temperature=TEMPERATURE, top_k=0, max_new_tokens=chars, min_new_tokens=chars,
        )  # fmt: skip
        assert text.shape == (rows, chars + 1)

    return generate


def ctranslate2(kind: str) -> Callable[[Path, Path], Generate]:
    def prepare(model: Path, scratch: Path) -> Generate:
        import ctranslate2 as ct2
        from transformers import PreTrainedTokenizerFast

        source, target = scratch / "gpt2", scratch / f"ct2-{kind}"
        if not target.exists():
            gpt2 = as_gpt2(model)
            gpt2.save_pretrained(source)
            from tokenizers import Tokenizer, models

            vocabulary = {f"t{i}": i for i in range(gpt2.config.vocab_size)}
            plain = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
            PreTrainedTokenizerFast(
                tokenizer_object=plain, unk_token="t0", bos_token="t0", eos_token="t0"
            ).save_pretrained(source)
            ct2.converters.TransformersConverter(str(source)).convert(
                str(target), quantization=kind
            )
        engines = {
            workers: ct2.Generator(str(target), inter_threads=workers[0], intra_threads=workers[1])
            for workers in ((1, 1), (1, 2), (2, 1))
        }

        def way(workers: int) -> Generate:
            def generate(rows: int, chars: int, threads: int) -> None:
                here = min(workers, threads)
                results = engines[here, threads // here].generate_batch(
                    [["t0"]] * rows, max_batch_size=-(-rows // here), max_length=chars,
                    min_length=chars, sampling_topk=0, sampling_temperature=TEMPERATURE,
                    include_prompt_in_result=False, end_token=[],
                )  # fmt: skip
                assert all(len(r.sequences_ids[0]) == chars for r in results)

            return generate

        return Best({"all threads to each batch": way(1), "a batch to each thread": way(2)})

    return prepare


def write_gguf(model: Path, path: Path, kind: str) -> None:
    """The weights in llama.cpp's format, as its GPT-2; what the model has no biases for is zero."""
    import gguf
    import numpy as np

    from api.gpt import checkpoint

    loaded = checkpoint.load(model)
    c, weights = loaded.config, loaded.weights
    quantised = {
        "f32": gguf.GGMLQuantizationType.F32,
        "bf16": gguf.GGMLQuantizationType.BF16,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }[kind]
    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(c.block_size)
    writer.add_embedding_length(c.n_embd)
    writer.add_block_count(c.n_layer)
    writer.add_feed_forward_length(c.hidden_size)
    writer.add_head_count(c.n_head)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(c.vocab_size)

    def add(name: str, value: Any) -> None:
        matrix = value.ndim == 2 and name != "position_embd.weight"
        dtype = quantised if matrix else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(value), dtype), raw_dtype=dtype)

    add("token_embd.weight", weights["token_embedding.weight"])
    add("position_embd.weight", weights["position_embedding.weight"])
    parts = {"attn_norm": "ln_1", "attn_qkv": "attn.qkv", "attn_output": "attn.proj",
             "ffn_norm": "ln_2", "ffn_up": "mlp.up", "ffn_down": "mlp.down"}  # fmt: skip
    for layer in range(c.n_layer):
        for theirs, ours in parts.items():
            value = weights[f"blocks.{layer}.{ours}.weight"]
            add(f"blk.{layer}.{theirs}.weight", value)
            add(f"blk.{layer}.{theirs}.bias", np.zeros(len(value), np.float32))
    add("output_norm.weight", weights["ln_f.weight"])
    add("output_norm.bias", np.zeros(c.n_embd, np.float32))
    add("output.weight", weights["token_embedding.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp(kind: str) -> Callable[[Path, Path], Generate]:
    """llama.cpp through its batch interface: one `llama_decode` for all sequences each step."""

    def prepare(model: Path, scratch: Path) -> Generate:
        import llama_cpp as lc

        path = scratch / f"{kind}.gguf"
        if not path.exists():
            write_gguf(model, path, kind)
        silent = lc.llama_log_callback(lambda *_: None)
        lc.llama_log_set(silent, ctypes.c_void_p())
        lc.llama_backend_init()
        loaded = lc.llama_model_load_from_file(str(path).encode(), lc.llama_model_default_params())
        settings = lc.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = CONTEXT * MOST_ROWS, MOST_ROWS
        settings.n_batch = settings.n_ubatch = 512
        contexts = {}
        for name, flash, unified in (
            ("flash attention", lc.LLAMA_FLASH_ATTN_TYPE_ENABLED, False),
            ("flash attention, one cache", lc.LLAMA_FLASH_ATTN_TYPE_ENABLED, True),
            ("plain attention", lc.LLAMA_FLASH_ATTN_TYPE_DISABLED, False),
            ("plain attention, one cache", lc.LLAMA_FLASH_ATTN_TYPE_DISABLED, True),
        ):
            settings.flash_attn_type, settings.kv_unified = flash, unified
            contexts[name] = lc.llama_init_from_model(loaded, settings)
        batch = lc.llama_batch_init(MOST_ROWS, 0, 1)
        seeds = itertools.count()
        chain = lc.llama_sampler_chain_default_params()

        def sampler(seed: int) -> Any:
            made = lc.llama_sampler_chain_init(chain)
            lc.llama_sampler_chain_add(made, lc.llama_sampler_init_temp(TEMPERATURE))
            lc.llama_sampler_chain_add(made, lc.llama_sampler_init_dist(seed))
            return made

        def generate(context: Any, rows: int, chars: int, threads: int) -> None:
            lc.llama_set_n_threads(context, threads, threads)
            lc.llama_memory_clear(lc.llama_get_memory(context), False)
            samplers = [sampler(seed) for seed in itertools.islice(seeds, rows)]
            tokens = [START] * rows
            batch.n_tokens = rows
            for row in range(rows):
                batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, row, 1
            for position in range(chars):
                for row in range(rows):
                    batch.token[row], batch.pos[row] = tokens[row], position
                assert lc.llama_decode(context, batch) == 0
                tokens = [
                    lc.llama_sampler_sample(samplers[row], context, row) for row in range(rows)
                ]
            for made in samplers:
                lc.llama_sampler_free(made)

        best = Best({name: functools.partial(generate, one) for name, one in contexts.items()})
        best.keep = silent  # type: ignore[attr-defined] # it must outlive the library's use
        return best

    return prepare


CONTESTANTS: dict[str, Callable[[Path, Path], Generate]] = {
    "quillgate int8": quillgate,
    "llama.cpp f32": llama_cpp("f32"),
    "llama.cpp bf16": llama_cpp("bf16"),
    "llama.cpp q8_0": llama_cpp("q8_0"),
    "CTranslate2 float32": ctranslate2("float32"),
    "CTranslate2 int8": ctranslate2("int8"),
    "transformers generate": transformers,
    "nanoGPT full recompute": nanogpt,
}


def main() -> None:
    name, model, scratch = sys.argv[1:]
    generate = CONTESTANTS[name](Path(model), Path(scratch))
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print too
    generate(1, 2, 1)
    print(json.dumps({"ready": name}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        way = generate.way(order["rows"], order["threads"]) if isinstance(generate, Best) else ""
        begin = time.perf_counter()
        generate(order["rows"], order["chars"], order["threads"])
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "way": way}), file=answers, flush=True)


if __name__ == "__main__":
    main()
