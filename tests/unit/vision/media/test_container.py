"""Files are opened in one place, and vision knows nothing of what is above it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_one_module_opens_media() -> None:
    floors = ("vision", "stores", "deployments", "graphs")
    files = [path for floor in floors for path in (ROOT / floor).rglob("*.py")]
    assert len(files) > 100
    opening = [path.relative_to(ROOT).as_posix() for path in files if re.search(r"\bav\.open\(", path.read_text())]
    assert opening == ["vision/media/container.py"]


def test_media_is_known_to_no_floor_above() -> None:
    for path in (ROOT / "vision" / "media").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (stores|deployments|graphs|ops)\b", path.read_text(), re.M), path.name
