"""Several processes of one machine, and processes that are killed."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.unit.vision.weights.servers import Server, url_store
from vision.weights import locate

CONTENT = bytes(range(256)) * 4096
CHUNK = 1 << 18
RESOLVE = """
import logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.unit.vision.weights.servers import url_store
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
store = url_store(sys.argv[2], Path(sys.argv[3]), bytes(range(256)) * 4096)
print(store.resolve("tiny").version, flush=True)
"""


def resolving(server: Server, cache: Path) -> "subprocess.Popen[str]":
    arguments = [str(Path(__file__).parents[4]), server.base, str(cache)]
    root = Path(__file__).parents[4]
    return subprocess.Popen([sys.executable, "-c", RESOLVE, *arguments], cwd=root, stdout=subprocess.PIPE, text=True)


def test_two_processes_download_once(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    server.held = threading.Event()
    with resolving(server, tmp_path) as first:
        assert server.arrived.wait(60)
        with resolving(server, tmp_path) as second:
            assert second.stdout
            assert second.stdout.readline().endswith("waiting for another process that downloads them\n")
            server.held.set()
            answers = [process.communicate(timeout=60)[0].splitlines()[-1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert answers == [url_store(server.base, tmp_path, CONTENT).resolve("tiny").version] * 2
    assert len(server.asked) == 1


def test_a_killed_download_leaves_nothing_half_written_and_goes_on(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    server.cuts, server.stall = [2 * CHUNK], threading.Event()
    part = tmp_path / "tiny" / ".parts" / "w.bin"
    with resolving(server, tmp_path) as process:
        try:
            deadline = time.monotonic() + 60
            while not (part.is_file() and part.stat().st_size == 2 * CHUNK):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
            server.stall.set()
    use = url_store(server.base, tmp_path, CONTENT)
    assert not (tmp_path / "tiny" / "w.bin").exists()
    assert locate(use, "tiny") == (False, "url 127.0.0.1")
    assert use.resolve("tiny").files["w.bin"].read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == [None, f"bytes={2 * CHUNK}-"]
    assert not part.parent.exists()
