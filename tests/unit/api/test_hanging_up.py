"""A connection is closed when its caller has ended or had the time to; nobody waits for that."""

from __future__ import annotations

import selectors
import socket

import pytest

from api.hanging_up import LINGER_BYTES, LINGER_SECONDS, HangingUp


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts():
    """Return what hangs up, its clock and poller, both ends of a connection, what was closed."""
    clock, closed = Clock(), []
    ours, theirs = socket.socketpair()
    with selectors.DefaultSelector() as poller, ours, theirs:
        theirs.settimeout(5)
        hanging = HangingUp(clock)
        yield hanging, clock, poller, ours, theirs, closed


def turn(poller) -> None:
    for key, _ in poller.select(0):
        key.data(key.fileobj)


def test_the_caller_reads_all_and_its_end_closes(parts):
    """What was written arrives with its end, unread bytes notwithstanding; then it is closed."""
    hanging, _, poller, ours, theirs, closed = parts
    theirs.sendall(b"never read")
    ours.sendall(b"answer")
    hanging.begin(poller, ours, lambda: closed.append(ours))
    assert theirs.recv(100) == b"answer"
    assert theirs.recv(100) == b""
    turn(poller)
    assert closed == []
    theirs.close()
    turn(poller)
    assert closed == [ours]
    assert not poller.get_map()


def test_who_does_not_end_is_closed_when_the_time_is_over(parts):
    """A caller who holds the connection is given LINGER_SECONDS, once."""
    hanging, clock, poller, ours, _, closed = parts
    hanging.begin(poller, ours, lambda: closed.append(ours))
    clock.now += LINGER_SECONDS - 0.01
    hanging.look(poller)
    assert closed == []
    clock.now += 0.01
    hanging.look(poller)
    hanging.look(poller)
    assert closed == [ours]


def test_who_goes_on_sending_is_closed_at_the_bound(parts):
    """No more than LINGER_BYTES are read of somebody who does not stop."""
    hanging, _, poller, ours, theirs, closed = parts
    hanging.begin(poller, ours, lambda: closed.append(ours))
    sent = 0
    while not closed:
        assert sent <= LINGER_BYTES
        theirs.sendall(b"x" * 8192)
        sent += 8192
        turn(poller)
    assert sent >= LINGER_BYTES


def test_who_is_gone_already_is_closed_at_once(parts):
    """A connection that cannot be ended is not waited for."""
    hanging, _, poller, ours, _, closed = parts
    ours.close()
    hanging.begin(poller, ours, lambda: closed.append(ours))
    assert closed == [ours]
    assert not poller.get_map()
