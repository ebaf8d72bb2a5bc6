"""Numbers of a report."""

import json

from ops.bulk.report import FileReport, Report, summary

DONE = FileReport("a.mp4", "indexed", "a" * 32, "j", None, 1, 1800.0, 45000, 30000, 300, 40, 9, 7)
OLD = FileReport("b.mp4", "skipped", "b" * 32, "k", None, 1, 3600.0, 90000, 0, 500, 60, 12, 5)
BAD = FileReport("c.mp4", "failed", reason="It is damaged.")
HALF = FileReport("d.mp4", "unfinished", "d" * 32, "l", "The run was stopped.", 1, 60.0, 0, 1000)
ENDED = FileReport("f.mp4", "cancelled", "f" * 32, "m", "The job was cancelled.")
TWICE = FileReport("e.mp4", "duplicate", "a" * 32, reason="The same as a.mp4.", seconds=1800.0)


def test_totals_are_of_what_is_indexed_and_speed_of_what_was_decoded() -> None:
    report = Report(("films",), (DONE, OLD, BAD, HALF, TWICE), took=100.0, started_in=12.0)
    assert report.totals == {
        "files": 5,
        "hours": 1.5,
        "frames": 135000,
        "decoded_frames": 31000,
        "frames_per_s": 310.0,
        "shots": 800,
        "traces": 100,
        "objects": 12,
        "took_s": 100.0,
        "started_in_s": 12.0,
    }
    assert report.counts == {"indexed": 1, "skipped": 1, "failed": 1, "unfinished": 1, "duplicate": 1}


def test_the_report_is_json_and_says_why_files_failed() -> None:
    report = json.loads(json.dumps(Report(("films",), (DONE, BAD)).to_json()))
    assert report["sources"] == ["films"]
    assert report["failures"] == [{"name": "c.mp4", "reason": "It is damaged."}]
    assert report["files"][0]["decoded"] == 30000
    assert report["totals"]["frames_per_s"] == 0.0


def test_the_exit_code_tells_whether_all_is_indexed() -> None:
    assert Report((), (DONE, OLD, TWICE)).exit_code == 0
    assert Report((), (DONE, BAD, HALF)).exit_code == 1
    assert Report((), (DONE, HALF)).exit_code == 3
    assert Report((), (DONE, ENDED)).exit_code == 1
    assert Report(()).exit_code == 0


def test_the_table_has_a_line_for_each_state_and_each_failure() -> None:
    table = summary(Report((), (DONE, OLD, BAD, HALF, TWICE), took=100.0))
    first = list(table.columns[0].cells)
    assert first[:5] == ["files indexed", "files skipped", "files duplicate", "files failed", "files unfinished"]
    assert list(table.columns[1].cells)[-1] == "c.mp4: It is damaged."
