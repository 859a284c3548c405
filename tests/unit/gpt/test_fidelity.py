"""What int8 costs a model is measured at the start, and too much of it is not served unasked."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from api.gpt import checkpoint
from api.gpt.compiled import CompiledDecoder
from api.gpt.decoder import build
from api.gpt.engine import Engine
from api.gpt.fidelity import MOST_LOST, logits_of, lost_in_int8
from api.gpt.request import GenerationMode
from tests.unit.gpt.test_compiled import CONFIGS, made, texts


def with_outliers(loaded, factor):
    """The same function with two channels of every norm `factor` times as large: what follows a
    norm is divided by as much."""
    weights = {name: np.array(loaded.weights[name]) for name in loaded.weights}
    for layer in range(loaded.config.n_layer):
        for norm, linear in (("ln_1", "attn.qkv"), ("ln_2", "mlp.up")):
            weights[f"blocks.{layer}.{norm}.weight"][3:5] *= factor
            weights[f"blocks.{layer}.{linear}.weight"][:, 3:5] /= factor
    return replace(loaded, weights=weights)


@pytest.fixture(scope="module")
def model(tiny_model):
    return checkpoint.load(tiny_model)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_reference_is_the_plain_model(config):
    """For every kind of model the arithmetic that int8 is compared with is the plain forward's."""
    loaded, text = made(config), texts(1, config)[0]
    plain = loaded.model(torch.tensor([text]))[0].numpy()
    assert abs(logits_of(loaded, text) - plain).max() < 1e-4 * abs(plain).max()


def test_int8_is_what_auto_picks_for_a_model_without_outliers(model, caplog):
    """An ordinary model loses less than the limit, and nothing is said."""
    mode, decoder = build(model, GenerationMode.AUTO, slots=1, threads=1)
    assert mode is GenerationMode.INT8
    assert lost_in_int8(model, decoder) < MOST_LOST
    assert caplog.text == ""


def test_a_model_that_loses_too_much_is_served_in_fp32(model, caplog):
    """Outliers, of which float32 takes no notice, are found at the start: `auto` runs fp32, says so
    in the log and as the engine's mode; int8 runs for whoever asks for it, with a warning."""
    outliers = with_outliers(model, 1000)
    text = texts(1, replace(CONFIGS[0], block_size=40))[0]
    before, after = (m.model(torch.tensor([text])) for m in (model, outliers))
    assert (after - before).abs().max() < 1e-3  # the same function
    decoder = CompiledDecoder(outliers, slots=1, threads=1)
    assert lost_in_int8(outliers, decoder) > 2 * MOST_LOST
    engine = Engine(outliers, slots=1, queue_limit=1)
    assert engine.mode is GenerationMode.FP32
    assert "fp32 instead" in caplog.text
    caplog.clear()
    mode, _ = build(outliers, GenerationMode.INT8, slots=1, threads=1)
    assert mode is GenerationMode.INT8
    assert "asked for" in caplog.text
