"""Sharing a Ray cluster: what others deployed stays theirs. The client stands in for a second cluster's dashboard."""

from typing import Any

import pytest

from ops.cluster import Cluster, ClusterError


class Dashboard:
    """Serve's REST client, with one application of somebody else deployed."""

    def __init__(self) -> None:
        self.deployed: dict[str, Any] = {}

    def get_serve_details(self) -> dict[str, Any]:
        theirs = {"name": "theirs", "import_path": "their.module:app"}
        return {"applications": {"theirs": {"status": "RUNNING", "deployed_app_config": theirs}}}

    def deploy_applications(self, config: dict[str, Any]) -> None:
        self.deployed = config


def joined() -> tuple[Cluster, Dashboard]:
    cluster, dashboard = Cluster(), Dashboard()
    cluster._client = dashboard
    return cluster, dashboard


def test_applications_of_others_are_kept_and_not_counted_as_ours() -> None:
    cluster, dashboard = joined()
    cluster.deploy({"applications": [{"name": "gateway"}]})
    assert [app["name"] for app in dashboard.deployed["applications"]] == ["theirs", "gateway"]
    assert cluster._deployed == ["gateway"]
    assert cluster.statuses() == []


def test_a_name_that_is_taken_is_refused() -> None:
    cluster, dashboard = joined()
    with pytest.raises(ClusterError, match="already serves theirs"):
        cluster.deploy({"applications": [{"name": "theirs"}]})
    assert dashboard.deployed == {}
    assert cluster._deployed == []
