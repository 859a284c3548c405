"""The pages, run by Streamlit itself without a browser, and the hand of the person before them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.support.web_parts import PASSWORD

SCRIPT = Path(__file__).parents[2] / "web" / "streamlit_app.py"


def open_app() -> AppTest:
    logging.getLogger("streamlit").setLevel(logging.ERROR)  # it warns in runs outside its server
    app = AppTest.from_file(str(SCRIPT), default_timeout=30).run()
    assert not app.exception
    return app


def log_in(name: str = "ada", password: str = PASSWORD) -> AppTest:
    app = open_app()
    app.text_input[0].set_value(name)
    app.text_input[1].set_value(password)
    return press(app, "Login")


def page(name: str, user: str = "ada") -> AppTest:
    app = log_in(user).switch_page(f"app_pages/{name}.py").run()
    assert not app.exception
    return app


def admin_page(tab: str) -> AppTest:
    """Return the page that an admin has opened at one of its tabs."""
    app = log_in("root")
    app.session_state["admin_tab"] = tab
    app.switch_page("app_pages/admin.py").run()
    assert not app.exception
    return app


def button(app: AppTest, label: str):
    return next(button for button in app.button if button.label == label)


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def field(app: AppTest, label: str):
    """Return the first input of this label."""
    kinds = (*app.text_area, *app.text_input, *app.number_input, *app.selectbox, *app.multiselect)
    return next(one for one in (*kinds, *app.toggle, *app.checkbox) if one.label == label)


def press(app: AppTest, label: str) -> AppTest:
    button(app, label).click()
    app.run()
    assert not app.exception
    return app


def until(app: AppTest, holds: Callable[[AppTest], object]) -> AppTest:
    for _ in range(200):
        if holds(app):
            return app
        threading.Event().wait(0.02)
        app.run()
        assert not app.exception
    raise AssertionError("it never came true")


def generate(app: AppTest, label: str = "Generate Text") -> AppTest:
    """Press a button that begins a generation, and wait until it has ended."""
    press(app, label)
    return until(app, lambda app: button(app, "Stop").disabled)


def captions(app: AppTest) -> str:
    """Return the captions, with plain spaces for those at which no line breaks."""
    return " | ".join(caption.value for caption in app.caption).replace("\u00a0", " ")
