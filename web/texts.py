"""The texts of a visit: what was asked, what came, how it ended; `web.visits` keeps them.

Plain values, so that they can be written as JSON. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from web.run import RunState, RunView

KEPT = 20
_SETTINGS = ("prompt", "seed", "temperature", "num_chars", "top_k", "top_p")
_ENDINGS = {
    "length": "finished",
    "stop": "finished: the model came to an end",
    "deadline": "ended: the time for one text was over",
}

Text = dict[str, Any]


def text_of(run_id: str, view: RunView, at: str) -> Text:
    """Return an ended run as a text; `at` is the time of day."""
    summary = view.summary
    reason = str(summary.get("finish_reason")) if view.state is RunState.DONE else view.state.value
    return {
        "id": run_id,
        "at": at,
        "before": view.before,
        "text": view.text,
        "settings": {name: view.body[name] for name in _SETTINGS if name in view.body},
        "model": str(summary.get("model") or ""),
        "finish_reason": reason,
        "seconds": round(view.seconds, 3),
    }


def with_text(texts: Iterable[Text], text: Text) -> list[Text]:
    """Return the texts, newest first, with `text` as the next one, and none too many."""
    earlier = list(texts)
    number = earlier[0]["number"] + 1 if earlier else 1
    return [{**text, "number": number}, *earlier][:KEPT]


def found(texts: Iterable[Text], text_id: str | None) -> Text | None:
    return next((one for one in texts if one["id"] == text_id), None)


def label(text: Text) -> str:
    """Return a text in a line of its own, for choosing among texts: Streamlit goes by the label."""
    settings = text["settings"]
    whole = text["before"] + text["text"]
    beginning = " ".join(whole.split())[:40] or "(empty)"
    return (
        f"{beginning} · {text['number']} · {text['at']} · {len(whole):,} characters"
        f" · seed {settings.get('seed')} · temperature {settings.get('temperature')}"
    )


def ending(view: RunView) -> str:
    """Return in a line how a run that did not fail ended, and what it was."""
    amount = f"{len(view.text):,} of {view.num_chars:,} characters in {view.seconds:.1f} s"
    stopped = view.state is RunState.STOPPED
    reason = _ENDINGS.get(str(view.summary.get("finish_reason")), "finished")
    used = view.body if stopped else view.summary
    parts = ["stopped" if stopped else reason, amount]
    parts += [
        f"{name} {used[name]}"
        for name in ("seed", "temperature")
        if isinstance(used.get(name), int | float)
    ]
    if stopped:  # the API had written a little more than came, and says nothing to who has gone
        return _line([*parts, f"cost about {len(view.text):,}"])
    usage = view.summary.get("usage")
    charged = usage.get("charged_chars") if isinstance(usage, Mapping) else None
    if isinstance(charged, int):
        parts.append(f"cost {charged:,}")
    return _line(parts)


def past_ending(text: Text) -> str:
    """Return the same for a text of this visit that is shown again."""
    settings = text["settings"]
    asked = settings.get("num_chars", 0)
    return _line(
        [
            f"from {text['at']}",
            f"{len(text['text']):,} of {asked:,} characters",
            f"seed {settings.get('seed')}",
            f"temperature {settings.get('temperature')}",
        ]
    )


def _line(parts: Iterable[str]) -> str:
    """Join what is told, so that no line breaks before a number or a unit."""
    told = " · ".join(parts).replace(" s ·", "\u00a0s ·")
    return re.sub(r"\b(seed|temperature|cost|about) (?=\d)", "\\1\u00a0", told)


def as_json(text: Text) -> str:
    """Return a text with all that it takes to get it again, as a file."""
    told = {
        **text["settings"],
        "model": text["model"] or None,  # a text that was stopped was never told
        "continued_from": text["before"] or None,
        "text": text["text"],
        "finish_reason": text["finish_reason"],
    }
    return json.dumps(told, ensure_ascii=False, indent=2) + "\n"
