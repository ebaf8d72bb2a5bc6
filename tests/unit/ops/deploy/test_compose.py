"""ops/deploy/compose.yaml: valid, closed, bounded, and without a password that works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from configs.settings import Settings, variables
from stores.open import of_one_machine
from stores.s3.location import S3Location
from tests.compose import FOLDER, SECRETS, MissingVariable, interpolate, read

FILES = sorted(FOLDER.glob("compose*.yaml"))
GIVEN = {name: f"{name.lower()}-17" for name in SECRETS}
R2 = {"R2_ACCOUNT": "0" * 32, "R2_ACCESS_KEY_ID": "id", "R2_SECRET_ACCESS_KEY": "secret"}
SERVICES: dict[str, dict[str, Any]] = read(FOLDER / "compose.yaml", GIVEN)["services"]
BIN = Path(sys.executable).parent


def test_the_files_are_those_of_compose() -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *FILES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_yamllint_finds_nothing() -> None:
    done = subprocess.run([BIN / "yamllint", "-s", "-c", FOLDER / ".yamllint", FOLDER], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("missing", SECRETS)
def test_nothing_starts_while_a_secret_is_missing(missing: str) -> None:
    with pytest.raises(MissingVariable, match=missing):
        read(FOLDER / "compose.yaml", {name: value for name, value in GIVEN.items() if name != missing})


def test_no_secret_is_written_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|AUTH|TOKEN", variable) and variable != "AWS_ACCESS_KEY_ID":
                assert value in ("", *GIVEN.values()), f"{name}: {variable}"
        assert not any(secret in str(service.get("command")) for secret in GIVEN.values()), name


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_little_to_give_away(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"], service["restart"]) == (True, ["ALL"], "unless-stopped")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) >= {"memory", "pids"}
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"]), "a version, not a moving tag"
    assert name in ("pod", "vision") or service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert "privileged" not in service
    assert not any("docker.sock" in volume for volume in service.get("volumes", ()))


def test_only_the_api_is_open_to_the_network() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == ["8000:8000"]
    stores = [name for name, service in SERVICES.items() if service.get("networks") == ["stores"]]
    assert stores == ["mongodb", "seaweedfs", "valkey"]
    assert read(FOLDER / "compose.yaml", GIVEN)["networks"]["stores"] == {"internal": True}


def test_metrics_stay_on_the_loopback_that_prometheus_shares() -> None:
    assert [name for name, each in SERVICES.items() if each.get("network_mode") == "service:pod"] == [
        "vision",
        "prometheus",
    ]
    targets = re.findall(r'"([\d.]+):\d+"', (FOLDER / "prometheus" / "prometheus.yml").read_text())
    assert targets == ["127.0.0.1"] * 3


@pytest.mark.parametrize("more", [[], ["compose.r2.yaml"], ["compose.cuda.yaml"]], ids=str)
def test_the_service_starts_with_settings_that_there_are(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = dict(SERVICES["vision"]["environment"])
    for name in more:
        environment |= read(FOLDER / name, R2)["services"]["vision"].get("environment", {})
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        assert isinstance(value, str), name
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.api_keys == (GIVEN["API_KEY"],)
    assert of_one_machine(settings) == ""
    objects, vectors = S3Location.parse(settings.objects), S3Location.parse(settings.vectors)
    if more == ["compose.r2.yaml"]:
        endpoint = f"https://{R2['R2_ACCOUNT']}.r2.cloudflarestorage.com"
        assert objects == S3Location("visiongraph-objects", "", endpoint, "auto")
        assert vectors == S3Location("visiongraph-vectors", "index", endpoint, "auto")
        assert environment["AWS_SECRET_ACCESS_KEY"] == "secret"
    else:
        # Each store is a service of the file, with the same user, password and buckets.
        assert {objects.endpoint_url, vectors.endpoint_url} == {"http://seaweedfs:8333"}
        assert f"-bucket={objects.bucket},{vectors.bucket}" in SERVICES["seaweedfs"]["command"]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert environment[name] == SERVICES["seaweedfs"]["environment"][name]
        mongodb = SERVICES["mongodb"]["environment"]
        user, password = mongodb["MONGO_INITDB_ROOT_USERNAME"], mongodb["MONGO_INITDB_ROOT_PASSWORD"]
        expected = f"mongodb://{user}:{password}@mongodb:27017/vision?authSource=admin"  # kingfisher:ignore - no values
        assert settings.documents == expected
        valkey = SERVICES["valkey"]["environment"]["REDISCLI_AUTH"]
        assert settings.cache_url.get_secret_value() == f"redis://:{valkey}@valkey:6379/0"


@pytest.mark.parametrize("secret", [{}, {"R2_ACCOUNT": "0"}, {**R2, "R2_ACCESS_KEY_ID": ""}], ids=str)
def test_r2_needs_its_account_and_both_halves_of_a_key(secret: dict[str, str]) -> None:
    with pytest.raises(MissingVariable, match="R2_"):
        read(FOLDER / "compose.r2.yaml", secret)


def test_the_example_for_r2_is_complete_but_for_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in (FOLDER / "r2.env").read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        monkeypatch.setenv(*line.split("=", 1))
    settings = Settings()
    assert S3Location.parse(settings.objects).region == S3Location.parse(settings.vectors).region == "auto"
    assert {line for line in lines if line.endswith("=")} == {"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}


def test_the_command_of_the_page_makes_every_secret_for_its_owner_alone(tmp_path: Path) -> None:
    page = (FOLDER.parents[1] / "docs" / "deployment.md").read_text()
    (command,) = re.findall(r"(?ms)^\(umask .*? > \.env\)$", page)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    environment = dict(line.split("=", 1) for line in made.read_text().splitlines())
    assert set(environment) == set(SECRETS)
    assert len({value for value in environment.values() if re.fullmatch("[0-9a-f]{48}", value)}) == len(SECRETS)
    assert read(FOLDER / "compose.yaml", environment)["services"].keys() == SERVICES.keys()


def test_variables_are_replaced_as_compose_does() -> None:
    environment = {"A": "1", "EMPTY": ""}
    assert interpolate("${A} ${B:-2} ${EMPTY:-3} ${EMPTY} $$A", environment) == "1 2 3  $A"
    with pytest.raises(MissingVariable, match="EMPTY: set it"):
        interpolate("${EMPTY:?set it}", environment)


def test_prometheus_takes_its_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no program promtool; Debian's package prometheus has it")
    command = [promtool, "check", "config", FOLDER / "prometheus" / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_grafana_finds_prometheus_and_the_dashboards_where_compose_puts_them() -> None:
    datasource = (FOLDER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    assert "url: http://prometheus:9090\n" in datasource
    assert SERVICES["pod"]["networks"]["outside"] == {"aliases": ["prometheus"]}
    provider = (FOLDER / "grafana" / "provisioning" / "dashboards" / "visiongraph.yaml").read_text()
    folder = re.search(r"path: (\S+)", provider)
    assert folder
    assert f"./grafana/dashboards:{folder[1]}:ro" in SERVICES["grafana"]["volumes"]
