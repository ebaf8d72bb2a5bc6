"""The manifests of ops.deploy.rayservice: valid, with serve_config.yaml itself, closed, and large enough."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from jsonschema import Draft202012Validator

from configs.settings import variables
from ops.cluster import FORWARDING, IDLE, RELOADS, THROUGHPUT
from ops.deploy.rayservice import FOLDER, containers, manifests, pod_templates
from ops.plan.choice import CONFIGS, first_misfit, read_needs
from ops.plan.machines import Gpu, Node
from tests.compose import SECRETS

MANIFESTS = list(manifests())
BY_NAME = {f"{each['kind']}/{each['metadata']['name']}": each for each in MANIFESTS}
RAYSERVICE: dict[str, Any] = BY_NAME["RayService/visiongraph"]
CLUSTER: dict[str, Any] = RAYSERVICE["spec"]["rayClusterConfig"]
SCHEMA = Draft202012Validator(json.loads((FOLDER / "rayservice.schema.json").read_text()))
KUBERNETES = ("1.29", "1.33", "1.37")


def test_the_manifests_are_what_the_command_prints() -> None:
    command = [sys.executable, "-m", "ops.deploy.rayservice"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert list(yaml.safe_load_all(done.stdout)) == MANIFESTS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_serve_configuration_is_the_file_itself(path: Path) -> None:
    (rayservice,) = (each for each in manifests(path) if each["kind"] == "RayService")
    assert rayservice["spec"]["serveConfigV2"] == path.read_text()
    assert yaml.safe_load(rayservice["spec"]["serveConfigV2"]) == yaml.safe_load(path.read_text())


def test_the_images_are_those_that_were_asked_for() -> None:
    (rayservice,) = (each for each in manifests(image="registry.example/vg:7") if each["kind"] == "RayService")
    images = [container["image"] for container in containers(rayservice)]
    assert images == [f"registry.example/vg:7-{target}" for target in ("cpu", "cpu", "cuda")]


def test_the_rayservice_is_one_of_kuberay() -> None:
    assert list(SCHEMA.iter_errors(RAYSERVICE)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"enableInTreeAutoscaling": False}, ["enableInTreeAutoscaling"]),
        ({"headGroupSpec": {"template": {}, "rayStartParam": {}}}, ["headGroupSpec"]),
        ({"rayVersion": 2.6}, ["rayVersion"]),
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_operator_would(change: dict[str, Any], where: list[str]) -> None:
    wrong = {**RAYSERVICE, "spec": {**RAYSERVICE["spec"], "rayClusterConfig": {**CLUSTER, **change}}}
    errors = {tuple(error.absolute_path) for error in SCHEMA.iter_errors(wrong)}
    assert errors == {("spec", "rayClusterConfig", *where)}


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_other_objects_and_all_pods_are_those_of_kubernetes(version: str) -> None:
    pods = [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        for template in pod_templates(RAYSERVICE)
    ]
    others = [each for each in MANIFESTS if each["kind"] != "RayService"]
    for each in (*others, *pods):
        kubernetes_validate.validate(each, version, strict=True)


def test_the_upgrade_moves_no_more_requests_than_replicas() -> None:
    strategy = RAYSERVICE["spec"]["upgradeStrategy"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    options = strategy["clusterUpgradeOptions"]
    assert 0 < options["stepSizePercent"] <= options["maxSurgePercent"] <= 100
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert CLUSTER["rayVersion"] == ray.__version__


@pytest.mark.parametrize("template", pod_templates(RAYSERVICE), ids=["head", "cpu", "gpu"])
def test_a_pod_has_no_rights_and_probes_that_answer(template: dict[str, Any]) -> None:
    spec = template["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["envFrom"] == [{"configMapRef": {"name": "visiongraph"}}, {"secretRef": {"name": "visiongraph"}}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/api/healthz", "port": 52365}
    # What the root file system does not take lies on volumes, as in the image.
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp", "/var/lib/visiongraph", "/weights"]
    assert {volume["name"] for volume in spec["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


@pytest.mark.parametrize("group", CLUSTER["workerGroupSpecs"], ids=lambda group: group["groupName"])
def test_a_worker_gets_requests_while_its_proxy_serves_and_time_to_end_them(group: dict[str, Any]) -> None:
    spec = group["template"]["spec"]
    (container,) = spec["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}
    *_, drain = container["lifecycle"]["preStop"]["exec"]["command"]
    waits, stops = (int(word.rstrip(";")) for word in drain.split() if word.rstrip(";").isdigit())
    assert waits + stops < spec["terminationGracePeriodSeconds"]
    assert group["minReplicas"] < group["maxReplicas"]


def _nodes() -> list[Node]:
    head, *groups = pod_templates(RAYSERVICE)
    counts = [1, *(group["minReplicas"] for group in CLUSTER["workerGroupSpecs"])]
    nodes = []
    for template, count in zip([head, *groups], counts, strict=True):
        limits = template["spec"]["containers"][0]["resources"]["limits"]
        is_head = template is head
        cpus = float(CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] if is_head else limits["cpu"])
        gpus = tuple(Gpu(memory_mb=16_000) for _ in range(int(limits.get("nvidia.com/gpu", 0))))
        memory_mb = int(limits["memory"].removesuffix("Gi")) * 2**30 / 1e6
        nodes += [Node(f"node {len(nodes)}", {"CPU": cpus}, memory_mb, gpus, is_head) for _ in range(count)]
    return nodes


def test_the_least_pods_have_a_place_for_the_least_replicas() -> None:
    nodes = _nodes()
    assert first_misfit(read_needs(CONFIGS[0], nodes), nodes) is None
    assert first_misfit(read_needs(CONFIGS[0], nodes[:-1]), nodes[:-1]) is not None, "the GPU is needed"


def test_the_environment_is_that_of_a_cluster_that_is_started_by_hand() -> None:
    data = BY_NAME["ConfigMap/visiongraph"]["data"]
    assert all(isinstance(value, str) for value in data.values())
    assert {name for name in data if name.startswith("VISION_")} <= set(variables())
    expected = THROUGHPUT | FORWARDING | IDLE | RELOADS
    of_ray = {name: value for name, value in data.items() if name.startswith(("RAY_", "MALLOC_"))}
    assert of_ray == {name: expected[name] for name in of_ray}
    assert of_ray.keys() >= (FORWARDING | IDLE | RELOADS).keys()
    assert not any(secret in data for secret in SECRETS)


def test_the_policies_are_about_the_pods_and_let_in_whom_the_page_names() -> None:
    labels = [template["metadata"]["labels"] for template in pod_templates(RAYSERVICE)]
    policies = [each for each in MANIFESTS if each["kind"] == "NetworkPolicy"]
    assert all(each["spec"]["podSelector"]["matchLabels"].items() >= labels[0].items() for each in policies)
    assert labels == [{"app": "visiongraph"}] * 3
    main = BY_NAME["NetworkPolicy/visiongraph"]["spec"]
    assert main["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule.get("from") for rule in main["ingress"]), "nothing is open to everybody"
    open_to_all = [rule for rule in main["ingress"] if "ports" not in rule]
    assert open_to_all == [{"from": [{"podSelector": {"matchLabels": {"app": "visiongraph"}}}]}]
    (public,) = (to["ipBlock"] for rule in main["egress"] for to in rule["to"] if "ipBlock" in to)
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(public["except"])


def test_a_drain_of_nodes_leaves_a_worker_and_is_never_stopped_for_good() -> None:
    budget = BY_NAME["PodDisruptionBudget/visiongraph-cpu"]["spec"]
    (cpu,) = (group for group in CLUSTER["workerGroupSpecs"] if group["groupName"] == "cpu")
    assert budget["selector"]["matchLabels"] == {"app": "visiongraph", "ray.io/group": "cpu"}
    assert 0 < budget["minAvailable"] < cpu["minReplicas"]
