"""A small byte-level encoding made by `tokenizers` itself, as a stranger's model would bring it."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from api.gpt.bpe import END_OF_TEXT

TEXT = [
    "The quick brown fox doesn't jump over 13 lazy dogs.\n",
    "Žluťoučký kůň úpěl ďábelské ódy — naïve café.\n",
    "汉字和かな, 한글 and 👩‍👩‍👧 families 😀😃😄.\n",
] * 20


@pytest.fixture(scope="session")
def stranger_tokenizer() -> dict[str, Any]:
    """The `tokenizer.json` that Hugging Face's library writes for a byte-level BPE of 400."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document
