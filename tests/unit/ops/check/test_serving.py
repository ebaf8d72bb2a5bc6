"""Every kind of fault of a Serve configuration, provoked by one change to a good one; and the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import ops.check
from graphs.web.api import find_apis
from ops.check import CONFIGS, Fault, faults
from ops.check.code import Code, model_faults, stage_faults
from ops.check.fault import Report
from ops.check.serving import check_application, check_stages, check_wiring, dicts, read
from ops.cli.check import check
from tests.unit.ops.plan.machines import machine
from vision.weights.registry import MODELS_YAML

Data = dict[str, Any]
Change = Callable[[Data], Any]


@pytest.fixture(scope="module")
def code() -> Code:
    found = Code()
    stage_faults(found)
    model_faults(found, MODELS_YAML)
    return found


@pytest.fixture
def faults_after(code: Code, tmp_path: Path) -> Callable[..., list[str]]:
    """The faults of a changed copy of a configuration, as ``place: what``."""

    def of(change: Change, source: Path = CONFIGS[0]) -> list[str]:
        data = yaml.safe_load(source.read_text())
        change(data)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(data))
        return [f"{fault.place}: {fault.what}" for fault in _faults_of(path, code)]

    return of


def _faults_of(path: Path, code: Code) -> list[Fault]:
    report = Report(path.name)
    if (data := read(path, report)) is not None:
        check_wiring([check_application(raw, code, report) for raw in dicts(data["applications"])], code, report)
    assert all(fault.fix for fault in report.faults)
    return report.faults


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_serves_every_api(path: Path) -> None:
    gateway = app(yaml.safe_load(path.read_text()), "gateway")
    assert sorted(gateway["args"]["apis"]) == sorted(find_apis())


def app(data: Data, name: str) -> Data:
    return next(entry for entry in data["applications"] if entry["name"] == name)


def line(data: Data, place: str) -> Data:
    name, _, deployment = place.partition(".")
    return next(entry for entry in app(data, name)["deployments"] if entry["name"] == deployment)


def move_to_gateway(data: Data, key: str, application: str) -> None:
    """Let the gateway run a stage of a pack itself."""
    pack, own = app(data, application), app(data, "gateway")
    pack["args"]["packs"][application].remove(key)
    config = (pack["deployments"][0].get("user_config") or {}).pop(key, {})
    own["args"].setdefault("here", []).append(key)
    own["deployments"][0].setdefault("user_config", {})[key] = config
    own["args"]["stages"].pop(key, None)
    callers = app(data, "jobs")["args"]["stages"]
    if key in callers:
        callers[key] = "gateway.gateway"


def test_a_gateway_may_run_stages_itself(faults_after: Callable[..., list[str]]) -> None:
    def moved(data: Data) -> None:
        move_to_gateway(data, "embed/sentence", "models")
        move_to_gateway(data, "quality/blur", "pixels")

    assert faults_after(moved, CONFIGS[1]) == []
    wrong = set_in("gateway.gateway", user_config={"embed/sentence": {"a": 1}})
    [fault] = faults_after(both(moved, wrong), CONFIGS[1])
    assert fault.startswith("gateway › gateway › user_config › embed/sentence › a: unknown key")


def test_a_worker_may_run_stages_that_only_the_gateway_calls(faults_after: Callable[..., list[str]]) -> None:
    def moved(data: Data) -> None:
        app(data, "pixels")["args"]["packs"]["pixels"].remove("media/clips")
        app(data, "jobs")["args"]["here"] = ["media/clips"]
        limits = {"max_queued_requests": 64, "backpressure_config": {"status_code": 429, "retry_after_s": 1}}
        line(data, "jobs.worker").update(limits)
        app(data, "gateway")["args"]["stages"]["media/clips"] = "jobs.worker"

    def elsewhere(data: Data) -> None:
        app(data, "gateway")["args"]["stages"]["media/clips"] = "jobs.clips"

    assert faults_after(moved, CONFIGS[1]) == []
    wrong = faults_after(both(moved, elsewhere), CONFIGS[1])
    assert any("media/clips is addressed at jobs.clips, but runs in jobs.worker" in fault for fault in wrong)
    assert any("jobs › args › here: nothing in this application calls media/clips" in fault for fault in wrong)


def test_the_repository_has_no_faults() -> None:
    assert faults() == []


def set_in(place: str, **values: Any) -> Change:
    return lambda data: line(data, place).update(values)


def set_config(**values: Any) -> Change:
    return lambda data: line(data, "embed.dinov3")["user_config"]["embed/dinov3"].update(values)


def both(first: Change, second: Change) -> Change:
    return lambda data: (first(data), second(data))


def set_app(which: str, **values: Any) -> Change:
    return lambda data: app(data, which).update(values)


def set_args(name: str, **values: Any) -> Change:
    return lambda data: app(data, name).setdefault("args", {}).update(values)


EMBED = "embed › dinov3"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # Ray's schema
        (
            set_in("embed.dinov3", max_ongoing_requests=0),
            f"{EMBED} › max_ongoing_requests: Input should be greater",
        ),
        (set_in("embed.dinov3", max_queud_requests=1), f"{EMBED} › max_queud_requests: unknown key"),
        (
            set_in("embed.dinov3", ray_actor_options={"num_gpu": 1}),
            f"{EMBED} › ray_actor_options › num_gpu: unknown",
        ),
        (lambda data: data.update(htp_options={}), "htp_options: unknown key"),
        # limits
        (
            lambda data: line(data, "gateway.gateway").pop("max_queued_requests"),
            "max_queued_requests: its queue has no limit",
        ),
        (
            set_in("gateway.gateway", max_queued_requests=-1),
            "gateway › gateway › max_queued_requests: its queue has no limit",
        ),
        (
            lambda data: line(data, "gateway.gateway").pop("backpressure_config"),
            "must answer 429 with Retry-After",
        ),
        (
            set_in("embed.dinov3", backpressure_config={"status_code": 503, "retry_after_s": 1}),
            "must answer 429",
        ),
        (
            set_in("embed.dinov3", backpressure_config={"status_code": 429}),
            "must answer 429 with Retry-After",
        ),
        (
            lambda data: line(data, "embed.dinov3")["autoscaling_config"].update(min_replica=1),
            f"{EMBED} › autoscaling_config › min_replica: unknown key",
        ),
        (
            lambda data: line(data, "embed.dinov3")["autoscaling_config"].update(min_replicas=9),
            f"{EMBED} › autoscaling_config: ",
        ),
        (
            lambda data: (
                line(data, "embed.dinov3").pop("autoscaling_config"),
                set_in("embed.dinov3", num_replicas=2)(data),
            ),
            f"{EMBED} › num_replicas: has no effect beside autoscaling_config",
        ),
        # user_config
        (set_config(engin="torch"), f"{EMBED} › user_config › embed/dinov3 › engin: unknown key"),
        (set_config(engine="abacus"), f"{EMBED} › user_config › embed/dinov3 › engine: Input should be"),
        (
            set_config(models=["resnet"]),
            f"{EMBED} › user_config › embed/dinov3: no model resnet is registered",
        ),
        (
            both(set_in("embed.dinov3", max_ongoing_requests=2), set_config(max_batch_size=33)),
            "a batch of 33 never fills",
        ),
        (
            set_config(max_batch_size=0),
            f"{EMBED} › user_config › embed/dinov3 › max_batch_size: Input should be",
        ),
        (set_config(batch_wait_s=5), "delays a request by 5 s"),
        (
            lambda data: line(data, "embed.dinov3")["user_config"].update({"embed/dino": {}}),
            f"{EMBED} › user_config: embed/dino does not run here",
        ),
        (
            set_in("gateway.gateway", user_config={"x": {}}),
            "gateway › gateway › user_config: x does not run here",
        ),
        # applications
        (
            set_app("embed", import_path="deployments.serving.catalog:rom"),
            "embed › import_path: deployments.serving.catalog:rom cannot",
        ),
        (set_app("embed", import_path="nowhere:room"), "No module named 'nowhere'"),
        (
            set_app("embed", route_prefix="/embed"),
            "embed › route_prefix: a room must not be reachable over HTTP",
        ),
        (set_args("embed", stage=[]), "embed › args › stage: unknown key"),
        (
            set_args("embed", packs={"dinov3": ["analysis/nearest"]}),
            "embed › args: two deployments would be called dinov3",
        ),
        (set_args("embed", packs={"spare": []}), "embed › args › packs › spare: is empty"),
        (set_args("gateway", api=[]), "gateway › args › api: unknown key"),
        (lambda data: app(data, "analysis")["deployments"].pop(0), "analysis › nearest: has no lines under"),
        (
            lambda data: app(data, "embed")["deployments"].append({**line(data, "embed.dinov3"), "name": "dino"}),
            "embed › dino: is not a deployment of this application",
        ),
        # names across applications
        (
            set_args("embed", stages=["embed/dinov3", "embed/dino"]),
            "embed › dino: there is no stage embed/dino",
        ),
        (set_args("gateway", apis=["asets"]), "gateway › args › apis: no such API: asets"),
        (
            set_args("gateway", stages={"embed/dinov3": "embed.dino"}),
            "gateway › args › stages: embed/dinov3 is addressed at embed.dino, but runs in embed.dinov3",
        ),
        (
            set_args("gateway", stages={"embed/dinov3": "models"}),
            "gateway › args › stages: embed/dinov3 is addressed at models., but runs in embed.dinov3",
        ),
        (
            set_args("gateway", stages={"embed/dino": "a.b"}),
            "gateway › args › stages: nothing in this application calls embed/dino",
        ),
        (
            lambda data: data["applications"].append({**app(data, "embed"), "name": "again"}),
            "embed/dinov3: runs in embed.dinov3 and in again.dinov3",
        ),
        (lambda data: data["applications"].remove(app(data, "embed")), "embed/dinov3: runs nowhere"),
        (
            set_args("gateway", here=["embed/dinov3"]),
            "embed/dinov3: runs in gateway.gateway and in embed.dinov3",
        ),
        (
            set_args("jobs", here=["quality/blur"]),
            "jobs › args › here: nothing in this application calls quality/blur",
        ),
        (set_args("gateway", here=["embed/dino"]), "gateway › gateway: there is no stage embed/dino"),
        (set_args("jobs", here=["shots/camera"]), "jobs › worker › max_queued_requests: its queue has no limit"),
        (set_args("jobs", here=["embed/dinov3"] * 2), "jobs › args: a stage is named twice"),
        (lambda data: data["applications"].remove(app(data, "gateway")), ": no application is the gateway"),
        # the worker
        (set_app("jobs", route_prefix="/jobs"), "jobs › route_prefix: the worker must not be reachable over HTTP"),
        (set_args("jobs", kinds=["index"]), "jobs › args › kinds: unknown key"),
        (set_args("jobs", apis=["media"]), "jobs › args › apis: unknown key"),
        (
            set_args("jobs", stages={"embed/dinov3": "embed.dino"}),
            "jobs › args › stages: embed/dinov3 is addressed at embed.dino, but runs in embed.dinov3",
        ),
        (set_args("jobs", stages={"quality/blur": "quality.blur"}), "nothing in this application calls quality/blur"),
        (
            set_in("jobs.worker", autoscaling_config={"min_replicas": 1, "max_replicas": 4}),
            "jobs › worker › autoscaling_config: scales by requests, but the worker gets none",
        ),
        (set_in("jobs.worker", user_config={"x": {}}), "jobs › worker › user_config: x does not run here"),
        (set_in("jobs.worker", name="runner"), "jobs › worker: has no lines under deployments"),
        (
            lambda data: data["applications"].remove(app(data, "jobs")),
            ": jobs are accepted, but no application runs them",
        ),
    ],
)
def test_fault(faults_after: Callable[..., list[str]], change: Change, expected: str) -> None:
    found = faults_after(change)
    assert any(expected in fault for fault in found), found


def test_a_deployment_without_lines_of_its_own_has_the_default_limits(faults_after: Callable[..., list[str]]) -> None:
    def change(data: Data) -> None:
        [bare] = [entry for entry in app(data, "analysis")["deployments"] if entry["name"] == "nearest"]
        share = bare["ray_actor_options"]
        bare.clear()
        bare.update(name="nearest", ray_actor_options=share, num_replicas=2, autoscaling_config=None)

    assert faults_after(change) == []


def test_a_moved_pack_is_found(faults_after: Callable[..., list[str]]) -> None:
    found = faults_after(set_app("models", name="vision"), CONFIGS[-1])
    others = [f"forensics/{name}" for name in ("visual", "generated", "speech", "voice")]
    others += ["muzzle/ensemble", "muzzle/gallery", "muzzle/print"]
    called = {"gateway": ["shots/cuts", "embed/sentence", "analysis/nearest", *others], "jobs": ["shots/cuts"]}
    assert sorted(found) == sorted(
        f"{app} › args › stages: {key} is addressed at models.models, but runs in vision.models"
        for app, keys in called.items()
        for key in keys
    )


def test_the_first_fault_hides_no_other(faults_after: Callable[..., list[str]]) -> None:
    def change(data: Data) -> None:
        set_in("embed.dinov3", max_ongoing_requests="many")(data)
        set_config(engine="abacus")(data)
        set_in("analysis.clusters", max_queued_requests=-1)(data)
        set_args("gateway", stages={"analysis/nearest": "embed.dinov3"})(data)

    assert len(faults_after(change)) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("applications: [", "not YAML: "),
        ("applications: []\napplications: []\n", "'applications' is a duplicate key"),
        ("just words", "is not a mapping"),
        ("applications: 7", "Input should be a valid list"),
        (
            "applications: [{name: a, import_path: 3, deployments: 4}]",
            "a › deployments: Input should be a valid list",
        ),
    ],
)
def test_a_file_that_cannot_be_understood(code: Code, tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert any(expected in f"{fault.place}: {fault.what}" for fault in _faults_of(path, code))


def test_a_missing_file(code: Code, tmp_path: Path) -> None:
    [fault] = _faults_of(tmp_path / "absent.yaml", code)
    assert "No such file" in fault.what


@pytest.fixture
def cli() -> typer.Typer:
    app = typer.Typer()
    app.command()(check)
    return app


def test_command_line_without_faults(cli: typer.Typer, code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.cli.check.check_all", lambda paths: (code, []))
    result = CliRunner().invoke(cli, [])
    assert result.exit_code == 0
    stages, models = len(code.stages), len(code.models or ())
    assert result.output.strip() == f"{stages} stages, 3 configurations, {models} models: no faults"


@pytest.mark.parametrize(("gpus", "says"), [([16], "fits this machine"), ([], "is for another machine: ")])
def test_command_line_says_whether_what_was_asked_for_fits_here(
    cli: typer.Typer, code: Code, monkeypatch: pytest.MonkeyPatch, gpus: list[float], says: str
) -> None:
    monkeypatch.setattr("ops.cli.check.check_all", lambda paths: (code, []))
    monkeypatch.setattr("ops.cli.check.this_machine", lambda: machine(8, gpus, memory_gb=32))
    result = CliRunner().invoke(cli, ["--config", str(CONFIGS[0])])
    assert result.exit_code == 0
    assert f"serve_config.yaml {says}" in result.output


@pytest.mark.parametrize(
    ("share", "fraction", "found"),
    [
        (0.25, 0.5, "it may take 0.5 of the memory of a GPU, of which its deployment has 0.25"),
        (0.25, None, "it may take all of the memory of a GPU, of which its deployment has 0.25"),
        (0.25, 0.25, None),
        (0, 0.5, None),
        (1, None, None),
    ],
)
def test_a_process_is_kept_within_its_share_of_a_gpu(
    code: Code, share: float, fraction: float | None, found: str | None
) -> None:
    report = Report("")
    config = {"cuda_memory_fraction": fraction} if fraction else {}
    line = {"ray_actor_options": {"num_gpus": share}, "user_config": {"embed/dinov3": config}}
    check_stages({**line, "max_ongoing_requests": 64}, ["embed/dinov3"], code, report)
    assert [fault.what for fault in report.faults] == ([found] if found else [])


def test_command_line_with_faults(
    cli: typer.Typer, code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIGS[0].read_text().replace("engine: auto", "engine: abacus", 1))
    monkeypatch.setattr("ops.cli.check.check_all", lambda paths: (code, _faults_of(paths[0], code)))
    result = CliRunner().invoke(cli, ["--config", str(path)])
    assert result.exit_code == 1
    assert "embed/dinov3 › engine: Input should be" in result.output
    assert "→ see deployments.embed.dinov3.Config" in result.output
    assert result.output.strip().endswith("1 fault")


def test_command_line_repairs(cli: typer.Typer, code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    monkeypatch.setattr("ops.cli.check.settings", ops.check.code.Settings)
    monkeypatch.setattr("ops.cli.check.check_all", lambda paths: (code, []))
    result = CliRunner().invoke(cli, ["--repair"])
    assert result.exit_code == 0
    assert "0 deletes finished" in result.output


def test_a_stage_that_may_sleep_is_named_as_such(faults_after: Callable[..., list[str]]) -> None:
    found = faults_after(set_args("gateway", on_demand=[]), CONFIGS[-1])
    what = "analysis/clusters may have no replica, and every health request would start one"
    assert f"gateway › args › on_demand: {what}" in found


def test_a_stage_that_never_sleeps_is_not_on_demand(faults_after: Callable[..., list[str]]) -> None:
    found = faults_after(set_args("gateway", on_demand=["embed/dinov3"]), CONFIGS[0])
    assert found == ["gateway › args › on_demand: embed/dinov3 has min_replicas above 0, or does not run here"]
