"""``python -m tests.cluster.two_nodes --out FILE``: the service on two nodes, of which one is lost in the middle.

The second node has a gateway and the worker of jobs with the stages on video. Its places are free on the first one as
soon as it is gone, so that what is lost with it starts there.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml

from graphs.indexing.jobs import BULK_INDEX, INDEX_VIDEO
from ops.cluster import HAPROXY_PORTS, free_port
from stores.jobs import Job
from stores.open import Stores
from tests.cluster.conftest import RunningService, photo, start, upload
from tests.cluster.faults.__main__ import HEAD, row_of
from tests.cluster.faults.observe import observe
from tests.cluster.nodes import TwoNodes, shared_stores, two_nodes
from tests.cluster.test_docs import MUZZLES, WALKS
from tests.graphs.harness import ROOT
from tests.graphs.indexing import long_film
from tests.graphs.samples import audio, picture, video

PLACES = "places"
"""A resource of both nodes; that of the head is taken until the other one is lost."""
TITLE = """# Two nodes

What `make two-nodes` has seen of a Ray cluster of two nodes on one machine with two cores, each with an address, a
folder and a `VISION_HOME` of its own; objects and vectors in a bucket (SeaweedFS), documents in a MongoDB (SecantusDB),
the cache in a Valkey on TCP.

"""
PARTS = ("refused", "examples", "contract", "index", "loss")
FILM_S, ARCHIVE = 240, 6
GIVE_UP_S = 600.0


def spread_config() -> dict[str, Any]:
    """configs/laptop.yaml with a gateway on each node, the models on the head, and all else on the other one."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "laptop.yaml").read_text())
    for app in config["applications"]:
        for deployment in app["deployments"]:
            options = deployment["ray_actor_options"]
            if app["name"] == "gateway":
                deployment["max_replicas_per_node"] = 1
            elif app["name"] == "models":
                options["resources"] = {"head": 1}
            elif app["name"] == "jobs":
                options["resources"] = {PLACES: 1}
    return config


class Run:
    """One run, and the lines of its report."""

    def __init__(self, nodes: TwoNodes, folder: Path) -> None:
        self.nodes, self.folder, self.lines = nodes, folder, list[str]()
        self.environment = {**nodes.environment, "RATE_LIMIT_ENABLED": "false"}
        self.ok = True

    def note(self, text: str, *, ok: bool = True) -> None:
        """Add a line."""
        self.ok &= ok
        self.lines.append(f"- {'' if ok else '**failed** '}{text}")
        print(self.lines[-1], flush=True)

    def refused(self) -> None:
        """A configuration with embedded stores must not start."""
        embedded = {name: "" for name in self.environment if name.startswith("VISION_") and name.endswith("_URL")}
        (self.folder / "film.mp4").write_bytes(video(1))
        for command in (["serve", "--port=0"], ["index", "film.mp4"]):
            begun = time.monotonic()
            done = self.command(*command, **embedded)
            text = " ".join((done.stdout + done.stderr).split())
            named = [name for name in embedded if name in text]
            ok = done.returncode == 1 and "on one machine only" in text and len(named) >= 2
            said = f"it names {', '.join(named)}" if ok else text
            seconds = time.monotonic() - begun
            self.note(f"`visiongraph {command[0]}` with embedded stores: refused after {seconds:.0f} s, {said}", ok=ok)

    def command(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run ``visiongraph`` to its end."""
        command = [sys.executable, "-m", "ops.cli.main", *words]
        known = os.environ | self.environment | {"VISION_HOME": str(self.folder / "shell")} | environment
        return subprocess.run(command, env=known, cwd=self.folder, capture_output=True, text=True, timeout=300)

    def serve(self, config: Path) -> RunningService:
        """Start the service by ``visiongraph serve``, which joins the cluster."""
        begun = time.monotonic()
        log = self.folder / "serve.log"
        options = ["--config", str(config)]
        service = start(self.folder / "serve", log, self.environment, options, within_s=GIVE_UP_S)
        self.wait(lambda: "\nready in" in log.read_text(), service.process, log)
        self.note(f"`visiongraph serve` joined and was ready after {time.monotonic() - begun:.0f} s")
        places = [f"{app} on {' and '.join(self.where(app))}" for app in ("gateway", "models", "jobs")]
        self.note(", ".join(places), ok=self.where("jobs") == ["other"])
        return service

    def where(self, app: str) -> list[str]:
        """Names of the nodes on which replicas of an application run."""
        nodes = (self.nodes.head, self.nodes.other)
        return [node.name for node in nodes if node.processes(f"ray::ServeReplica:{app}:")]

    def examples(self, service: RunningService) -> None:
        """Run the examples of the documentation."""
        place = self.folder / "walk"
        place.mkdir()
        for name, data in files().items():
            (place / name).write_bytes(data)
        passed, rest = 0, []
        for walk in WALKS:
            try:
                walk.run(place, service)
                passed += 1
            except pytest.skip.Exception as reason:
                rest.append(f"{walk.page} skipped ({reason})")
            except Exception as error:
                print(error)
                rest.append(f"{walk.page} **failed**")
        self.note(
            f"examples of README and docs: {passed} of {len(WALKS)} pages pass" + "".join(f"; {r}" for r in rest),
            ok=not any("failed" in each for each in rest),
        )

    def contract(self, service: RunningService) -> None:
        """Ask every route of the contract."""
        command = [sys.executable, "-m", "pytest", "-n0", "-k", "not invalid", "tests/contract/test_answers.py"]
        known = os.environ | {"SCHEMA_URL": service.url, "EXAMPLES": "2"}
        done = subprocess.run(command, env=known, cwd=ROOT, capture_output=True, text=True, timeout=900)
        counts = ", ".join(" ".join(each) for each in re.findall(r"(\d+) (passed|failed|skipped)", done.stdout)[-3:])
        self.note(f"every route of the contract, asked by its OpenAPI document: {counts}", ok=done.returncode == 0)
        if done.returncode:
            print(done.stdout[-6000:])

    def index(self, client: httpx.Client) -> None:
        """Have a film indexed, and see by which node."""
        asset_id = upload(client, long_film(20), "film.mp4")
        job_id = self.submit_index(client, asset_id)
        worker = await_job(self, job_id, lambda job: job.worker is not None).worker
        job = await_job(self, job_id, lambda job: job.finished)
        node = self.node_of(int(str(worker).split("-")[-2]))
        self.note(
            f"a film of 20 s: {job.status}, {(job.result or {}).get('frames')} frames, by the worker on {node}",
            ok=job.status == "succeeded" and node == "other",
        )

    def submit_index(self, client: httpx.Client, asset_id: str) -> str:
        """The id of the job that indexes a film."""
        answer = client.post(f"/api/v1/file/{asset_id}/index")
        answer.raise_for_status()
        return str(answer.json()["job_id"])

    def node_of(self, pid: int) -> str:
        """The name of the node that a process belongs to."""
        for node in (self.nodes.head, self.nodes.other):
            if pid in [each.pid for each in node.processes()]:
                return node.name
        return "neither node"

    def loss(self, service: RunningService, holder: Callable[[], None]) -> None:
        """Kill the other node while a job, a bulk run and requests are under way."""
        archive = self.archive()
        words = [sys.executable, "-m", "ops.cli.main", "index", "--submit", archive]
        clean = {name: os.environ[name] for name in ("PATH", "HOME")} | {"RAY_ADDRESS": self.nodes.head.address}
        log = self.folder / "bulk.log"
        with log.open("wb") as output:
            bulk = subprocess.Popen(words, env=clean | {"PYTHONPATH": str(ROOT)}, stdout=output, stderr=output)
        self.wait(lambda: any(map(begun, self.jobs())), bulk, log)
        with service.client() as client:
            asset_id = upload(client, long_film(FILM_S), "long.mp4")
            job_id = self.submit_index(client, asset_id)
        before = await_job(self, job_id, begun)
        on = Counter(node for node in map(self.node_of, self.bulk_workers()))
        workers = ", ".join(f"{count} on {node}" for node, count in sorted(on.items()))
        text = f"a bulk run of {ARCHIVE} films in a bucket, submitted from a clean environment: workers {workers}"
        self.note(text, ok=on["other"] > 0)

        async def fault() -> str:
            await asyncio.to_thread(self.nodes.other.kill)
            holder()
            return "its gateway, jobs worker and bulk workers are lost with it"

        seen = asyncio.run(observe(service.port, "one of two nodes", fault, quiet_s=10, give_up_s=240))
        self.lines += ["", *HEAD.splitlines()[-2:], row_of(seen), ""]
        print(row_of(seen), flush=True)
        self.ok &= not seen.lost and seen.first_s < GIVE_UP_S

        job = await_job(self, job_id, lambda job: job.finished)
        self.note(
            f"the job that ran there: {job.status} in attempt {job.attempts}, resumed from frame "
            f"{before.checkpoint.get('next_frame')} or later of {(job.result or {}).get('frames')}",
            ok=job.status == "succeeded" and job.attempts == 2,
        )
        code = bulk.wait(GIVE_UP_S)
        text = log.read_text()
        self.note(
            f"the bulk run: exit code {code}, {' '.join(re.findall(r'files [a-z]+ +[0-9]+', text))}", ok=code == 0
        )
        if code:
            print(text[-4000:])
        left = [job for job in self.jobs(BULK_INDEX) if not job.finished]
        self.note(f"records of bulk runs: {', '.join(job.status for job in self.jobs(BULK_INDEX))}", ok=not left)

    def archive(self) -> str:
        """Put films into a bucket; return the SOURCE."""
        url = self.environment["VISION_OBJECTS_URL"].replace("s3://objects", "s3://films")
        keys = (self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"])
        session = boto3.session.Session(*keys, region_name="us-east-1")
        s3 = session.client("s3", endpoint_url=url.partition("endpoint_url=")[2])
        for number in range(ARCHIVE):
            s3.put_object(Bucket="films", Key=f"{number}.mp4", Body=long_film(60 + number))
        return url

    def bulk_workers(self) -> list[int]:
        """Ids of the processes of Ray Data, and of finalizers."""
        titles = ("ray::MapWorker", "ray::Finalizer")
        nodes = (self.nodes.head, self.nodes.other)
        return [each.pid for node in nodes for title in titles for each in node.processes(title)]

    def jobs(self, kind: str = INDEX_VIDEO) -> list[Job]:
        """All jobs of a kind."""

        async def listed() -> list[Job]:
            stores = Stores(documents=self.environment["VISION_DOCUMENTS_URL"])
            try:
                return list(await stores.jobs.list(kind=kind))
            finally:
                await stores.close()

        return asyncio.run(listed())

    def wait(self, reached: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
        """Wait until something is so, while a process runs."""
        deadline = time.monotonic() + GIVE_UP_S
        while not reached():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it ended or takes too long:\n{log.read_text()[-4000:]}")
            time.sleep(0.3)


def begun(job: Job) -> bool:
    """Whether a job runs and has stored a part."""
    return job.status == "running" and job.checkpoint.get("parts", 0) > 0


def await_job(run: Run, job_id: str, reached: Callable[[Job], bool]) -> Job:
    """The job when it has come so far."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        for job in run.jobs():
            if job.job_id == job_id and reached(job):
                return job
        time.sleep(0.2)
    raise RuntimeError(f"job {job_id} takes too long: {run.jobs()}")


def files() -> dict[str, bytes]:
    """What the examples of the documentation work on."""
    near = picture(700, size=(320, 240), noise=0.02, fmt="JPEG")
    made = {"a.jpg": photo(700), "b.jpg": near, "c.jpg": photo(701), "film.mp4": video(700, size=(320, 240))}
    made["voice.wav"] = audio()
    folder = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media" / "animals" / "cattle_muzzle"
    for name, muzzle in zip(("left", "front", "right", "probe"), MUZZLES, strict=True):
        made[f"{name}.jpg"] = (folder / muzzle).read_bytes() if folder.is_dir() else near
    return made


HOLDER = f"""
import ray, sys
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
ray.init(log_to_driver=False)
@ray.remote(num_cpus=0, resources={{"{PLACES}": 2}})
class Holder:
    def held(self): pass
here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
holder = Holder.options(scheduling_strategy=here).remote()
ray.get(holder.held.remote())
print("held", flush=True)
sys.stdin.read()
"""


def held_places(environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Take the places of the head, until the process ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env=os.environ | dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file of the report, which is printed as well")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        sockets = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="vg-", ignore_cleanup_errors=True)))
        stores = held.enter_context(shared_stores(folder))
        serve = {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "MALLOC_ARENA_MAX": "4",
            "PYTHONPATH": str(ROOT),
            **haproxy(sockets),
        }
        resources = [json.dumps({"head": 1, PLACES: 2}), json.dumps({PLACES: 2})]
        head, other = (["--num-cpus=4", f"--resources={each}"] for each in resources)
        nodes = held.enter_context(two_nodes(stores | serve, head=head, other=other))
        run = Run(nodes, folder)
        if "refused" in args.only:
            run.refused()
        holder = held_places(run.environment)
        held.callback(holder.kill)
        config = folder / "two_nodes.yaml"
        config.write_text(yaml.safe_dump(spread_config()))
        service = run.serve(config)
        held.callback(service.stop)
        if "examples" in args.only:
            run.examples(service)
        if "contract" in args.only:
            run.contract(service)
        if "index" in args.only:
            with service.client(120) as client:
                run.index(client)
        if "loss" in args.only:
            run.loss(service, holder.kill)
        with service.client(120) as client:
            health = client.get("/health").json()
        places = [f"{app} on {' and '.join(run.where(app))}" for app in ("gateway", "models", "jobs")]
        run.note(f"in the end: {health['status']}, {', '.join(places)}")
    if args.out:
        args.out.write_text(TITLE + "\n".join(run.lines) + "\n")
    return int(not run.ok)


def haproxy(sockets: Path) -> dict[str, str]:
    """Ports, and sockets in a folder with a short path, for Serve's HAProxy that no other one on this machine has."""
    return {name: str(free_port(port)) for name, port in HAPROXY_PORTS.items()} | {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(sockets / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(sockets / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(sockets / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(sockets),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(sockets / "server-state"),
    }


if __name__ == "__main__":
    sys.exit(main())
