"""README.md and docs/: every setting is listed with its default, and every link leads somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from configs.settings import Settings, variables

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_of_settings_has_every_variable_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    assert {name: default.strip("`") for name, default in rows} == {
        name: _shown(name, Settings.model_fields[field].default) for name, field in variables().items()
    }


def _shown(variable: str, value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, int) and variable.endswith("_BYTES"):
        return f"{value >> 30} GiB" if value >= 2**30 else f"{value >> 20} MiB"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _links(page):
        place, _, anchor = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in _links(ROOT / "README.md")}
    assert set(PAGES[1:]) <= linked


def _links(page: Path) -> Iterator[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return (target for target in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in target)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_test_that_the_threats_name_exists() -> None:
    page = (ROOT / "docs" / "threats.md").read_text()
    table = [row.split("|") for row in page.splitlines() if row.startswith("| ")][1:]
    assert len(table) > 15
    for *_, named, _ in table:
        tests = re.findall(r"`(tests/[^`]+)`", named)
        assert tests, named
        for test in tests:
            path, _, name = test.partition("::")
            source = (ROOT / path).read_text()
            assert re.search(rf"^(async )?def {name or 'test_'}", source, re.MULTILINE), test
