"""The generation page: seeds, presets, comparing, writing on, and the texts of a visit."""

from __future__ import annotations

import html
import json

import pytest

from tests.support.fake_api import Behaviour, Refusal
from tests.support.programs import run_shown
from tests.support.web_pages import (
    button,
    captions,
    field,
    generate,
    labels,
    log_in,
    press,
)
from web.snippets import snippets

pytestmark = pytest.mark.usefixtures("parts")


def _bodies(api):
    return [call.body for call in api.generations()]


def test_each_text_gets_a_seed_of_its_own_unless_it_is_kept(fake_api):
    """The seed that was drawn is told under the text; Keep puts it into the field, Release empties
    the field, and so does nobody else."""
    app = log_in()
    assert button(app, "Keep").disabled
    generate(app)
    first = _bodies(fake_api)[-1]["seed"]
    assert field(app, "Seed").value == ""
    assert f"seed {first}" in captions(app)
    generate(app)
    second = _bodies(fake_api)[-1]["seed"]
    assert second != first
    generate(press(app, "Keep"))
    assert field(app, "Seed").value == str(second)
    assert _bodies(fake_api)[-1]["seed"] == second
    generate(press(app, "Release"))
    assert field(app, "Seed").value == ""
    assert _bodies(fake_api)[-1]["seed"] != second


def test_a_typed_seed_is_kept(fake_api):
    """Whoever types a seed wants that text, and the next ones with it; Regenerate leaves it."""
    app = log_in()
    field(app, "Seed").set_value("42")
    for _ in range(2):
        generate(app)
    generate(app, "Regenerate")
    assert field(app, "Seed").value == "42"
    seeds = [body["seed"] for body in _bodies(fake_api)]
    assert seeds[:2] == [42, 42]
    assert seeds[2] != 42


def test_a_rolled_seed_stands_in_the_field_and_is_used(fake_api):
    """Roll says which seed comes next, each time another."""
    app = press(log_in(), "Roll")
    rolled = int(field(app, "Seed").value)
    generate(app)
    press(app, "Roll")
    assert _bodies(fake_api)[0]["seed"] == rolled
    assert int(field(app, "Seed").value) != rolled


def _preset(app):
    return next(group for group in app.button_group if group.label == "Preset")


def test_presets_and_more_reach_the_request(fake_api):
    """A preset fills the fields; top k and top p are sent when they are set."""
    app = log_in()
    assert _preset(app).value == "Balanced"
    _preset(app).set_value("Bold")
    app.run()
    assert field(app, "Temperature").value == 1.2
    assert _preset(app).value == "Bold"
    field(app, "Top k").set_value(7)
    generate(app)
    body = _bodies(fake_api)[0]
    assert (body["temperature"], body["top_k"], body["top_p"]) == (1.2, 7, 0.95)
    assert _preset(app).value is None  # these are its settings no more


def test_two_temperatures_run_side_by_side_on_one_seed(fake_api):
    """Two texts stand beside each other, told apart by their temperature."""
    app = log_in()
    field(app, "Compare two temperatures").set_value(True).run()
    field(app, "Second temperature").set_value(1.5)
    generate(app)
    first, second = sorted(_bodies(fake_api), key=lambda body: body["temperature"])
    assert (first["temperature"], second["temperature"]) == (0.8, 1.5)
    assert first["seed"] == second["seed"]
    assert len(app.code) == 2
    assert "temperature 0.8" in captions(app)
    assert "temperature 1.5" in captions(app)
    assert labels(app).count("Continue") == 2


def test_continue_writes_on_and_shows_the_whole(fake_api):
    """The model is given what is there; the page shows both parts as one text."""
    app = log_in()
    field(app, "Prompt").set_value("Once ")
    text = generate(app).code[0].value
    fake_api.behaviour = Behaviour(text="and on ")
    generate(app, "Continue")
    assert _bodies(fake_api)[1]["prompt"] == "Once " + text
    assert app.code[0].value.startswith(text + "and on and on")
    assert len(app.code[0].value) == 400


def test_regenerate_changes_the_seed_alone_and_same_again_nothing(fake_api):
    """What is in the form meanwhile does not matter: it is that text's own call."""
    app = generate(log_in())
    field(app, "Prompt").set_value("something else")
    generate(app, "Regenerate")
    field(app, "Temperature").set_value(2.0)
    generate(app, "Same again")
    first, second, third = _bodies(fake_api)
    assert second["seed"] != first["seed"]
    assert {**second, "seed": 0} == {**first, "seed": 0}
    assert third == second


def _visit(parts, app):
    session, _ = parts.desk.recognise(app.session_state["_session_token"])
    return parts.visits.of(session)


def test_the_visits_texts_can_be_brought_back(fake_api, parts):
    """Restore shows an earlier text and puts its settings into the form; Forget all clears."""
    app = log_in()
    field(app, "Prompt").set_value("first")
    generate(app)
    seed = str(_bodies(fake_api)[0]["seed"])
    field(app, "Prompt").set_value("second")
    fake_api.behaviour = Behaviour(text="other ")
    generate(app)
    assert [shown[:10] for shown in field(app, "Text").options] == ["other othe", "Shall I co"]
    earlier = _visit(parts, app).texts[1]["id"]
    field(app, "Text").set_value(earlier).run()
    press(app, "Restore")
    assert field(app, "Prompt").value == "first"
    assert field(app, "Seed").value == seed
    assert app.code[0].value.startswith("Shall I compare")
    assert "Continue" in labels(app)
    press(app, "Forget all")
    assert not app.code
    assert "Restore" not in labels(app)


def test_what_is_set_survives_a_look_at_another_page(fake_api):
    """Coming back, the form says what it said."""
    app = log_in()
    field(app, "Prompt").set_value("here")
    field(app, "Temperature").set_value(1.1).run()
    app.switch_page("app_pages/my_key.py").run()
    app.switch_page("app_pages/generate.py").run()
    assert not app.exception
    assert (field(app, "Prompt").value, field(app, "Temperature").value) == ("here", 1.1)


def test_the_cost_is_told_beside_what_is_left(fake_api):
    """And when it is more than is left, that is told before the API refuses."""
    app = log_in()
    assert "Costs up to 200 of the 41,200 characters left for now." in captions(app)
    fake_api.account["limits"][1]["remaining"] = 150
    generate(app)
    assert "only 150 are left" in captions(app)


def test_a_429_disables_what_would_generate(fake_api):
    """Not only Generate Text: Continue and the others wait too."""
    app = generate(log_in())
    fake_api.behaviour = Behaviour(refusal=Refusal(429, "rate_limited", 60))
    generate(app, "Same again")
    assert button(app, "Generate Text").disabled
    press(app, "Restore")
    assert "Continue" in labels(app)


def test_a_prompt_that_the_model_does_not_know_is_mended_by_one_click(fake_api):
    """The characters are shown themselves; what a click makes of the prompt can be generated."""
    detail = 'the model has no token for "\u2019", "\\t".'
    fake_api.behaviour = Behaviour(refusal=Refusal(422, "prompt_not_encodable", detail=detail))
    app = log_in()
    field(app, "Prompt").set_value("it\u2019s\tso")
    generate(app)
    told = [html.unescape(error.value) for error in app.error]
    assert "The model does not know these characters: \u2019, tab." in told
    fake_api.behaviour = Behaviour()
    press(app, "Replace by plain ones")
    assert not app.error
    assert "Replace by plain ones" not in labels(app)
    generate(app)
    assert _bodies(fake_api)[1]["prompt"] == "it's so"


def test_to_continue_one_of_two_texts_leaves_the_other(fake_api):
    """Two that are compared stay side by side."""
    app = log_in()
    field(app, "Compare two temperatures").set_value(True).run()
    generate(app)
    first, second = (code.value for code in app.code)
    generate(app, "Continue")
    assert len(app.code[0].value) == 2 * len(first)
    assert app.code[1].value == second


PROMPT = 'it\'s "so" $HOME `x` \\ ☃\n'


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_a_shown_program_makes_the_call_that_was_made(fake_api, language):
    """Run as it is shown, it sends the same body, to the last digit of a seed, with the
    environment's key, and prints the text."""
    body = {"prompt": PROMPT, "seed": 2**63 - 1, "num_chars": 50}
    program = snippets(fake_api.url, body)[language]
    written = run_shown(language, program, {"GPT_API_KEY": "qg_live_made_up"})
    call = fake_api.generations()[-1]
    assert (call.body, call.key) == (body, "qg_live_made_up")
    text = json.loads(written)["text"] if language == "curl" else written.removesuffix("\n")
    assert text == fake_api.behaviour.text[:50]
