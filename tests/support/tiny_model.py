"""A model small enough to train in seconds, and real: made by the project's own `train`."""

import contextlib
import random
import string
from pathlib import Path

import pytest
import torch

from api.gpt.recipe import Recipe
from api.gpt.train import train

TINY = Recipe(
    steps=60,
    batch=16,
    block_size=64,
    n_layer=2,
    n_head=2,
    n_embd=32,
    dropout=0.0,
    warmup_steps=5,
    eval_every=60,
)
VOCABULARY = "\n" + "".join(sorted(set(string.printable) - set(string.whitespace) | {" "}))


def tiny_text(lines: int = 400) -> str:
    """Return lines of made-up words that end in each printable ASCII character in turn."""
    source = random.Random(7)
    words = ["".join(source.choices(string.ascii_lowercase, k=n)) for n in (2, 3, 4, 5, 6) * 4]
    marks = VOCABULARY.replace(" ", "").strip()
    return "".join(
        " ".join(source.choices(words, k=8)) + f" {marks[i % len(marks)]}\n" for i in range(lines)
    )


@contextlib.contextmanager
def one_thread():
    """Run torch on one thread: at this size a second only waits for a turn on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_text_file(tmp_path_factory) -> Path:
    """A UTF-8 text of about 17 000 characters."""
    path = tmp_path_factory.mktemp("text") / "tiny.txt"
    path.write_text(tiny_text(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_text_file) -> Path:
    """A model directory: 2 layers, context 64, every printable ASCII character and newline."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    with one_thread():
        train(tiny_text_file, directory, TINY, resume=False, command="python -m api.gpt train")
    return directory
