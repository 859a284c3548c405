"""The folder of the state is its owner's alone, also one that was there before."""

from __future__ import annotations

import stat

import pytest

from auth.private_home import private_home


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_private(tmp_path):
    """It is made with its parents, 0700."""
    assert mode(private_home(tmp_path / "deep" / "home")) == 0o700


@pytest.mark.parametrize("kept", [(), ("secrets", "redis", "web-session-key", "models")])
def test_a_home_that_others_could_read_is_narrowed(tmp_path, kept):
    """Empty or with nothing but our state in it, a folder of 0755 becomes 0700."""
    for name in kept:
        (tmp_path / name).mkdir()
    tmp_path.chmod(0o755)
    private_home(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_folder_with_other_things_stays_as_it_is(tmp_path):
    """Nobody is locked out of a folder that is not only ours."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)
    private_home(tmp_path)
    assert mode(tmp_path) == 0o755
