"""Pickles that spell out plain data: read without the unpickler, which would run what they say.

A pickle is a program. This runs the part of its language that builds dictionaries, lists, tuples,
strings and numbers, and refuses the first instruction outside it: nothing is imported, called or
looked up, whatever the protocol. Nor does size hurt: what it makes is no larger than what it read,
and keys are strings and small integers, too few of them to be chosen so that they collide. The
instructions and what they do are those of the standard library's `pickletools`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from api.gpt.shown import shown

MOST_KEYS = 2**18  # of all dictionaries; a vocabulary names each character twice
LARGEST_KEY = 2**20  # tokens of a vocabulary (`shape.py`)
_MARK = object()

# Instructions that push the argument that `pickletools` has read for them.
INTEGERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2"}
TEXTS = {
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),  # of Python 2; decoded as ASCII or refused
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}  # the argument is the number of a place in the memo
_VALUES = {*INTEGERS, *TEXTS, "FLOAT", "BINFLOAT"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_CALLS = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"}


class PlainPickleError(ValueError):
    """It is no pickle, or one that is more than plain data; the message is one line."""


def loads(data: bytes) -> Any:
    """Return the plain data that a pickle spells out. Raise PlainPickleError."""
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "STOP":
                return machine.result()
            machine.do(operation.name, argument)
    except PlainPickleError:
        raise
    except Exception as exc:  # whatever a malformed pickle makes the parser raise
        raise PlainPickleError(f"not a whole pickle: {shown(' '.join(str(exc).split()))}") from exc
    raise PlainPickleError("not a whole pickle: it has no end")


class _Machine:
    """The pickle machine: a stack, and a memo of what was built."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._keys = 0

    def result(self) -> Any:
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise PlainPickleError("not a whole pickle: it ends in the middle of a value")
        return self._stack[0]

    def do(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in PUTS:
            if not 0 <= argument <= len(self._memo):
                raise PlainPickleError("not a whole pickle: a gap in its memo")
            self._memo[argument] = self._top()
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self._stack.append(self._memo[argument])
        elif name not in {"PROTO", "FRAME"}:
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        if name == "MARK":
            self._stack.append(_MARK)
        elif name in {"DICT", "LIST", "TUPLE"}:
            items = self._since_mark()
            made = {"LIST": items, "TUPLE": tuple(items)}
            self._stack.append(self._dict(items) if name == "DICT" else made[name])
        elif name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
            self._stack.append(tuple(self._pop(int(name[-1]))))
        elif name in {"SETITEM", "SETITEMS"}:
            items = self._pop(2) if name == "SETITEM" else self._since_mark()
            self._target(dict).update(self._dict(items))
        elif name in {"APPEND", "APPENDS"}:
            items = self._pop(1) if name == "APPEND" else self._since_mark()
            self._target(list).extend(items)
        else:
            what = f" of {shown(argument)}" if isinstance(argument, str) else ""
            does = "it would run code" if name in _CALLS else "not plain data"
            raise PlainPickleError(f"refused: {does}: {name}{what}")

    def _top(self) -> Any:
        if self._stack[-1] is _MARK:
            raise PlainPickleError("not a whole pickle: a mark where a value should be")
        return self._stack[-1]

    def _pop(self, count: int) -> list[Any]:
        items = [self._stack.pop() for _ in range(count)]
        if any(item is _MARK for item in items):
            raise PlainPickleError("not a whole pickle: a mark where a value should be")
        return items[::-1]

    def _since_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _target(self, kind: type[Any]) -> Any:
        if type(self._stack[-1]) is not kind:
            raise PlainPickleError(f"not a whole pickle: no {kind.__name__} to add to")
        return self._stack[-1]

    def _dict(self, items: list[Any]) -> dict[Any, Any]:
        if len(items) % 2:
            raise PlainPickleError("not a whole pickle: a key without a value")
        self._keys += len(items) // 2
        if self._keys > MOST_KEYS:
            raise PlainPickleError(f"refused: more than {MOST_KEYS} keys")
        for key in items[::2]:
            if not isinstance(key, str | int):
                raise PlainPickleError(f"refused: a {type(key).__name__} as a key")
            if isinstance(key, int) and not -LARGEST_KEY <= key <= LARGEST_KEY:
                raise PlainPickleError(f"refused: an integer beyond {LARGEST_KEY} as a key")
        return dict(zip(items[::2], items[1::2], strict=True))
