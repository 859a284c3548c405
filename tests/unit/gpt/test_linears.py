"""Serving arithmetic: a row's product is the same bits whatever the rows beside it."""

import pytest
import torch

from api.gpt import linears
from api.gpt.model import GPT
from api.gpt.request import GenerationMode
from api.gpt.shape import GPTConfig

MODES = [GenerationMode.INT8, GenerationMode.FP32]
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
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_does_not_depend_on_its_neighbours(mode, shape):
    """At every number of rows up to 40, each row is bit for bit what it is among others."""
    module = linears.linear(mode, random(*shape), random(shape[0]))
    x = random(40, shape[1])
    together = module(x)
    for count in range(1, 40):
        assert torch.equal(module(x[40 - count :]), together[40 - count :]), count
        assert torch.equal(module(x[:count].view(count, 1, -1))[:, 0], together[:count]), count


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_close_to_the_plain_ones(shape):
    """fp32 differs from the plain product by rounding alone, int8 by about a percent."""
    weight, bias, x = random(*shape), random(shape[0]), random(9, shape[1])
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    size = exact.std()
    for mode, tolerance in ((GenerationMode.FP32, 1e-5), (GenerationMode.INT8, 0.05)):
        y = linears.linear(mode, weight, bias)(x)
        assert (y - exact).abs().max() < tolerance * size, mode


def test_int8_of_zeros_is_zero_and_of_nan_is_nan():
    """A row of zeros has no scale and stays zero; what is not a number does not become one."""
    module = linears.linear(GenerationMode.INT8, random(8, 32))
    x = torch.zeros(3, 32)
    x[2, 5] = torch.nan
    y = module(x)
    assert torch.equal(y[:2], torch.zeros(2, 8))
    assert y[2].isnan().all()


def test_a_converted_model_shares_what_it_does_not_convert():
    """Conversion leaves the original as it is, and copies neither embeddings nor norms."""
    model = GPT(GPTConfig(vocab_size=5, block_size=8, n_layer=1, n_head=1, n_embd=16))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    twin = linears.converted(model, GenerationMode.INT8)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert twin.token_embedding.weight.data_ptr() == model.token_embedding.weight.data_ptr()
    assert not any(isinstance(m, torch.nn.Linear) for m in twin.modules())


def test_auto_takes_int8_only_where_it_is_exact(monkeypatch):
    """A processor whose int8 products saturate gets fp32 by default and a refusal when asked."""
    assert linears.choose(GenerationMode.FP32) is GenerationMode.FP32
    monkeypatch.setattr(linears, "int8_is_exact", lambda: True)
    assert linears.choose(GenerationMode.AUTO) is GenerationMode.INT8
    monkeypatch.setattr(linears, "int8_is_exact", lambda: False)
    assert linears.choose(GenerationMode.AUTO) is GenerationMode.FP32
    with pytest.raises(ValueError, match="not exact"):
        linears.choose(GenerationMode.INT8)


def test_saturating_products_are_noticed(monkeypatch):
    """The probe tells a kernel that sums pairs of products in 16 bits from an exact one."""
    exact = linears._int8_product
    assert linears.int8_is_exact() == torch.equal(
        exact(torch.full((1, 2), 127, dtype=torch.int8), torch.full((2, 1), 127, dtype=torch.int8)),
        torch.tensor([[2 * 127 * 127]], dtype=torch.int32),
    )

    def saturating(x, weight):
        pairs = x.int()[:, 0::2, None] * weight.int()[None, 0::2]
        pairs += x.int()[:, 1::2, None] * weight.int()[None, 1::2]
        return pairs.clamp(-32768, 32767 - 1000).sum(1)

    monkeypatch.setattr(linears, "_int8_product", saturating)
    assert not linears.int8_is_exact()
