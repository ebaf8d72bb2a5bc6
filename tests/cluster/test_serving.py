"""The deployed service: every route answers, under the names that the design gives them."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from ops.one_machine import SETTINGS
from tests.cluster.conftest import RunningService, photo, upload
from tests.graphs.harness import ROOT
from tests.graphs.samples import picture, video
from tests.waiting import wait_for


def test_features_are_computed_once_and_then_read(client: httpx.Client) -> None:
    asset_id = upload(client, photo(1))
    first = client.post("/api/v1/extract-features", json={"asset_id": asset_id}).json()
    second = client.post("/api/v1/extract-features", json={"asset_id": asset_id}).json()
    assert (first["cached"], second["cached"]) == (False, True)
    assert len(first["features"]) == 384
    assert first["features"] == second["features"]
    assert first["model_version"] == client.get("/health").json()["model"]["name"]


def test_a_near_duplicate_is_found_first_in_the_whole_library(client: httpx.Client) -> None:
    from tests.graphs.conftest import picture

    ids = [upload(client, photo(seed)) for seed in range(10, 16)]
    copy = upload(client, picture(10, size=(256, 192), noise=0.01, fmt="PNG"), "copy.png")
    for asset_id in [*ids, copy]:
        client.post("/api/v1/extract-features", json={"asset_id": asset_id}).raise_for_status()
    found = client.post("/api/v1/semantic-search", json={"query_asset_id": copy, "top_k": 3}).json()
    assert found["search_results"][0]["asset_id"] == ids[0]
    assert len(found["search_results"]) == 3
    pair = client.post("/api/v1/calculate-similarity", json={"asset_id_1": copy, "asset_id_2": ids[0]}).json()
    assert found["search_results"][0]["cosine_similarity"] == pytest.approx(pair["cosine_similarity"], abs=0.01)


def test_stages_on_demand_start_with_their_first_request(client: httpx.Client) -> None:
    ids = [upload(client, photo(seed)) for seed in range(20, 25)]
    clusters = client.post("/api/v1/feature-clustering", json={"asset_ids": ids, "n_clusters": 2}, timeout=120)
    assert clusters.status_code == 200, clusters.text
    assert clusters.json()["n_clusters"] == 2
    request = {"reference_asset_ids": ids[:4], "test_asset_ids": ids[4:]}
    anomalies = client.post("/api/v1/anomaly-detection", json=request).json()
    assert np.isfinite(anomalies["anomaly_results"][0]["anomaly_score"])


def test_more_vectors_than_a_message_of_grpc_holds_are_clustered(client: httpx.Client) -> None:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(2, 220))
    vectors = np.repeat(centres, 2500, axis=0) + rng.normal(scale=0.01, size=(5000, 220))
    body = {"embeddings": vectors.round(4).tolist(), "image_ids": [str(n) for n in range(5000)]}
    answer = client.post("/v1/cluster", json=body, timeout=120)
    assert answer.status_code == 200, answer.text[:500]
    assert [cluster["size"] for cluster in answer.json()["clusters"]] == [2500, 2500]


def test_shared_images_leave_the_object_store(running: RunningService, client: httpx.Client) -> None:
    address = next(line.split()[-1] for line in running.log.read_text().splitlines() if line.startswith("metrics"))

    def held() -> float:
        lines = [line for line in httpx.get(address).text.splitlines() if line.startswith("ray_object_store_memory{")]
        return sum(float(line.split()[-1]) for line in lines)

    data = picture(40, size=(1200, 1000), fmt="JPEG")
    for _ in range(20):  # 3.6 MB each, once decoded, for stages of other processes than the gateway's
        client.post("/api/v1/analyze/image/", files={"file": ("it.jpg", data)}).raise_for_status()
    wait_for(lambda: held() <= 10 * 2**20, every_s=1)


def test_the_dashboard_knows_applications_and_deployments_by_name(running: RunningService) -> None:
    url = f"{running.dashboard}/api/serve/applications/"
    assert httpx.get(url).status_code == 401
    token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    details = httpx.get(url, headers={"authorization": f"Bearer {token}"}).json()["applications"]
    names = {name: sorted(app["deployments"]) for name, app in details.items()}
    rooms = {name: [name] for name in ("gateway", "models", "analytics")}
    assert names == rooms | {"jobs": ["worker"]}


@pytest.mark.parametrize("title", ["raylet --raylet_socket_name", "gcs_server", "dashboard.py", "ray::ServeReplica"])
def test_rays_processes_have_the_settings_of_one_machine(running: RunningService, title: str) -> None:
    processes = running.processes(title)
    assert processes != []
    for process in processes:
        environment = process.environ()
        assert {name: environment.get(name) for name in SETTINGS} == SETTINGS


def test_what_one_machine_does_not_need_does_not_run(running: RunningService) -> None:
    left_out = ("log_monitor", "ray::ProxyActor", "ray-dashboard-MetricsHead", "ray-dashboard-TrainHead")
    assert [title for title in left_out if running.processes(title)] == []
    assert len(running.processes("ray::HAProxyManager")) == len(running.processes("ray-dashboard-JobHead")) == 1


def test_a_run_is_submitted_from_a_fresh_shell_by_the_line_that_is_printed(
    running: RunningService, tmp_path: Path
) -> None:
    wait_for(lambda: "\narchives" in running.log.read_text())
    (line,) = [line for line in running.log.read_text().splitlines() if line.startswith("archives")]
    command = line.removeprefix("archives").strip().replace("FOLDER", "nowhere")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(Path.home())}
    command = command.replace("visiongraph", f"env PYTHONPATH={ROOT} python -m ops.cli.main")
    shell = ["bash", "-euc", command]
    done = subprocess.run(shell, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    # What the run says reaches the shell, and so does its exit code.
    assert done.returncode == 1, done.stdout + done.stderr
    assert "submitted as job raysubmit_" in done.stdout
    told = "".join(done.stdout.split())  # in lines of 80 characters
    assert f"Thereisnovideoat'{tmp_path}/nowhere'" in told


def test_the_metrics_agent_carries_every_stage(running: RunningService, client: httpx.Client) -> None:
    asset_id = upload(client, photo(30))
    client.post("/api/v1/extract-features", json={"asset_id": asset_id}).raise_for_status()
    address = next(line.split()[-1] for line in running.log.read_text().splitlines() if line.startswith("metrics"))
    wanted = {
        f"ray_visiongraph_stage_{name}"
        for name in ("batch_latency_ms_count", "batch_fill_sum", "items_total", "errors_total")
    }
    film = upload(client, video(31), "film.mp4")
    assert client.get(f"/api/v1/file/{film}/thumbnail", params={"frame": 9999}).status_code == 400
    for _ in range(40):
        lines = [line for line in httpx.get(address).text.splitlines() if 'stage="' in line]
        seen = {line.partition("{")[0] for line in lines}
        if wanted <= seen and any('stage="embed/dinov3"' in line for line in lines):
            return
        time.sleep(0.5)
    pytest.fail(f"missing from {address}: {sorted(wanted - seen)}")


def test_nothing_listens_to_the_world_and_no_socket_is_open_to_other_users(running: RunningService) -> None:
    root = psutil.Process(running.process.pid)
    addresses: dict[str, set[str]] = {}
    sockets: set[Path] = set()
    for process in [root, *root.children(recursive=True)]:
        try:
            name = " ".join(process.cmdline())[:60]
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN or each.type == socket.SOCK_DGRAM:
                    addresses.setdefault(name, set()).add(each.laddr.ip)
            sockets |= {Path(each.laddr) for each in process.net_connections("unix") if each.laddr.startswith("/")}
        except psutil.NoSuchProcess:
            continue
    open_to_all = {name: ips - {"127.0.0.1", "::ffff:127.0.0.1", "::1"} for name, ips in addresses.items()}
    assert {name: ips for name, ips in open_to_all.items() if ips} == {}
    assert len(addresses) > 10  # of Ray, of Serve's actors and replicas, of HAProxy
    assert {each.name for each in sockets} >= {"valkey.sock", "raylet", "plasma_store", "metrics"}
    assert [each for each in sockets if each.exists() and not is_private(each)] == []


def is_private(path: Path) -> bool:
    """Whether only its owner reaches a file: by its mode, or because of a folder above it."""
    return not path.stat().st_mode & 0o077 or any(not folder.stat().st_mode & 0o077 for folder in path.parents)
