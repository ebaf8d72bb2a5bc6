"""The embedded Valkey server: its data, its neighbours and its end."""

import asyncio
import os
import signal
import stat
import time
from pathlib import Path
from threading import Thread

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from stores.cache import Cache
from stores.errors import StoreError
from stores.valkey import MAX_SOCKET_PATH_BYTES, ValkeyServer, start
from tests.stores.children import spawn
from tests.waiting import PATIENCE_S, wait_for


def ends(pid: int) -> bool:
    """Whether the process ends in time; a zombie has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_values_survive_a_restart(tmp_path: Path) -> None:
    with start(tmp_path) as first, Redis.from_url(first.url) as redis:
        redis.set("key", "value")
    assert ends(first.pid)
    with start(tmp_path) as second, Redis.from_url(second.url) as redis:
        assert redis.get("key") == b"value"
        assert redis.config_get("appendfsync", "maxmemory", "maxmemory-policy") == {
            "appendfsync": "everysec",
            "maxmemory": str(256 * 2**20),
            "maxmemory-policy": "allkeys-lru",
        }
    assert second.url == first.url


def test_values_survive_kill_9_of_the_server(tmp_path: Path) -> None:
    with start(tmp_path) as server, Redis.from_url(server.url) as redis:
        for number in range(1000):
            redis.set(f"key-{number}", number)
        os.kill(server.pid, signal.SIGKILL)
        assert ends(server.pid)
    with start(tmp_path) as server, Redis.from_url(server.url) as redis:
        assert redis.dbsize() == 1000


def test_only_its_owner_gets_in(valkey: ValkeyServer, tmp_path: Path) -> None:
    assert valkey.url.startswith("unix://:")
    config = tmp_path / "valkey" / "valkey.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "valkey" / "valkey.sock").stat().st_mode) == 0o700
    assert "port 0\n" in config.read_text()
    with pytest.raises(AuthenticationError):
        Redis(unix_socket_path=str(tmp_path / "valkey" / "valkey.sock"), retry=Retry(NoBackoff(), 0)).ping()
    command_line = Path(f"/proc/{valkey.pid}/cmdline").read_text()
    assert valkey.url.split("@")[0].removeprefix("unix://:") not in command_line


def test_a_second_server_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.valkey.LOCK_WAIT_S", 0.0)
    with start(tmp_path) as server, Redis.from_url(server.url) as redis:
        with pytest.raises(StoreError, match="another server uses"):
            start(tmp_path)
        assert redis.ping()
    with start(tmp_path):
        pass


def test_a_deep_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with start(deep) as server, Redis.from_url(server.url) as redis:
        assert redis.ping()
        socket = Path(server.url.split("@")[1])
        assert len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert (deep / "appendonlydir").is_dir()
    other = tmp_path / ("d" * 60) / ("f" * 60)
    with start(deep) as first, start(other) as second:
        assert first.url.split("@")[1] != second.url.split("@")[1]


def test_stopping_twice_is_fine(tmp_path: Path) -> None:
    server = start(tmp_path)
    server.stop()
    server.stop()
    assert ends(server.pid)


def test_the_thread_that_started_it_may_end(tmp_path: Path) -> None:
    servers: list[ValkeyServer] = []
    thread = Thread(target=lambda: servers.append(start(tmp_path)))
    thread.start()
    thread.join()
    with servers[0], Redis.from_url(servers[0].url) as redis:
        time.sleep(0.2)  # the death signal, were it bound to the thread, needs a moment to act
        assert redis.ping()


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with spawn("hold_valkey", str(tmp_path)) as parent:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        with Redis.from_url(url) as redis:
            redis.set("key", "value")
        parent.kill()
    assert ends(int(pid))
    with start(tmp_path) as server, Redis.from_url(server.url) as redis:
        assert redis.get("key") == b"value"


def test_a_server_that_does_not_start_tells_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("in the way")
    with pytest.raises(StoreError, match="appendonly"):
        start(tmp_path)


def answers(url: str) -> bool:
    """Whether the server at the address answers in time."""
    deadline = time.monotonic() + PATIENCE_S
    with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as redis:
        while time.monotonic() < deadline:
            try:
                return bool(redis.ping())
            except RedisError:
                time.sleep(0.02)
    return False


def test_a_supervised_server_comes_back_as_often_as_it_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stores.valkey")
    with start(tmp_path, supervised=True) as server, Redis.from_url(server.url) as redis:
        redis.set("key", "value")
        for _ in range(2):
            killed = server.pid
            os.kill(killed, signal.SIGKILL)
            assert ends(killed)
            assert answers(server.url)
            assert Redis.from_url(server.url).get("key") == b"value"
            wait_for(lambda killed=killed: server.pid != killed)
        last = server.pid
    assert ends(last)
    assert ["is gone" in text for text in caplog.messages] == [True, False] * 2
    assert ["runs again" in text for text in caplog.messages] == [False, True] * 2


async def test_the_cache_of_a_gateway_is_there_again_with_its_server(tmp_path: Path) -> None:
    with start(tmp_path, supervised=True) as server:
        cache = Cache(server.url)
        await cache.set_many({"key": b"value"}, ttl_s=60)
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        assert ends(killed)
        seen = [await cache.ping()]
        deadline = time.monotonic() + PATIENCE_S
        while not seen[-1] and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            seen.append(await cache.ping())
        assert seen[-1]
        assert await cache.get_many(["key"]) == [b"value"]
        await cache.close()


@pytest.mark.parametrize("obstacle", ["appendonlydir", "valkey.conf"])
def test_one_that_cannot_be_started_again_is_tried_on_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    monkeypatch.setattr("stores.valkey.MAX_BACKOFF_S", 0.4)
    caplog.set_level("INFO", "stores.valkey")
    with start(tmp_path, supervised=True) as server:
        way, aside = tmp_path / obstacle, tmp_path / "aside"
        way.rename(aside)
        way.mkdir() if obstacle == "valkey.conf" else way.write_text("in the way")
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: sum("cannot" in text for text in caplog.messages) == 1)
        time.sleep(1.0)
        assert [("is gone" in text, "cannot" in text) for text in caplog.messages] == [(True, False), (False, True)]
        way.rmdir() if obstacle == "valkey.conf" else way.unlink()
        aside.rename(way)
        assert answers(server.url)
    assert ends(server.pid)


def test_one_that_cannot_be_started_again_can_be_stopped(tmp_path: Path) -> None:
    server = start(tmp_path, supervised=True)
    (tmp_path / "appendonlydir").rename(tmp_path / "aside")
    (tmp_path / "appendonlydir").write_text("in the way")
    os.kill(server.pid, signal.SIGKILL)
    time.sleep(0.3)
    stopped_at = time.monotonic()
    server.stop()
    assert time.monotonic() - stopped_at < 10
    assert ends(server.pid)
