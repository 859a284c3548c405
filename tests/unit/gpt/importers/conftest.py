"""Import as a user does, and compare with the source's own forward pass."""

import json

import pytest
import torch

from api.gpt import checkpoint
from api.gpt.__main__ import main


@pytest.fixture
def importing(tmp_path, capsys):
    """Run `import`; return the checkpoint that it wrote."""

    def run(kind, *arguments):
        out = tmp_path / "model"
        status = main(["import", "--from", kind, *map(str, arguments), "--to", str(out)])
        assert status == 0, capsys.readouterr().err
        return checkpoint.load(out)

    return run


@pytest.fixture
def refusal(tmp_path, capsys):
    """Run `import`, see it refused with nothing written; return what it said."""

    def run(kind, *arguments):
        out = tmp_path / "refused"
        assert main(["import", "--from", kind, *map(str, arguments), "--to", str(out)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert not out.exists()
        said = printed.err
        assert said.startswith("import: ")
        assert "Traceback" not in said
        return said.removeprefix("import: ").rstrip("\n")

    return run


@pytest.fixture
def same():
    """Hold a model to its source: the same logits within 1e-4, alone and at the full context."""

    def compare(loaded, logits_of):
        context, vocabulary = loaded.config.block_size, loaded.config.vocab_size
        generator = torch.Generator().manual_seed(2)
        for length in (1, context // 2, context):
            tokens = torch.randint(vocabulary, (length,), generator=generator).tolist()
            expected = logits_of(tokens)[:, :vocabulary]
            with torch.no_grad():
                ours = loaded.model(torch.tensor([tokens]))[0]
            assert expected.std() > 0.1
            assert (ours - expected).abs().max() < 1e-4

    return compare


@pytest.fixture(scope="session")
def tokenizer_file(stranger_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("stranger") / "tokenizer.json"
    path.write_text(json.dumps(stranger_tokenizer))
    return path
