"""Training: reproducible from its seed, resumable at a cut, and refused by name when it cannot."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from api.gpt import checkpoint
from api.gpt import train as training
from api.gpt.corpus import Corpus, TrainingError
from api.gpt.recipe import Recipe, with_overrides
from api.gpt.train import STATE_FILE, train
from tests.support.tiny_model import TINY, VOCABULARY

SHORT = replace(TINY, steps=6, eval_every=3, dropout=0.1)
ONE_STEP = replace(
    TINY, steps=1, batch=2, eval_every=1, block_size=16, n_layer=1, n_head=1, n_embd=8
)


def weights(directory):
    return (directory / "model.safetensors").read_bytes()


class CutError(Exception):
    """Stands for the end of the process in the middle of a run."""


def test_the_same_command_gives_the_same_model(tiny_text_file, tmp_path):
    """Text, recipe and seed decide the weights: same seed, same bytes; another seed, others."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tiny_text_file, tmp_path / name, replace(SHORT, seed=seed), resume=False, command="")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_where_a_processor_has_bfloat16_it_is_trained_in(tiny_text_file, tmp_path, monkeypatch):
    """It multiplies in bfloat16, learns as well as in float32, and the same command gives the same
    model; elsewhere, where it would only be emulated, nothing is computed in it."""
    recipe, seen = replace(TINY, steps=10, eval_every=10), set()

    def note(_module, _inputs, output):
        seen.add(output.dtype)

    def trained(name, *, native):
        monkeypatch.setattr(training, "_cpu_has_bfloat16", lambda: native)
        seen.clear()
        train(tiny_text_file, tmp_path / name, recipe, resume=False, command="")
        facts = json.loads((tmp_path / name / "training.json").read_text())
        return set(seen), facts["held_out_loss_nats_per_character"]

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        plainly, plain_loss = trained("float32", native=False)
        natively, loss = trained("bfloat16", native=True)
        trained("again", native=True)
    finally:
        hook.remove()
    assert torch.bfloat16 in natively
    assert plainly == {torch.float32}
    assert loss == pytest.approx(plain_loss, rel=0.02)
    assert weights(tmp_path / "bfloat16") == weights(tmp_path / "again")


def test_a_cut_run_resumes_to_the_same_model(tiny_text_file, tmp_path, monkeypatch):
    """A run cut after a checkpoint and resumed writes the bytes of an uncut run."""
    train(tiny_text_file, tmp_path / "uncut", SHORT, resume=False, command="")
    step = training.Trainer._step

    def cut_at_five(self, number):
        if number == 5:
            raise CutError
        return step(self, number)

    monkeypatch.setattr(training.Trainer, "_step", cut_at_five)
    with pytest.raises(CutError):
        train(tiny_text_file, tmp_path / "cut", SHORT, resume=False, command="")
    assert (tmp_path / "cut" / STATE_FILE).exists()

    taken = []
    monkeypatch.setattr(
        training.Trainer, "_step", lambda self, n: (taken.append(n), step(self, n))[1]
    )
    train(tiny_text_file, tmp_path / "cut", SHORT, resume=True, command="")
    assert taken == [3, 4, 5]
    assert weights(tmp_path / "cut") == weights(tmp_path / "uncut")
    assert not (tmp_path / "cut" / STATE_FILE).exists()


class Watch:
    """A clock that only the steps of a run move."""

    def __init__(self, monkeypatch, seconds_per_step, cut_at=None):
        self.now, step = 0.0, training.Trainer._step

        def timed(trainer, number):
            if number == cut_at:
                raise CutError
            self.now += seconds_per_step
            return step(trainer, number)

        monkeypatch.setattr(training.Trainer, "_step", timed)

    def __call__(self):
        return self.now


def test_a_time_budget_gives_the_model_of_its_steps(tiny_text_file, tmp_path, monkeypatch):
    """A minute of steps of 10 s is 6 steps: the bytes of a run of 6, cut and resumed or not, and
    the card says so."""
    train(tiny_text_file, tmp_path / "steps", replace(SHORT, steps=6), resume=False, command="")
    recipe = replace(SHORT, steps=640)
    with monkeypatch.context() as patch:
        clock = Watch(patch, 10.0)
        out = tmp_path / "minute"
        train(tiny_text_file, out, recipe, resume=False, command="", minutes=1, clock=clock)
    assert weights(out) == weights(tmp_path / "steps")
    assert json.loads((out / "training.json").read_text())["recipe"]["steps"] == 6
    assert "with `--steps 6`" in (out / "MODEL_CARD.md").read_text()
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        clock = Watch(patch, 10.0, cut_at=5)
        with pytest.raises(CutError):
            train(tiny_text_file, cut, recipe, resume=False, command="", minutes=1, clock=clock)
    with monkeypatch.context() as patch:
        clock = Watch(patch, 99.0)  # slower now: the steps have been decided
        train(tiny_text_file, cut, recipe, resume=True, command="", minutes=1, clock=clock)
    assert weights(cut) == weights(tmp_path / "steps")


def test_the_best_evaluation_is_what_is_written(tiny_text_file, tmp_path, monkeypatch):
    """When the held-out loss rises again, the weights from before are written, and the card tells
    after which step."""
    measured, seen = training.held_out_loss, []

    def rising(model, tokens, block_size, rows=None):
        if rows is None:
            return measured(model, tokens, block_size)
        seen.append(model.token_embedding.weight.detach().clone())
        return float(len(seen))

    monkeypatch.setattr(training, "held_out_loss", rising)
    train(tiny_text_file, tmp_path / "out", SHORT, resume=False, command="")
    written = checkpoint.load(tmp_path / "out").model.token_embedding.weight
    assert torch.equal(written, seen[0].bfloat16().float())
    assert not torch.equal(written, seen[1].bfloat16().float())
    assert "those after 3, the best evaluation" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_an_unfinished_run_is_never_begun_anew_by_mistake(tiny_text_file, tmp_path, monkeypatch):
    """Hours of training are not written over for want of `--resume`; a damaged state is told."""
    with monkeypatch.context() as patch:
        clock = Watch(patch, 1.0, cut_at=4)
        with pytest.raises(CutError):
            train(tiny_text_file, tmp_path, SHORT, resume=False, command="", clock=clock)
    state = (tmp_path / STATE_FILE).read_bytes()
    with pytest.raises(TrainingError, match="add --resume"):
        train(tiny_text_file, tmp_path, SHORT, resume=False, command="")
    assert (tmp_path / STATE_FILE).read_bytes() == state
    (tmp_path / STATE_FILE).write_bytes(state[: len(state) // 2])
    with pytest.raises(TrainingError, match="is damaged; remove it"):
        train(tiny_text_file, tmp_path, SHORT, resume=True, command="")


@pytest.mark.parametrize(
    ("text", "start"),
    [("abc " * 200, " "), ("\r".join("ab\u6f22" * 200), "\r"), ("aab\n" * 200, "\n")],
)
def test_any_text_makes_a_model_that_loads(text, start, tmp_path):
    """A text without line ends or spaces trains to the end; what it starts with is its own."""
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    train(path, tmp_path / "out", ONE_STEP, resume=False, command="")
    assert checkpoint.load(tmp_path / "out").start_text == start


def test_a_run_cut_while_it_is_measured_is_finished_by_resuming(
    tiny_text_file, tmp_path, monkeypatch
):
    """A model that was written before its report was is not "finished": resuming writes both."""
    measured = training.held_out_loss

    def cut(model, tokens, block_size, rows=None):
        if rows is None:
            raise KeyboardInterrupt
        return measured(model, tokens, block_size, rows)

    with monkeypatch.context() as patch:
        patch.setattr(training, "held_out_loss", cut)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_text_file, tmp_path, ONE_STEP, resume=False, command="")
    before = weights(tmp_path)
    with pytest.raises(TrainingError, match="add --resume"):
        train(tiny_text_file, tmp_path, ONE_STEP, resume=False, command="")
    train(tiny_text_file, tmp_path, ONE_STEP, resume=True, command="")
    assert weights(tmp_path) == before
    assert (tmp_path / "MODEL_CARD.md").exists()
    assert (tmp_path / "loss.png").exists()
    assert not (tmp_path / STATE_FILE).exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "MODEL_CARD.md", "loss.png"])
@pytest.mark.parametrize("resume", [False, True])
def test_files_of_something_else_are_never_written_over(name, resume, tmp_path, tiny_text_file):
    """A directory that holds a file of such a name, of another program, is left as it is."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(TrainingError, match=f"holds a {name} of something else"):
        train(tiny_text_file, tmp_path, ONE_STEP, resume=resume, command="")
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["a" * 101, "a\nb"])
def test_a_name_that_no_model_may_have_is_refused_before_training(name, tmp_path, tiny_text_file):
    """Hours of training do not end in a name that cannot be written."""
    with pytest.raises(TrainingError, match="1 to 100 characters that print"):
        train(tiny_text_file, tmp_path / name, ONE_STEP, resume=False, command="")
    assert not (tmp_path / name).exists()


def test_the_directory_one_stands_in_has_a_name(tmp_path, tiny_text_file, monkeypatch):
    """`--out .` is the directory by its own name."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train(tiny_text_file, Path(), ONE_STEP, resume=False, command="")
    assert checkpoint.load(tmp_path / "here").name == "here"
    assert (tmp_path / "here" / "MODEL_CARD.md").read_text().startswith("# Model card: here\n")


@pytest.mark.parametrize("what", ["text", "recipe"])
def test_a_state_of_another_run_is_not_resumed(what, tiny_text_file, tmp_path, monkeypatch):
    """Resuming with another text or recipe is refused instead of mixing two runs."""
    monkeypatch.setattr(
        training.checkpoint, "save", lambda *_, **__: (_ for _ in ()).throw(CutError)
    )
    with pytest.raises(CutError):
        train(tiny_text_file, tmp_path / "run", SHORT, resume=False, command="")
    text, recipe = tiny_text_file, SHORT
    if what == "text":
        text = tmp_path / "other.txt"
        text.write_text(tiny_text_file.read_text() + "more")
    else:
        recipe = replace(SHORT, steps=7)
    with pytest.raises(TrainingError, match=f"another {what}"):
        train(text, tmp_path / "run", recipe, resume=True, command="")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short"),
        (b"abcdefgh" * 10, "too short: 72 characters to train on, at least 129"),
        (b"abcdefgh" * 40, "too short: the held-out part has 32 characters, at least 65"),
        (b"caf\xe9" * 900, "not UTF-8 at byte 3"),
    ],
)
def test_a_text_that_cannot_be_trained_on_is_refused(content, message, tmp_path):
    """Each refusal says what is wrong and how much text is needed; nothing is written."""
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        train(text, tmp_path / "out", SHORT, resume=False, command="")
    assert not (tmp_path / "out").exists()


def test_a_byte_order_mark_is_no_character(tiny_text_file, tmp_path):
    """A mark that editors put before a text is not learned."""
    marked = tmp_path / "marked.txt"
    marked.write_text(tiny_text_file.read_text(), encoding="utf-8-sig")
    assert (
        Corpus.read(marked, SHORT).tokenizer.chars
        == Corpus.read(tiny_text_file, SHORT).tokenizer.chars
    )


def test_a_missing_text_is_refused_by_name(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(TrainingError, match=r"nowhere\.txt: No such file"):
        train(tmp_path / "nowhere.txt", tmp_path / "out", SHORT, resume=False, command="")


def test_a_diverging_run_stops_and_says_so(tiny_text_file, tmp_path):
    """A loss that is no number ends the run instead of writing a broken model."""
    with pytest.raises(TrainingError, match="lower --matrix-lr"):
        train(tiny_text_file, tmp_path, replace(SHORT, other_lr=1e38), resume=False, command="")
    assert not (tmp_path / "model.safetensors").exists()


def test_the_model_learns_and_says_how_well(tiny_model):
    """The tiny model beats a uniform guess by far, knows every character, and reports its loss."""
    facts = json.loads((tiny_model / "training.json").read_text())
    loss = facts["held_out_loss_nats_per_character"]
    assert loss < 2.5  # a uniform guess over 96 characters is 4.56
    assert f"{loss:.4f} nats per character" in (tiny_model / "MODEL_CARD.md").read_text()
    assert (tiny_model / "loss.png").stat().st_size > 1000
    assert set(checkpoint.load(tiny_model).tokenizer.chars) == set(VOCABULARY)


def test_the_rate_warms_up_stays_and_descends():
    """The learning rate rises to its peak, is flat until half time and ends at its final share."""
    recipe = Recipe(steps=100, warmup_steps=10)
    assert recipe.lr_scale(0) == pytest.approx(0.1)
    assert recipe.lr_scale(9) == recipe.lr_scale(49) == 1.0
    assert 0.02 <= recipe.lr_scale(99) < 0.05


@pytest.mark.parametrize("name", ["steps", "batch", "eval_every"])
def test_a_recipe_without_work_is_refused(name):
    """A count below 1 is refused by the name of its field."""
    with pytest.raises(ValueError, match=name):
        with_overrides(Recipe(), {name: 0, "seed": None})


def test_a_finished_model_is_never_written_over(tmp_path, tiny_model):
    """Training into a directory that holds a model is refused, and the model stays as it was."""
    out = tmp_path / "mine"
    shutil.copytree(tiny_model, out)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="holds a finished model"):
        train(tmp_path / "text.txt", out, Recipe(), resume=False, command="")
    assert (out / "model.safetensors").read_bytes() == before
