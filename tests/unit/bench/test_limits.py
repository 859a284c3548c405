"""What the bench holds an engine to is a limit, and each width's own."""

from __future__ import annotations

import pytest

from bench import engine_report, machine

LIMITS = {
    "read_int8_gb_s": 20.0,
    "read_q8_0_gb_s": 20.0,
    "read_bf16_gb_s": 20.0,
    "read_float32_gb_s": 20.0,
    "peak_int8_gops_s": 1600.0,
    "peak_float32_gops_s": 400.0,
}


@pytest.mark.parametrize(
    ("engine", "bytes_each"),
    [("quillgate int8", 1), ("llama.cpp q8_0", 34 / 32), ("llama.cpp bf16", 2),
     ("CTranslate2 float32", 4), ("transformers generate", 4)],
)  # fmt: skip
def test_an_engine_is_held_to_reading_its_own_width(engine, bytes_each):
    """At one row the limit is one pass over as many bytes as this engine's weights have."""
    passes = 20e9 / (machine.MATRICES * bytes_each)
    assert engine_report.limit(engine, 1, LIMITS) == pytest.approx(passes)


def test_many_rows_are_held_to_arithmetic():
    """Rows share a pass but not their products: past some number arithmetic is the limit."""
    most = 1600e9 / (2 * machine.MATRICES)
    assert engine_report.limit("quillgate int8", 10_000, LIMITS) == pytest.approx(most)
    assert engine_report.limit("llama.cpp f32", 10_000, LIMITS) == pytest.approx(most / 4)


def test_reading_is_compiled_to_wide_loads():
    """What is compared with the engine's reading is no slower for how it was compiled: one array in
    order, with vector instructions, and no gathering of single words."""
    (code,) = machine._read_all.inspect_asm().values()
    assert "gather" not in code
    if machine.per_cycle(machine._flags()):
        assert "ymm" in code or "zmm" in code
