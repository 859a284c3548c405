"""Serving arithmetic: a row's product is the same bits whatever the rows beside it."""

import pytest
import torch

from api.gpt import linears
from api.gpt.model import GPT
from api.gpt.shape import GPTConfig

SHAPES = [(96, 32), (384, 384), (1536, 384), (384, 1536), (65, 384), (7, 20)]  # (N, K)


@pytest.fixture(params=[1, 2])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_does_not_depend_on_its_neighbours(shape):
    """At every number of rows up to 40, each row is bit for bit what it is among others."""
    module = linears.Float32Linear(random(*shape), random(shape[0]))
    x = random(40, shape[1])
    together = module(x)
    for count in range(1, 40):
        assert torch.equal(module(x[40 - count :]), together[40 - count :]), count
        assert torch.equal(module(x[:count].view(count, 1, -1))[:, 0], together[:count]), count


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_close_to_the_plain_ones(shape):
    """The result differs from the plain product by rounding alone."""
    weight, bias, x = random(*shape), random(shape[0]), random(9, shape[1])
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    y = linears.Float32Linear(weight, bias)(x)
    assert (y - exact).abs().max() < 1e-5 * exact.std()


def test_a_converted_model_shares_what_it_does_not_convert():
    """Conversion leaves the original as it is, and copies neither embeddings nor norms."""
    model = GPT(GPTConfig(vocab_size=5, block_size=8, n_layer=1, n_head=1, n_embd=16))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    twin = linears.converted(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert twin.token_embedding.weight.data_ptr() == model.token_embedding.weight.data_ptr()
    assert not any(isinstance(m, torch.nn.Linear) for m in twin.modules())
