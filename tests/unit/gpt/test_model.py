"""The model's configuration: every checkpoint it can describe runs, every other is refused."""

import pytest
import torch

from api.gpt.model import GPT
from api.gpt.plain import PlainDecoder
from api.gpt.shape import GPTConfig

SMALL = {"vocab_size": 31, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32}
KINDS = {
    "nanogpt": {},
    "nanogpt with biases": {"bias": True},
    "lecture": {
        "bias": True,
        "qkv_bias": False,
        "activation": "relu",
        "tied_head": False,
        "head_bias": True,
    },
    "gpt-2": {"bias": True, "activation": "gelu_tanh"},
    "narrow, untied": {"n_hidden": 24, "tied_head": False, "qkv_bias": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_tensors_called_for_are_those_of_the_model(kind):
    """What a checkpoint must hold is the state of the module, name by name, of every kind."""
    config = GPTConfig(**SMALL, **KINDS[kind])
    state = {name: tuple(value.shape) for name, value in GPT(config).state_dict().items()}
    assert config.tensor_shapes() == state


@pytest.mark.parametrize("kind", KINDS)
def test_serving_says_what_the_model_says(kind):
    """Whatever the configuration, the serving form's logits are those of a plain forward."""
    torch.manual_seed(1)
    model = GPT(GPTConfig(**SMALL, **KINDS[kind])).eval().requires_grad_(False)
    for parameter in model.parameters():  # biases and norms too, so that a lost one shows
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(31, (16,)).tolist()
    expected = model(torch.tensor([tokens]))[0]
    decoder = PlainDecoder(model, slots=2, threads=1)
    logits = [decoder.read(tokens[:9], 0)]
    decoder.cache.join(9)
    logits += [decoder.step([tokens[i]], [i]) for i in range(9, 16)]
    torch.testing.assert_close(torch.cat(logits), expected[8:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layer": 0}, "n_layer must be an integer from 1"),
        ({"n_layer": 10**9}, "n_layer must be an integer from 1 to 1024"),
        ({"vocab_size": True}, "vocab_size must be an integer"),
        ({"n_hidden": 2.5}, "n_hidden must be an integer"),
        ({"n_head": 3}, "n_embd 32 is not a multiple of n_head 3"),
        ({"activation": "silu"}, "activation must be gelu or gelu_tanh or relu"),
        ({"bias": 1}, "bias must be true or false"),
        ({"qkv_bias": "yes"}, "qkv_bias must be true or false"),
        ({"head_bias": True}, "head_bias needs tied_head to be false"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change, message):
    """Each wrong value is refused by the name of its field, before any tensor is made."""
    with pytest.raises(ValueError, match=message):
        GPTConfig(**{**SMALL, **change})
