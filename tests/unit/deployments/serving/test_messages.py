"""A caller and a stage of different versions of this program: each is run by a process that has its own version."""

import asyncio
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from ray import cloudpickle

from deployments.serving import messages
from deployments.serving.catalog import LocalStages
from deployments.serving.handle import StageHandle
from deployments.serving.messages import OtherVersion, Unreadable, register
from deployments.serving.runner import StageRunner
from tests.graphs.harness import ROOT
from vision.errors import InvalidInput, StageError, StageUnavailable

STAGE = """
from dataclasses import dataclass, field
from typing import NamedTuple
from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput
"""
VERSIONS = {
    "before": STAGE
    + """
class Place(NamedTuple):
    left: int
    top: int

@dataclass(frozen=True)
class Question:
    text: str
    place: Place
    old: str = "given up later"

@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    places: tuple[Place, ...]

class Talk(Stage[StageConfig, Question, Question, Answer]):
    key = "talk/talk"
    def predict(self, item):
        if not item.text:
            raise InvalidInput("There is no text.")
        return Answer(item.text.upper() + item.old[:0], (item.place,))

REF = StageRef[Question, Answer]("talk/talk")
ASKED = Question("hello", Place(1, 2))
""",
    "after": STAGE
    + """
class NoText(InvalidInput):
    code = "NO_TEXT"

class Place(NamedTuple):
    page: int = 1
    left: int = 0
    top: int = 0

@dataclass(frozen=True)
class Question:
    loud: bool = field(default=True, kw_only=True)
    text: str
    place: Place

@dataclass(frozen=True, slots=True)
class Answer:
    words: int = field(default=-1, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)
    text: str
    places: tuple[Place, ...]

class Talk(Stage[StageConfig, Question, Question, Answer]):
    key = "talk/talk"
    def predict(self, item):
        if not item.text:
            raise NoText("There is no text at all.")
        text = item.text.upper() if item.loud else item.text
        return Answer(text, (item.place,), words=len(text.split()), notes=["new"])

REF = StageRef[Question, Answer]("talk/talk")
ASKED = Question("hello", Place(left=1, top=2, page=3), loud=False)
""",
    "far": STAGE
    + """
class Place(NamedTuple):
    left: int
    top: int

@dataclass(frozen=True)
class Whisper:
    volume: float

@dataclass(frozen=True)
class Question:
    text: str
    place: Place
    voice: str

@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    whisper: Whisper

class Talk(Stage[StageConfig, Question, Question, Answer]):
    key = "talk/talk"
    def predict(self, item):
        return Answer(item.text, Whisper(0.5))

REF = StageRef[Question | Whisper, Answer]("talk/talk")
ASKED = Question("hello", Place(1, 2), "low")
""",
}


def write_frame(pipe: BinaryIO, data: bytes) -> None:
    pipe.write(struct.pack("<I", len(data)) + data)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> bytes:
    head = pipe.read(4)
    return pipe.read(struct.unpack("<I", head)[0]) if head else b""


async def answer_calls() -> None:
    """Run the stage of the version in the path of this process, for calls that come on its input."""
    spoken: Any = import_module("spoken")
    register(spoken.REF.input)
    register(spoken.REF.output)
    stages, runner = LocalStages([]), StageRunner(spoken.Talk)
    await runner.configure({})
    stages._runners["talk/talk"] = runner
    while data := read_frame(sys.stdin.buffer):
        args, keywords = cloudpickle.loads(data)
        write_frame(sys.stdout.buffer, cloudpickle.dumps(await stages.run(*args, **keywords)))
    await runner.close()


@contextmanager
def stage_of(version: Path) -> Iterator["subprocess.Popen[bytes]"]:
    program = f"import asyncio; from {__name__} import answer_calls; asyncio.run(answer_calls())"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{version}:{ROOT}", "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield process
    assert process.returncode == 0


@contextmanager
def caller_of(version: Path) -> Iterator[Any]:
    """The module of a version, in this process."""
    sys.path.insert(0, str(version))
    messages._find.cache_clear()
    try:
        spoken = import_module("spoken")
        register(spoken.REF.input)
        register(spoken.REF.output)
        yield spoken
    finally:
        sys.path.remove(str(version))
        sys.modules.pop("spoken", None)
        messages._find.cache_clear()


def handle_to(process: "subprocess.Popen[bytes]", **keywords: Any) -> StageHandle[Any, Any]:
    """A handle whose calls go to another process as Serve's do."""

    def exchange(data: bytes) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        write_frame(process.stdin, data)
        return cloudpickle.loads(read_frame(process.stdout))

    async def call(items: list[Any], deadline: float | None) -> list[Any]:
        data = cloudpickle.dumps((("talk/talk", items, deadline), keywords))
        results: list[Any] = await asyncio.to_thread(exchange, data)
        return results

    async def info() -> dict[str, Any]:
        return {}

    return StageHandle("talk/talk", call, info)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    for name, source in VERSIONS.items():
        (folder / name).mkdir()
        (folder / name / "spoken.py").write_text(source)
    return {name: folder / name for name in VERSIONS}


async def test_a_caller_of_the_version_before_and_a_stage_of_this_one(versions: dict[str, Path]) -> None:
    with caller_of(versions["before"]) as spoken, stage_of(versions["after"]) as process:
        handle = handle_to(process)
        answer = await handle(spoken.ASKED)
        # What the caller does not say has its default there; what it does not know is left out here.
        assert answer == spoken.Answer("HELLO", (spoken.Place(1, 2),))
        with pytest.raises(InvalidInput, match="no text at all") as raised:
            await handle(spoken.Question("", spoken.Place(1, 2)))
        assert (type(raised.value), raised.value.code) == (InvalidInput, "INVALID_INPUT")


async def test_a_caller_of_this_version_and_a_stage_of_the_one_before(versions: dict[str, Path]) -> None:
    with caller_of(versions["after"]) as spoken, stage_of(versions["before"]) as process:
        handle = handle_to(process, request_id="a keyword of a later version")
        answer = await handle(spoken.ASKED)
        assert answer == spoken.Answer("HELLO", (spoken.Place(page=1, left=1, top=2),), words=-1, notes=[])
        with pytest.raises(InvalidInput, match="no text"):
            await handle(spoken.Question("", spoken.Place()))


async def test_both_of_one_version(versions: dict[str, Path]) -> None:
    with caller_of(versions["after"]) as spoken, stage_of(versions["after"]) as process:
        answer = await handle_to(process)(spoken.ASKED)
        assert answer == spoken.Answer("hello", (spoken.Place(3, 1, 2),), words=1, notes=["new"])


@pytest.mark.parametrize(
    ("caller", "stage", "reason"),
    [("before", "far", "Question without voice"), ("far", "before", "Answer without whisper")],
)
async def test_versions_that_do_not_understand_each_other_say_so(
    versions: dict[str, Path], caller: str, stage: str, reason: str
) -> None:
    refused = pytest.raises(OtherVersion)
    with caller_of(versions[caller]) as spoken, stage_of(versions[stage]) as process, refused as raised:
        await handle_to(process)(spoken.ASKED)
    assert isinstance(raised.value, StageUnavailable)
    assert (raised.value.status, raised.value.retryable) == (503, True)
    assert raised.value.message == (
        f"Parts of the service run different versions, which do not understand each other ({reason}). "
        "They are being updated; try again in a minute."
    )


async def test_a_message_of_an_unknown_class_costs_its_own_item_alone(versions: dict[str, Path]) -> None:
    with caller_of(versions["far"]) as spoken, stage_of(versions["before"]) as process:

        async def info() -> dict[str, Any]:
            return {}

        async def call(items: list[Any], deadline: float | None) -> list[Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            write_frame(process.stdin, cloudpickle.dumps((("talk/talk", items, deadline), {})))
            results: list[Any] = cloudpickle.loads(read_frame(process.stdout))
            return results

        results = await call([spoken.Whisper(0.1), spoken.ASKED, (1, spoken.Whisper(0.2))], None)
    assert [type(each) for each in results] == [OtherVersion, Unreadable, OtherVersion]
    assert "no Whisper" in results[0].message


def test_what_cannot_be_read_says_so_wherever_it_is_used() -> None:
    stands_in = Unreadable("no Whisper")
    for use in (lambda: stands_in.volume, lambda: list(stands_in), lambda: stands_in[0]):
        with pytest.raises(OtherVersion, match="no Whisper"):
            use()
    copy = pickle.loads(pickle.dumps(stands_in))
    assert copy.error.message == stands_in.error.message


def test_every_error_of_a_stage_is_as_it_was_on_the_other_side() -> None:
    from vision.errors import ModelNotLoaded

    def classes(kind: type[StageError]) -> Iterator[type[StageError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from classes(each)

    for kind in classes(StageError):
        if kind.__module__ == StageError.__module__:
            copy = pickle.loads(pickle.dumps(kind("what was wrong")))
            assert (type(copy), copy.message, str(copy)) == (kind, "what was wrong", "what was wrong")
    copy = pickle.loads(pickle.dumps(ModelNotLoaded("no key\nof the provider", optional=True)))
    assert (copy.optional, copy.reason) == (True, "no key")
