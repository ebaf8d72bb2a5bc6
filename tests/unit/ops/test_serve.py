"""What visiongraph serve does before Ray starts."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from graphs.web import access_log
from graphs.web.access_log import AccessLog, Follower
from ops.cli import serve
from ops.cli.serve import _access_log_printed, _print_where_links_lead, configuration, empty_spool, locked
from ops.cluster import ClusterError
from ops.plan.choice import CONFIGS, DoesNotFitError
from tests.graphs.harness import settings_in
from tests.unit.graphs.web.test_access_log import DONE
from tests.unit.ops.plan.machines import machine


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


def test_the_access_log_is_printed_as_it_comes_to_its_last_line_and_through_renames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "CHECK_S", 0.0)
    log = AccessLog(tmp_path, 2500, 50)
    log.write(DONE)  # by an earlier run
    log.close()
    with _access_log_printed(tmp_path):
        for number in range(12):
            log.write(replace(DONE, request_id=f"r-{number}"))
    log.close()
    printed = capsys.readouterr().out
    assert printed.endswith("\n")
    assert [json.loads(line)["request_id"] for line in printed.splitlines()] == [f"r-{n}" for n in range(12)]
    assert (tmp_path / f"{access_log.NAME}.1").exists()


def test_half_a_line_is_printed_when_it_is_whole(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    assert follower.read() == b""
    path = tmp_path / access_log.NAME
    path.write_bytes(b"one\ntw")
    assert follower.read() == b"one\n"
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    path.rename(tmp_path / "moved")
    path.write_bytes(b"four\n")
    assert follower.read() == b"two\nthree\nfour\n"
    assert follower.read() == b""
    follower.close()


def test_a_second_service_of_the_same_home_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    refusal = f"pid {os.getpid()}.*{home}.*VISION_HOME"
    with locked(home), pytest.raises(ClusterError, match=refusal), locked(home):
        pass
    with locked(home), locked(tmp_path / "other"):
        pass


def test_what_kill_9_left_locks_nobody_out(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from ops.cli.serve import locked\n"
        "with locked(Path(sys.argv[1])): print('it is locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ClusterError, match=f"pid {process.pid}"), locked(tmp_path):
            pass
        process.kill()
    with locked(tmp_path):
        pass


def test_a_taken_port_is_named_with_the_option_that_picks_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "FREE_WITHIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ClusterError, match=f"Port {port} on 127.0.0.1 is taken .*--dashboard-port"):
            serve._refuse_taken_port("127.0.0.1", port, "--dashboard-port")
    serve._refuse_taken_port("127.0.0.1", port, "--port")


def test_what_fits_is_served_and_what_does_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    production, _, laptop = CONFIGS
    choice, config = configuration(None, [machine(4, memory_gb=16)], port=8123)
    assert (choice.path, config["http_options"]["port"]) == (laptop, 8123)
    choice, config = configuration(None, [machine(64, [None] * 8)])
    assert choice.path == production
    assert len(config["applications"]) == 12
    assert configuration(laptop, [machine(64, [None] * 8)])[0].path == laptop
    with pytest.raises(DoesNotFitError, match=r"^serve_config\.yaml cannot start: \w+\.\w+ does not fit: .* CPUs"):
        configuration(production, [machine(4, [None], memory_gb=64)])
