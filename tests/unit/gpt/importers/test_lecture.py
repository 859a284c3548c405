"""The lecture's models come over with every logit: heads fused, masks left, characters in order."""

import pytest
import torch

from tests.support.foreign_models import lecture_logits, lecture_state, numbers

CHARS = "\n !abcdefgh"
V = len(CHARS)


@pytest.fixture
def file(tmp_path):
    def write(document):
        torch.save(document, tmp_path / "model.pth")
        return tmp_path / "model.pth"

    return write


@pytest.mark.parametrize(
    "shape",
    [{"T": 8, "L": 1, "H": 1, "C": 16}, {"T": 24, "L": 3, "H": 4, "C": 32, "masks": False}],
    ids=str,
)
def test_logits_are_those_of_the_lecture(shape, file, importing, same):
    """Per-head projections, ReLU, and a biased head: the logits of a plain restatement."""
    state = lecture_state(V=V, **shape)
    loaded = importing("lecture", file(state), "--chars", CHARS)
    same(loaded, lambda tokens: lecture_logits(state, tokens))
    assert loaded.tokenizer.chars == tuple(CHARS)
    assert loaded.start_text == "\n"


@pytest.mark.parametrize("wrapped", ["compiled", "beside an optimizer"])
def test_a_wrapped_state_comes_over(wrapped, file, importing, same):
    """`_orig_mod.` prefixes, and the state dict as an entry of a training state."""
    state = lecture_state(V=V, T=8, L=2, H=2, C=16)
    document = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    if wrapped != "compiled":
        document = {"model_state_dict": state, "epoch": 3, "losses": [1.5, 1.4]}
    loaded = importing("lecture", file(document), "--chars", CHARS)
    same(loaded, lambda tokens: lecture_logits(state, tokens))


def test_attention_scaled_by_the_width_is_honoured(file, importing, same):
    """The lecture's first version divided by the root of n_embd: `--scaled-by-width`."""
    state = lecture_state(V=V, T=16, L=2, H=4, C=32)
    loaded = importing("lecture", file(state), "--chars", CHARS, "--scaled-by-width")
    same(loaded, lambda tokens: lecture_logits(state, tokens, scaled_by_width=True))


def test_variants_of_biases_come_over(file, importing, same):
    """Biases in the projections, or none in the feed-forward and the head: as the file has it."""
    state = lecture_state(V=V, T=8, L=2, H=2, C=16)
    for layer in range(2):
        for linear in ("net.0", "net.2"):
            del state[f"blocks.{layer}.ffwd.{linear}.bias"]
        for head in range(2):
            for name in ("key", "query", "value"):
                state[f"blocks.{layer}.sa.heads.{head}.{name}.bias"] = numbers(8, seed=head)
    del state["lm_head.bias"]
    loaded = importing("lecture", file(state), "--chars", CHARS)
    same(loaded, lambda tokens: lecture_logits(state, tokens))


def test_a_bias_that_some_blocks_lack_is_missing(file, refusal):
    """A bias that one block has and another lacks is no variant but a damaged file."""
    state = lecture_state(V=V, T=8, L=2, H=2, C=16)
    del state["blocks.1.sa.proj.bias"]
    said = refusal("lecture", file(state), "--chars", CHARS)
    assert "  blocks.1.sa.proj.bias: expected (16,), found none" in said.splitlines()


def test_every_tensor_that_does_not_fit_is_named(file, refusal):
    """A head too few in a block and a matrix of another size are each named."""
    state = lecture_state(V=V, T=8, L=2, H=2, C=16)
    del state["blocks.1.sa.heads.1.key.weight"]
    state["blocks.0.ffwd.net.2.weight"] = numbers(16, 63, seed=4)
    said = refusal("lecture", file(state), "--chars", CHARS).splitlines()
    assert said[1:] == [
        "  blocks.0.ffwd.net.2.weight: expected (16, 64), found (16, 63)",
        "  blocks.1.sa.heads.1.key.weight: expected (8, 16), found none",
    ]


def test_the_characters_may_come_from_the_text(file, importing, tmp_path):
    """A file gives its characters by code point, as the lecture sorts them; so does a string
    that repeats some; a string of different ones is the list itself."""
    path = file(lecture_state(V=4, T=8, L=1, H=1, C=8))
    text = tmp_path / "input.txt"
    text.write_text("deadbeed\n".replace("e", "c"), encoding="utf-8")
    assert sorted(set(text.read_text())) == list("\nabcd")
    path = file(lecture_state(V=5, T=8, L=1, H=1, C=8))
    assert importing("lecture", path, "--chars", text).tokenizer.chars == tuple("\nabcd")


def test_a_list_keeps_its_order(file, importing):
    """A list that is not sorted is taken as it stands: token i is its character i."""
    path = file(lecture_state(V=4, T=8, L=1, H=1, C=8))
    loaded = importing("lecture", path, "--chars", "zé a")
    assert loaded.tokenizer.chars == tuple("zé a")
    assert loaded.start_text == " "


def test_padding_of_a_character_model_is_left_out(file, importing, same):
    """Entries up to the next multiple of 64 that no character has can never be sampled."""
    state = lecture_state(V=64, T=8, L=1, H=1, C=8)
    loaded = importing("lecture", file(state), "--chars", CHARS)
    same(loaded, lambda tokens: lecture_logits(state, tokens))
    assert loaded.config.vocab_size == V


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--from lecture needs --chars"),
        (("--chars", "abc"), f"--chars gives 3 characters, the model has {V}: give the very text"),
        (("--chars", "no/such.txt"), "; 'no/such.txt' is no file"),
        (("--chars", ""), "needs a list of single characters"),
        (("--chars", "a" * 5000), "gives 1 characters"),
        (("--chars", CHARS, "--tokenizer", "x"), "has no use for --tokenizer"),
        (
            ("--chars", CHARS, "--start-text", "Ω"),
            "--start-text cannot be read: the model has no token",
        ),
    ],
)
def test_a_vocabulary_that_is_not_the_models_is_refused(arguments, message, file, refusal):
    """Missing, too short, or of another text: the refusal says what was given and needed."""
    path = file(lecture_state(V=V, T=8, L=1, H=2, C=16))
    assert message in refusal("lecture", path, *arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("token_embedding_table.weight", "it has no matrix token_embedding_table.weight"),
        ("blocks.0.ffwd.net.0.weight", "it has no matrix blocks.0.ffwd.net.0.weight"),
    ],
)
def test_what_is_no_lecture_model_is_refused(name, message, file, refusal):
    """Without the tensors that tell its size it is another model, and the refusal says so."""
    state = lecture_state(V=V, T=8, L=1, H=2, C=16)
    del state[name]
    assert message in refusal("lecture", file(state), "--chars", CHARS)
