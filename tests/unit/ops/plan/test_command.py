"""visiongraph plan, on machines that are made up."""

import copy
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from ops.cli import plan as command
from ops.cluster import ClusterError
from ops.plan.choice import CONFIGS, read_needs
from ops.plan.machines import Node
from ops.plan.needs import memory
from tests.unit.ops.plan.machines import machine

PRODUCTION, WORKSTATION, LAPTOP = CONFIGS


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command where these nodes are, and these applications run; (exit code, output)."""
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.command()(command.plan)

    def run(*arguments: Path, nodes: list[Node], running: dict[str, Any] | None = None) -> tuple[int, str]:
        monkeypatch.setattr(command, "what_there_is", lambda: (nodes, running or {}))
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, ClusterError):
            raise result.exception
        return result.exit_code, result.output

    return run


def test_every_deployment_has_its_line_and_its_place(plan: Any) -> None:
    nodes = [machine(8, [16], memory_gb=32, name="gpu"), machine(8, memory_gb=32, name="cpu", head=False)]
    code, output = plan(PRODUCTION, nodes=nodes)
    lines = {words[0]: words[1:] for line in output.splitlines() if (words := line.split())}
    assert code == 0
    cuts = next(need for need in read_needs(PRODUCTION, nodes) if need.name == "shots.cuts")
    on_gpu, here = f"{cuts.gpu_memory_mb() / 1000:.1f}", f"{(cuts.memory_mb + memory().cuda) / 1000:.1f}"
    assert lines["shots.cuts"] == ["1", "to", "8", "0.2", f"{cuts.gpus:g}", on_gpu, "GB", here, "GB", "gpu"]
    assert lines["quality.blur"] == ["1", "to", "8", "0.1", "0.1", "GB", "cpu"]
    assert lines["gateway.gateway"] == ["2", "to", "16", "0.25", "0.2", "GB", "2", "×", "cpu"]
    assert "It fits 16 CPUs, 1 GPU of 16 GB, 63 GB of memory on 2 nodes; at most it could have" in output


def test_what_does_not_fit_is_named_with_what_to_change(plan: Any) -> None:
    code, output = plan(PRODUCTION, nodes=[machine(4, [16], memory_gb=32)])
    assert code == 1
    assert "1 without" in output
    assert "does not fit: all together need 6.95 CPUs, and 4 are free. Lower num_cpus" in output


def test_without_a_configuration_that_which_serve_would_take_is_planned(plan: Any) -> None:
    code, output = plan(nodes=[machine(4, memory_gb=16)])
    assert code == 0
    assert output.splitlines()[0].strip() == "configs/laptop.yaml"
    assert "analytics.analytics" in output
    assert "on demand" in output


def running(config: dict[str, Any], nodes: list[Node]) -> dict[str, Any]:
    """What Serve says of a configuration that runs on the first node, one replica of each deployment."""
    return {
        app["name"]: {
            "deployed_app_config": app,
            "deployments": {
                line["name"]: {
                    "replicas": [{"node_id": nodes[0].id}],
                    "required_resources": {"CPU": line["ray_actor_options"]["num_cpus"]},
                }
                for line in app["deployments"]
            },
        }
        for app in config["applications"]
    }


def test_beside_a_running_service_what_an_update_does_is_listed(plan: Any, tmp_path: Path) -> None:
    before: dict[str, Any] = yaml.safe_load(LAPTOP.read_text())
    after = copy.deepcopy(before)
    apps = {app["name"]: app for app in after["applications"]}
    apps["jobs"]["deployments"][0]["ray_actor_options"] = {"num_cpus": 2}
    apps["models"]["deployments"][0]["user_config"]["embed/dinov3"] = {"max_batch_size": 8, "engine": "torch-fp32"}
    apps["analytics"]["args"]["packs"]["analytics"].remove("language/describe")
    path = tmp_path / "after.yaml"
    path.write_text(yaml.safe_dump(after))
    # All but 0.6 of a CPU is taken by what runs, and free for its update.
    node = Node("one", {"CPU": 0.6}, 16_000, id="n1")
    code, output = plan(path, nodes=[node], running=running(before, [node]))
    lines = {
        line.split("  ")[0]: " ".join(line.split()[1:]) for line in output.partition("serve deploy")[2].splitlines()
    }
    assert lines["jobs.worker"] == "restarts ray_actor_options changed"
    assert lines["analytics.analytics"] == "restarts args of the application changed"
    assert lines["models.models"] == "in place user_config; engine takes effect when a replica loads next"
    assert "1 unchanged" in output
    assert code == 1  # 2 CPUs for the worker, and 1 there is
    assert "jobs.worker does not fit: a replica needs 2 CPUs of one machine, and the largest has 1 free" in output


def test_beside_other_applications_nothing_is_updated(plan: Any) -> None:
    others = {"theirs": {"deployments": {}, "deployed_app_config": None}}
    code, output = plan(LAPTOP, nodes=[machine(4)], running=others)
    assert code == 0
    assert "serve deploy" not in output


@pytest.mark.parametrize("text", ["a: [", "applications: 3", "- a", ""])
def test_a_file_that_is_no_configuration_is_refused(plan: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ClusterError, match="cannot be planned for"):
        plan(path, nodes=[machine()])


def test_a_file_that_is_not_there_is_refused(plan: Any, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"missing\.yaml"):
        plan(tmp_path / "missing.yaml", nodes=[machine()])
