"""Print the manifests for Kubernetes, with a Serve configuration in them: ``python -m ops.deploy.rayservice``."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from ops.cli.main import run
from ops.plan.choice import CONFIGS

FOLDER: Final = Path(__file__).parent / "kubernetes"
FILES: Final = ("settings.yaml", "rayservice.yaml", "network.yaml")
IMAGE: Final = "visiongraph:0.1.0"
"""What the images of the manifests are called, without ``-cpu`` and ``-cuda``."""


def manifests(config: Path = CONFIGS[0], image: str = IMAGE) -> Iterator[dict[str, Any]]:
    """Yield every Kubernetes object, with this Serve configuration, comments included, and these images."""
    for name in FILES:
        for manifest in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")):
            if manifest["kind"] == "RayService":
                manifest["spec"]["serveConfigV2"] = config.read_text(encoding="utf-8")
                for container in containers(manifest):
                    container["image"] = container["image"].replace(IMAGE, image)
            yield manifest


def pod_templates(rayservice: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the templates of the head's pod and of each group of workers, in this order."""
    cluster = rayservice["spec"]["rayClusterConfig"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def containers(rayservice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the containers of all pods."""
    for template in pod_templates(rayservice):
        yield from template["spec"]["containers"]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are, and nothing as a reference to an earlier part."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if text.count("\n") > 2 else None)


_Dumper.add_representer(str, _text)


def main(
    config: Annotated[Path, typer.Option(help="Serve configuration to deploy.")] = CONFIGS[0],
    image: Annotated[str, typer.Option(help="Name and tag of the images, without -cpu and -cuda.")] = IMAGE,
) -> None:
    """Print the manifests, for `kubectl apply -f -`."""
    yaml.dump_all(manifests(config, image), sys.stdout, _Dumper, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    run(main)
