"""Media files are opened in one place."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_one_module_opens_media() -> None:
    floors = ("vision", "stores", "deployments", "graphs")
    files = [path for floor in floors for path in (ROOT / floor).rglob("*.py")]
    assert len(files) > 100
    opening = [path.relative_to(ROOT).as_posix() for path in files if re.search(r"\bav\.open\(", path.read_text())]
    assert opening == ["vision/media/container.py"]
