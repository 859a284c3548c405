"""`make image` and `make image-test`: build both images, then start and use them.

Uses docker, podman or buildah, whichever works here first (`IMAGE_BUILDER` chooses). What a build
needs beside that comes from outside: `BASE_IMAGE` names a local base, `IMAGE_BUILD_ARGS` adds
arguments, as for a package index that needs a mount, and `IMAGE_RUN_ARGS` adds some to docker's or
podman's `run`, as for another runtime. Started are the images' own commands, from their own file
systems, read-only but for /tmp and the state's folder, as their own user. What does not hold is one
line on stderr and exit status 1. Standard library only.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
TARGETS = ("web", "api")
PROGRAMS = ("docker", "podman", "buildah")
STATE = "/var/lib/quillgate"
CHECK = ROOT / "deploy" / "image_check.py"
CHECK_SECONDS = 300
USER = "10001:10001"


class ImageError(Exception):
    """An image cannot be built, or is not as it should be; the message is one line."""


@dataclass(frozen=True)
class Config:
    """What an image says of itself."""

    command: list[str]
    user: str
    environ: dict[str, str]
    folder: str
    health_check: list[str]

    @classmethod
    def read(cls, config: dict[str, Any], health: dict[str, Any] | None) -> Config:
        return cls(
            command=config.get("Cmd") or [],
            user=config.get("User", ""),
            environ=dict(pair.split("=", 1) for pair in config.get("Env") or []),
            folder=config.get("WorkingDir", "/"),
            health_check=(health or {}).get("Test", [])[1:],
        )


class Builder(Protocol):
    """A program that builds images and can run one."""

    def build(self, target: str, arguments: list[str]) -> None: ...
    def config(self, image: str) -> Config: ...
    def run(self, image: str, script: Path, arguments: list[str]) -> int: ...


class Engine:
    """docker or podman."""

    def __init__(self, program: str) -> None:
        self._program = program

    def build(self, target: str, arguments: list[str]) -> None:
        docker_format = ["--format", "docker"] if self._program == "podman" else []
        called(self._program, "build", *docker_format, *arguments, *_named(target), ".")

    def config(self, image: str) -> Config:
        [told] = json.loads(called(self._program, "inspect", image, quiet=True))
        # docker has it within what the image says of itself, podman beside that.
        health = told["Config"].get("Healthcheck") or told.get("Healthcheck")
        return Config.read(told["Config"], health)

    def run(self, image: str, script: Path, arguments: list[str]) -> int:
        command = [
            *(self._program, "run", "--rm", "--interactive", "--read-only"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            # A volume without a name has the owner and the rights of the image's folder.
            *("--tmpfs", "/tmp", "--volume", STATE),  # noqa: S108 - in the container
            *shlex.split(os.environ.get("IMAGE_RUN_ARGS", "")),
            *("--entrypoint", "python", image, "-", *arguments),
        ]
        with script.open("rb") as source:
            return subprocess.run(
                command, stdin=source, timeout=CHECK_SECONDS, check=False
            ).returncode


class Buildah:
    """Debian's buildah, without a daemon; to run an image read-only it needs root."""

    def build(self, target: str, arguments: list[str]) -> None:
        called("buildah", "build", "--format", "docker", *arguments, *_named(target), ".")

    def config(self, image: str) -> Config:
        told = json.loads(called("buildah", "inspect", "--type", "image", image, quiet=True))
        return Config.read(told["OCIv1"]["config"], told["Docker"]["config"].get("Healthcheck"))

    def run(self, image: str, script: Path, arguments: list[str]) -> int:
        config = self.config(image)
        environ = [f"{name}={value}" for name, value in config.environ.items()]
        with self._mounted(image) as root:
            inside = shlex.join(["python", "-", *arguments])
            command = [
                *("unshare", "--mount", "--propagation", "private", "sh", "-euc", _READ_ONLY),
                *("sh", str(root), f"cd {config.folder} && exec {inside}", *environ),
            ]
            with script.open("rb") as source:
                return subprocess.run(
                    command, stdin=source, timeout=CHECK_SECONDS, check=False
                ).returncode

    @contextmanager
    def _mounted(self, image: str) -> Iterator[Path]:
        container = called("buildah", "from", "--pull-never", image, quiet=True).strip()
        try:
            yield Path(called("buildah", "mount", container, quiet=True).strip())
        finally:
            called("buildah", "umount", container, quiet=True)
            called("buildah", "rm", container, quiet=True)


# In a mount namespace of its own: $1 is the image's root, $2 the command, the rest its environment.
_READ_ONLY = f"""
root=$1 inside=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs "$root{STATE}"
exec chroot --userspec={USER} "$root" /usr/bin/env -i "$@" sh -c "$inside"
"""


def _named(target: str) -> tuple[str, ...]:
    return ("--target", target, "--tag", f"quillgate-{target}")


def called(*command: str, quiet: bool = False) -> str:
    """Run a command and return what it printed. Raise ImageError if it fails."""
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(command, cwd=ROOT, stdout=output, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(command[:2])} ended with status {done.returncode}")
    return done.stdout or ""


def builder(wanted: str | None) -> Builder:
    """Return what works here; say of what stands before it why not. Raise ImageError."""
    for program in (wanted,) if wanted else PROGRAMS:
        if shutil.which(program) is None:
            continue
        if program == "buildah":
            return Buildah()
        # A client without its engine is no builder.
        asked = subprocess.run([program, "info"], capture_output=True, text=True, check=False)
        if not asked.returncode:
            return Engine(program)
        said = asked.stderr.strip().splitlines()
        why = said[-1] if said else f"`{program} info` ended with status {asked.returncode}"
        print(f"image: {program} is installed and does not work: {why}", file=sys.stderr)
    if wanted:
        raise ImageError(f"IMAGE_BUILDER={wanted}: install it, or choose of {', '.join(PROGRAMS)}")
    raise ImageError("install docker (and start its daemon), podman or buildah")


def build(tool: Builder) -> None:
    arguments = shlex.split(os.environ.get("IMAGE_BUILD_ARGS", ""))
    if base := os.environ.get("BASE_IMAGE"):
        arguments += ["--build-arg", f"BASE_IMAGE={base}"]
    for target in TARGETS:
        tool.build(target, arguments)


def check(tool: Builder) -> None:
    """Start each image and use it. Raise ImageError for the first that is not as it should be."""
    for target in TARGETS:
        image = f"quillgate-{target}"
        config = tool.config(image)
        if config.command != ["python", "-m", target] or config.user != USER:
            raise ImageError(f"{image} runs {config.command} as {config.user!r}")
        if not config.health_check:
            raise ImageError(f"{image} has no HEALTHCHECK")
        arguments = [target, json.dumps(config.command), json.dumps(config.health_check)]
        if tool.run(image, CHECK, arguments):
            raise ImageError(f"{image} does not hold what it should: see above")
        print(f"{image}: holds")


def main() -> int:
    try:
        tool = builder(os.environ.get("IMAGE_BUILDER"))
        {"build": build, "test": check}[sys.argv[1]](tool)
    except (ImageError, OSError, subprocess.TimeoutExpired) as failure:
        print(f"image: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
