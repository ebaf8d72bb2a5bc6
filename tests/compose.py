"""Compose files as Compose reads them, and their services as processes, as no container engine runs here."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vision.parent import launcher

FOLDER = Path(__file__).parents[1] / "ops" / "deploy"
VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:[-?])([^}]*))?\})")
SECRETS = (
    "API_KEY",
    "MONGODB_PASSWORD",
    "VALKEY_PASSWORD",
    "S3_SECRET_KEY",
    "S3_VOLUME_KEY",
    "S3_FILER_KEY",
    "GRAFANA_PASSWORD",
)
"""What docs/deployment.md puts into .env."""
HEALTHY_WITHIN_S, STOPS_WITHIN_S = 180, 60


class MissingVariable(Exception):
    """Compose refuses to start, as a variable that has to be set is not."""


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}`` and ``$$`` replaced.

    :raises MissingVariable: a variable with ``:?`` is not set.
    """

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if name is None:
            return "$"
        if environment.get(name):
            return environment[name]
        if operator == ":?":
            raise MissingVariable(f"{name}: {rest}")
        return rest or ""

    return VARIABLE.sub(value, text)


def read(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return a Compose file with its variables replaced. Raises MissingVariable."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(each) for key, each in value.items()}
        if isinstance(value, list):
            return [replaced(each) for each in value]
        return interpolate(value, environment) if isinstance(value, str) else value

    return dict(replaced(yaml.safe_load(path.read_text(encoding="utf-8"))))


def confined(service: Mapping[str, Any], writable: Sequence[Path]) -> list[str]:
    """Return what starts a command as the file confines its container: no capability, and little that it may write to.

    Needs a root that may make mount namespaces; a container has a user of its own beside that.
    """
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    mounts = [f"mount --bind {shlex.quote(str(each))} {shlex.quote(str(each))}" for each in writable]
    script = " && ".join(["mount --make-rprivate /", *mounts, "mount -o remount,bind,ro /", 'exec "$@"'])
    no_rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
    return [str(shutil.which("unshare")), "--mount", "--", "sh", "-c", script, "sh", *no_rights]


def can_confine() -> bool:
    """Return whether this process may make mount namespaces."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True) if shutil.which("setpriv") else None
    return done is not None and done.returncode == 0


@dataclass
class Process:
    """A service as a process: the command and the environment that its file gives it.

    ``instead`` is what a container would have brought along → what is here in its place: ports, host names, folders of
    volumes, programs. Each has to occur in the command, the environment or the health check, or the file has changed.
    """

    name: str
    service: Mapping[str, Any]
    instead: Mapping[str, str]
    folder: Path
    path: Path | None = None
    """Folder of the programs that it calls by name."""
    entrypoint: Sequence[str] = ()
    """The program of its image, where the command has arguments alone."""
    image: Mapping[str, str] = field(default_factory=dict)
    """Environment that its image has."""
    healthcheck: Sequence[str] = ()
    """That of its image, where the file has none."""
    writable: Sequence[Path] = ()
    """Folders in the place of its volumes and of /tmp: where it may write when it is ``confined``."""
    _unused: set[str] = field(default_factory=set)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def environment(self) -> dict[str, str]:
        """Return the environment that the file gives it, over that of this process."""
        given = {name: self._here(str(value)) for name, value in self.service.get("environment", {}).items()}
        path = {"PATH": f"{self.path}{os.pathsep}{os.environ['PATH']}"} if self.path else {}
        return os.environ | path | self.image | given

    @contextmanager
    def running(self) -> "Iterator[subprocess.Popen[bytes]]":
        """Run it until the block ends, then stop it as Compose does, by SIGTERM."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._unused = set(self.instead)
        environment = self.environment()
        given = (word for each in self.service["command"] for word in self._words(each))
        program, *words = [*self.entrypoint, *given]
        command = [str(shutil.which(program, path=environment["PATH"])), *words]
        if self.writable:
            command = [*confined(self.service, self.writable), *command]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*launcher(signal.SIGTERM), str(os.getpid()), *command],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._await_healthy(process)
            assert not self._unused, f"{self.name}: no {self._unused} in the file"
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOPS_WITHIN_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _await_healthy(self, process: "subprocess.Popen[bytes]") -> None:
        """Run its health check until that passes. Raises RuntimeError with its log when it ends or takes too long."""
        own = self.service.get("healthcheck", {})
        kind, *words = own.get("test", ["CMD", *self.healthcheck])
        check = [self._here(word) for word in words]
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while process.poll() is None and time.monotonic() < deadline:
            done = subprocess.run(
                ["sh", "-c", *check] if kind == "CMD-SHELL" else check, env=self.environment(), capture_output=True
            )
            if done.returncode == 0:
                return
            time.sleep(0.2)
        raise RuntimeError(f"{self.name} is not healthy:\n{self.log.read_text(errors='replace')[-3000:]}")

    def _words(self, word: str) -> list[str]:
        """Return a word of the command as it is here: one that is replaced as a whole may become several."""
        here = self._here(word)
        return here.split() if word in self.instead else [here]

    def _here(self, text: str) -> str:
        def replaced(match: re.Match[str]) -> str:
            self._unused.discard(match[0])
            return self.instead[match[0]]

        longest_first = sorted(self.instead, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), replaced, text) if self.instead else text
