"""Submitting a run: where its sources are, to which cluster, and how its end is told. The client is a stand-in."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.job_submission
from ray._private import services

from ops.bulk.submit import Submission, absolute, submit
from ops.cluster import ClusterError


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("s3://bucket/films?endpoint_url=http://store:8333", "s3://bucket/films?endpoint_url=http://store:8333"),
        ("0" * 32, "0" * 32),
        ("films", "{here}/films"),
        ("../films/**/*.mp4", "{here}/../films/**/*.mp4"),
        ("@ids.txt", "@{here}/ids.txt"),
        ("/archive/a.mp4", "/archive/a.mp4"),
    ],
)
def test_a_source_is_found_from_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute(source) == found.format(here=tmp_path)


class Client:
    """A client of a dashboard, with one job that ended like this."""

    def __init__(self, address: str = "", **info: Any) -> None:
        self.address, self.info = address, {"message": "", "driver_exit_code": None} | info
        self.entrypoints: list[str] = []

    def submit_job(self, *, entrypoint: str) -> str:
        self.entrypoints.append(entrypoint)
        return "job-1"

    async def tail_job_logs(self, _job_id: str) -> AsyncIterator[str]:
        if "lost" in self.info:
            raise RuntimeError("the connection is closed")
        for text in ("half a li", "ne\nand one\n"):
            yield text

    def get_job_info(self, _job_id: str) -> Any:
        return SimpleNamespace(**self.info)


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("FAILED", 3)])
def test_the_exit_code_is_that_of_the_run(status: str, code: int) -> None:
    shown: list[str] = []
    assert Submission(Client(status=status, driver_exit_code=code), "job-1").follow(shown.append) == code
    assert "".join(shown) == "half a line\nand one\n"


def test_a_run_that_never_started_says_why() -> None:
    submission = Submission(Client(status="FAILED", message="Job supervisor actor could not be scheduled"), "job-1")
    with pytest.raises(ClusterError, match="job-1 failed: Job supervisor actor could not be scheduled"):
        submission.follow(print)


def test_a_run_may_outlive_the_connection_to_it() -> None:
    with pytest.raises(ClusterError, match="job job-1 may run on"):
        Submission(Client(lost=True), "job-1").follow(print)


def test_a_cluster_elsewhere_is_named_by_its_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[Client] = []

    def client(address: str) -> Client:
        clients.append(Client(address))
        return clients[-1]

    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", client)
    assert submit(["--share=0.5", "--", "s3://bucket/my films"]).job_id == "job-1"
    assert clients[0].address == "http://head:8265"
    assert clients[0].entrypoints == ["python -m ops.bulk --share=0.5 -- 's3://bucket/my films'"]


def test_one_of_several_rays_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: {"127.0.0.1:5", "10.0.0.7:6379"})
    with pytest.raises(ClusterError, match=r"\(10.0.0.7:6379, 127.0.0.1:5\); name one in RAY_ADDRESS"):
        submit(["films"])


def test_without_a_cluster_it_says_what_starts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(ClusterError, match="start the service with `visiongraph serve`, leave out --submit"):
        submit(["films"])
