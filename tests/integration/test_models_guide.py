"""docs/models.md: every command in it is run, on files such as its readers have."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from api.gpt.__main__ import main
from tests.support.foreign_models import (
    lecture_state,
    nanogpt_checkpoint,
    nanogpt_meta,
    nanogpt_state,
)
from tests.support.tiny_model import one_thread

GUIDE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
TINY = shlex.split("--batch 4 --block-size 16 --n-layer 1 --n-head 2 --n-embd 16")

pytestmark = pytest.mark.timeout(300)  # a whole service starts in each walk


def sections() -> dict[str, list[str]]:
    """Return each section's commands, continued lines joined."""
    found = {}
    for section in GUIDE.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        block = "\n".join(line[4:] for line in body.splitlines() if line.startswith("    "))
        commands = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
        found[title] = [re.sub(r"\s{2,}", " ", command) for command in commands if command]
    return {title: commands for title, commands in found.items() if commands}


@pytest.fixture
def reader(tmp_path, monkeypatch, tiny_text_file, stranger_tokenizer):
    """A folder with what the guide's readers bring, and the names their own code has."""
    monkeypatch.chdir(tmp_path)
    text = tiny_text_file.read_text()
    shutil.copy(tiny_text_file, "input.txt")
    chars = sorted(set(text))
    for folder in ("out-shakespeare-char", "data/shakespeare_char", "out", "gpt2"):
        Path(folder).mkdir(parents=True)
    state = nanogpt_state(V=len(chars), T=32, L=2, C=32, bias=False)
    torch.save(nanogpt_checkpoint(state, n_head=2), "out-shakespeare-char/ckpt.pt")
    Path("data/shakespeare_char/meta.pkl").write_bytes(nanogpt_meta("".join(chars)))
    tokens = len(stranger_tokenizer["model"]["vocab"])
    state = nanogpt_state(V=tokens + 47, T=32, L=1, C=32, bias=False)
    torch.save(nanogpt_checkpoint(state, n_head=2), "out/ckpt.pt")
    Path("gpt2/tokenizer.json").write_text(json.dumps(stranger_tokenizer))
    lecture = lecture_state(V=len(chars), T=32, L=2, H=2, C=32)
    config = GPT2Config(vocab_size=tokens, n_positions=32, n_layer=1, n_head=2, n_embd=32)
    config.eos_token_id = 0
    return {
        "From the lecture": SimpleNamespace(state_dict=lambda: lecture),
        "From Hugging Face": GPT2LMHeadModel(config),
        "tokenizer": PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(stranger_tokenizer))
        ),
    }


class Shell:
    """Does what the guide's lines do, with a server of this test and a bucket of it."""

    def __init__(self, names, live_api, api_server, cloud_storage):
        self._names, self._live, self._serve = names, live_api, api_server
        self._bucket, self._server, self._uris = cloud_storage, None, {}

    def run(self, title: str, command: str, capsys) -> None:
        if command.startswith(".venv/bin/python -m api.gpt "):
            self._tool(shlex.split(command)[3:], capsys)
        elif command.startswith(("torch.save(", "model.", "tokenizer.")):
            names = {"model": self._names[title], "tokenizer": self._names["tokenizer"]}
            exec(command, {"torch": torch, **names})  # noqa: S102 - the guide's own lines
        elif match := re.fullmatch(r"MODEL_URI=(\S+) make run", command):
            self._start(match[1])
        elif command.startswith("curl -s http://127.0.0.1:8080/generate "):
            self._post(shlex.split(command))
        elif match := re.fullmatch(r"gcloud storage cp --recursive (\S+) gs://(\S+)", command):
            copied = self._bucket.upload(Path(match[1]), f"{match[2]}/{Path(match[1]).name}")
            self._uris[f"gs://{match[2]}/{Path(match[1]).name}"] = copied
        else:
            pytest.fail(f"the guide has a command that nobody runs: {command}")

    def _tool(self, arguments, capsys):
        if arguments[0] == "train":
            minutes = arguments.index("--minutes")
            arguments[minutes + 1] = "0.02"
            arguments += TINY
        status = main(arguments)
        printed = capsys.readouterr()
        assert status == 0, printed.err
        if arguments[0] == "sample":
            assert len(printed.out) > 200

    def _start(self, uri):
        where = self._uris[uri] if uri.startswith("gs://") else str(Path(uri).resolve())
        self._server = self._serve(
            **{
                **self._live.environ,
                "MODEL_URI": where,
                "STORAGE_EMULATOR_HOST": self._bucket.url,
            }
        )
        config = json.loads((Path("models") / Path(uri).name / "config.json").read_text())
        assert self._server.get("/health").json()["model"] == config["name"]

    def _post(self, words):
        [body] = [json.loads(words[i + 1]) for i, word in enumerate(words) if word == "-d"]
        assert words[words.index("-H") + 1] == "X-API-Key: $KEY"
        answer = self._server.post("/generate", self._live.issue()["key"], **body)
        assert answer.status_code == 200, answer.text
        text, reason = answer.json()["text"], answer.json()["finish_reason"]
        assert len(text) == body["num_chars"] or (reason == "stop" and text)


@pytest.fixture
def shell(reader, live_api, api_server, cloud_storage):
    return Shell(reader, live_api, api_server, cloud_storage)


@pytest.mark.parametrize("title", sections())
def test_the_commands_of_a_section_work(title, shell, tiny_model, capsys):
    """From the reader's file to an answer of /generate, line by line as it is printed."""
    if title == "Serve it from a bucket":  # what was trained before
        shutil.copytree(tiny_model, "models/mine")
    with one_thread():
        for command in sections()[title]:
            shell.run(title, command, capsys)


def test_the_walks_end_at_generate():
    """Every walk that begins with a reader's file ends with an answer of the service."""
    for title in ("From nanoGPT", "From the lecture", "From Hugging Face"):
        assert any(command.startswith("curl ") for command in sections()[title])
