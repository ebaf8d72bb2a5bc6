"""The local models file: entries are put into it, merged over those of configs/models.yaml, and nothing is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from configs import settings as settings_module
from ops.check.code import Code, model_faults
from tests.unit.vision.weights.servers import hub_source, model
from vision.weights import RegistryInvalid, load_registry, registry, resolve, store
from vision.weights.local import write_entry
from vision.weights.registry import MODELS_YAML

FOLDER = {"folder": {"path": "mine"}}


def entry(content: bytes = b"abc", **fields: object) -> dict[str, Any]:
    return model({"w.bin": content}, FOLDER, **fields)


WRITTEN = """\
# our own models, do not touch without asking Ida

first:  # trained in May
{first}
# the second one
# is better
'second':
{second}

# end
"""


def indented(entry: dict[str, Any]) -> str:
    text = yaml.safe_dump(entry, sort_keys=False)
    return "".join(f"    {line}\n" for line in text.splitlines()) + "    # a comment inside\n"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that VISION_MODELS_FILE names, which does not exist yet; weights are under ``weights``."""
    path = tmp_path / "own" / "models.yaml"
    monkeypatch.setenv("VISION_MODELS_FILE", str(path))
    monkeypatch.setenv("VISION_MODELS_DIR", str(tmp_path / "weights"))
    for cached in (settings_module.settings, store):
        cached.cache_clear()
    yield path
    for cached in (settings_module.settings, store):
        cached.cache_clear()


def test_the_first_entry_makes_the_file(local: Path) -> None:
    write_entry(local, "mine", entry())
    assert local.read_text().startswith("# Models of this installation")
    assert yaml.safe_load(local.read_text()) == {"mine": entry()}
    assert [path.name for path in local.parent.iterdir() if path.suffix != ".lock"] == ["models.yaml"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_a_person_wrote_stays(local: Path, newline: str) -> None:
    local.parent.mkdir()
    text = WRITTEN.format(first=indented(entry()), second=indented(entry(b"de")))
    local.write_text(text, newline=newline)
    local.chmod(0o640)
    write_entry(local, "third", entry(b"f"))
    with local.open(newline="") as file:
        assert file.read().startswith(text.replace("\n", newline))
    assert list(yaml.safe_load(local.read_text())) == ["first", "second", "third"]
    assert local.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("name", "lost"), [("first", "trained in May"), ("second", "nothing")])
def test_an_entry_is_replaced_where_it_stands(local: Path, name: str, lost: str) -> None:
    local.parent.mkdir()
    local.write_text(WRITTEN.format(first=indented(entry()), second=indented(entry(b"de"))))
    write_entry(local, name, entry(b"new", notes="changed"))
    read = yaml.safe_load(local.read_text())
    assert list(read) == ["first", "second"]
    assert read[name]["notes"] == "changed"
    comments = ["do not touch without asking Ida", "# the second one\n# is better\n", "\n# end\n", "trained in May"]
    assert [comment for comment in comments if comment not in local.read_text()] == [lost][: lost != "nothing"]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"json": ' + str(entry()).replace("'", '"').replace("True", "true") + "}",
        "first: {task: broken}\n",
        "first: [\n",
        "first: 1\n...\n",
    ],
)
def test_a_file_that_cannot_be_added_to_stays_as_it_is(local: Path, text: str) -> None:
    local.parent.mkdir()
    local.write_text(text)
    with pytest.raises(RegistryInvalid):
        write_entry(local, "mine", entry())
    assert local.read_text() == text


def test_a_bad_entry_is_not_written(local: Path) -> None:
    write_entry(local, "mine", entry())
    before = local.read_text()
    for bad in ({**entry(), "sources": [hub_source(revision="main")]}, {"task": "half"}):
        with pytest.raises(ValidationError):
            write_entry(local, "other", bad)
    assert local.read_text() == before


def test_entries_that_are_written_at_once_are_all_there(local: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_entry(local, f"model-{number}", entry()), range(8)))
    assert sorted(yaml.safe_load(local.read_text())) == [f"model-{number}" for number in range(8)]


def test_its_models_stand_over_the_shipped_ones_as_soon_as_they_are_written(local: Path, tmp_path: Path) -> None:
    shipped = load_registry().root
    assert registry().root == shipped
    with pytest.raises(Exception, match="mine: not registered"):
        resolve("mine")
    (tmp_path / "weights" / "mine").mkdir(parents=True)
    (tmp_path / "weights" / "mine" / "w.bin").write_bytes(b"abc")
    write_entry(local, "mine", entry())
    write_entry(local, "silero-vad", entry(description="ours"))
    assert resolve("mine").source == "folder mine"
    assert registry().root["silero-vad"].description == "ours"
    assert set(registry().root) == {*shipped, "mine"}
    local.unlink()
    assert registry().root == shipped


def test_without_the_variable_it_is_under_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    monkeypatch.delenv("VISION_MODELS_FILE", raising=False)
    assert settings_module.Settings().local_models == tmp_path.resolve() / "models.yaml"


def test_faults_of_it_are_named_and_stop_the_stages(local: Path) -> None:
    local.parent.mkdir()
    local.write_text(yaml.safe_dump({"mine": {**entry(), "licence": ""}}))
    with pytest.raises(RegistryInvalid, match=r"models.yaml of VISION_MODELS_FILE has faults.* mine.licence: String"):
        resolve("silero-vad")
    (fault,) = model_faults(Code(), MODELS_YAML)
    assert (fault.where, fault.what) == (str(local.resolve()), "mine.licence: String should have at least 1 character")


def test_check_knows_its_models(local: Path) -> None:
    write_entry(local, "mine", entry())
    code = Code()
    assert model_faults(code, MODELS_YAML) == []
    assert code.models == {*load_registry().root, "mine"}
