"""What visiongraph serve does before Ray starts."""

from pathlib import Path

import pytest

from ops.cli.serve import _print_where_links_lead, empty_spool
from tests.graphs.harness import settings_in


def test_what_a_killed_run_left_in_the_spool_is_removed(tmp_path: Path) -> None:
    spool = tmp_path / "home" / "spool"
    (spool / "poster-1").mkdir(parents=True)
    (spool / "poster-1" / "poster.jpg").write_bytes(b"half")
    (spool / "upload").write_bytes(b"half")
    empty_spool(spool)
    assert list(spool.iterdir()) == []


def test_the_spool_is_made(tmp_path: Path) -> None:
    empty_spool(tmp_path / "home" / "spool")
    assert (tmp_path / "home" / "spool").is_dir()


@pytest.mark.parametrize(
    ("host", "values", "says"),
    [
        ("127.0.0.1", {"allowed_hosts": ""}, False),
        ("::1", {"allowed_hosts": ""}, False),
        ("localhost", {"allowed_hosts": ""}, False),
        ("0.0.0.0", {"allowed_hosts": ""}, True),
        ("::", {"allowed_hosts": ""}, True),
        ("10.0.0.7", {"allowed_hosts": ""}, True),
        ("0.0.0.0", {"allowed_hosts": "vision.example"}, False),
        ("0.0.0.0", {"allowed_hosts": "", "public_url": "https://vision.example"}, False),
    ],
)
def test_who_serves_other_machines_hears_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, values: dict[str, str], says: bool
) -> None:
    with settings_in(tmp_path, **values) as config:
        _print_where_links_lead(host, config)
    assert ("VISION_PUBLIC_URL" in capsys.readouterr().out) is says
