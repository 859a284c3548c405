"""Where machine code is kept, and for which processors."""

import os
from pathlib import Path

import pytest

from api.gpt import processor


def test_a_processor_gets_the_best_kind_it_can_run(monkeypatch):
    """VNNI where all of it is there, AVX2 where it is not, and else code for this processor."""
    vnni, avx2, host = processor.KINDS
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for features, kind in (
        (vnni.needs, vnni),
        (vnni.needs[:-1], avx2),
        (avx2.needs, avx2),
        (avx2.needs[1:], host),
    ):
        monkeypatch.setattr(
            processor.llvm, "get_host_cpu_features", lambda f=features: dict.fromkeys(f, True)
        )
        assert processor.kind_here() is kind
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert processor.kind_here() is host


def test_code_is_kept_beside_the_source_or_in_a_place_of_its_own(tmp_path, monkeypatch):
    """Where the source's folder cannot be written, what was compiled before is read from it; else
    a fresh folder that nobody else can write is used, one for all that the process compiles."""
    processor._own_place.cache_clear()
    monkeypatch.setattr(processor, "HERE", tmp_path)
    place = processor._place()
    assert place == tmp_path / "__pycache__" / f"kernels-{processor.kind.name}"
    monkeypatch.setattr(os, "access", lambda *_: False)
    private = processor._place()
    assert private != place
    assert private.stat().st_mode & 0o077 == 0
    assert processor._place() == private
    (place / "forward.run-1.py311.1.nbc").touch()
    assert processor._place() == place


def test_changed_source_is_compiled_anew(tmp_path, monkeypatch):
    """The stamp that code is kept with covers every file that the kernels consist of."""
    for source in processor.SOURCES:
        (tmp_path / f"{source}.py").write_text("a = 1\n")
    cache = processor.KernelCache(1)
    monkeypatch.setattr(processor, "HERE", tmp_path)
    stamps = {cache.get_source_stamp()}
    for source in processor.SOURCES:
        (tmp_path / f"{source}.py").write_text("a = 2\n")
        stamps.add(cache.get_source_stamp())
    assert len(stamps) == 1 + len(processor.SOURCES)


@pytest.mark.parametrize("source", processor.SOURCES)
def test_the_stamp_names_real_files(source):
    """A kernel file that moved would be left out unseen."""
    assert (Path(processor.__file__).parent / f"{source}.py").is_file()
