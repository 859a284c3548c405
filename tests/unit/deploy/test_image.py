"""`make image` takes the first tool that works, and says of one that is there and does not."""

from __future__ import annotations

import json

import pytest

from deploy import image

NO_ENGINE = """#!/bin/sh
echo 'Client: here' && echo 'Cannot connect to the daemon.' >&2 && exit 1
"""
WORKS = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that puts programs on an otherwise empty PATH."""

    def put(**programs: str) -> None:
        for name, text in programs.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}")
    put(sh="#!/bin/sh\n")
    return put


def test_a_client_without_its_engine_is_passed_over_with_a_line(installed, capsys):
    """docker's client alone is told of in one line, with its own reason; podman builds."""
    installed(docker=NO_ENGINE, podman=WORKS, buildah=WORKS)
    assert isinstance(image.builder(None), image.Engine)
    told = capsys.readouterr().err
    assert told == ("image: docker is installed and does not work: Cannot connect to the daemon.\n")


def test_the_last_of_them_is_buildah(installed, capsys):
    """Where neither has an engine, buildah, which needs none, is what builds."""
    installed(docker=NO_ENGINE, podman=NO_ENGINE, buildah=WORKS)
    assert isinstance(image.builder(None), image.Buildah)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_tool_that_says_nothing_has_its_status_told(installed, capsys):
    """Also a tool that fails silently has a reason in its line."""
    installed(docker="#!/bin/sh\nexit 7\n", buildah=WORKS)
    image.builder(None)
    assert "`docker info` ended with status 7" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", [None, "podman", "nerdctl"])
def test_where_nothing_works_one_line_says_what_to_install(installed, wanted):
    """A tool that was asked for is not replaced by another behind the caller's back."""
    installed(docker=NO_ENGINE, **({"buildah": WORKS} if wanted else {}))
    with pytest.raises(image.ImageError, match=wanted or "install docker") as refused:
        image.builder(wanted)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("within", [True, False])
def test_the_health_check_is_found_where_each_tool_tells_it(installed, within):
    """docker's `inspect` has it in the image's configuration, podman's beside that."""
    config = {"Cmd": ["python"], "User": "1:1", "Env": ["A=b=c"], "WorkingDir": "/app"}
    check = {"Healthcheck": {"Test": ["CMD", "python", "-c", "pass"]}}
    told = {"Config": {**config, **check}} if within else {"Config": config, **check}
    installed(podman=f"#!/bin/sh\necho '{json.dumps([told])}'\n")
    read = image.Engine("podman").config("quillgate-web")
    assert read.health_check == ["python", "-c", "pass"]
    assert (read.command, read.user, read.environ) == (["python"], "1:1", {"A": "b=c"})
