"""What visiongraph serve does before Ray starts."""

from pathlib import Path

from ops.cli.serve import empty_spool


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
