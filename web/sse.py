"""Server-sent events, read as the HTML standard defines them; a broken stream simply ends.

Source: the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream". `id` and `retry`
are left out: a generation is never resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event."""

    name: str
    data: str


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a stream of lines, with or without their line ends.

    A comment dispatches nothing, and neither does an event that the stream's end cut off.
    """
    name, data = "", list[str]()
    for raw in lines:
        line = raw.rstrip("\r\n")
        if not line:
            if data:
                yield Event(name or "message", "\n".join(data))
            name, data = "", list[str]()
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
