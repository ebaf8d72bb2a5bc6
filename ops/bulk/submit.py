"""Run a bulk index as a job of a Ray cluster, and follow it from here.

``ray job submit`` reaches a cluster by its dashboard, whose address and token it does not look up; this does.
"""

import asyncio
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ops.cluster import ClusterError, inherited_environment, join

NO_AGENT: Final = (
    " If that stays, Ray's agent on the head node does not run, and its dashboard_agent.log says why: two Rays on one "
    "machine need ports of their own, `ray start --dashboard-agent-listen-port=…`."
)
SUCCEEDED: Final = "SUCCEEDED"
_AS_IT_IS: Final = re.compile(r"s3://.*|[0-9a-f]{32}")


class Submission:
    """A bulk run that the cluster runs."""

    def __init__(self, client: Any, job_id: str) -> None:
        self._client = client
        self.job_id = job_id

    def follow(self, show: Callable[[str], None]) -> int:
        """Show what the run prints until it ends; return its exit code. Raises ClusterError when it never ran."""

        async def tail() -> None:
            async for text in self._client.tail_job_logs(self.job_id):
                show(text)

        try:
            asyncio.run(tail())
            info = self._client.get_job_info(self.job_id)
        except (RuntimeError, OSError) as error:
            raise ClusterError(
                f"The cluster does not answer any more ({error}); job {self.job_id} may run on."
            ) from error
        if info.driver_exit_code is not None:
            return int(info.driver_exit_code)
        if info.status == SUCCEEDED:
            return 0
        raise ClusterError(f"Job {self.job_id} {str(info.status).lower()}: {info.message}")


def submit(arguments: Sequence[str]) -> Submission:
    """Submit ``python -m ops.bulk`` with these arguments to the Ray of this machine. Raises ClusterError.

    ``RAY_API_SERVER_ADDRESS``, the URL of its dashboard, names one elsewhere; Ray sends a token there only if
    ``RAY_AUTH_MODE`` is ``token``.
    """
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # it reports each connection's end
    elsewhere = os.environ.get("RAY_API_SERVER_ADDRESS", "")
    try:
        if elsewhere:
            client = JobSubmissionClient(elsewhere)
            return Submission(
                client, client.submit_job(entrypoint=shlex.join(["python", "-m", "ops.bulk", *arguments]))
            )
        dashboard, environment = _here()
        client = JobSubmissionClient(dashboard)
        command = shlex.join([sys.executable, "-m", "ops.bulk", *arguments])
        return Submission(client, client.submit_job(entrypoint=command, runtime_env={"env_vars": environment}))
    except (RuntimeError, ConnectionError) as error:
        hint = NO_AGENT if "No available agent" in str(error) else ""
        raise ClusterError(f"The cluster does not take the run: {error}{hint}") from error


def absolute(source: str) -> str:
    """Return a SOURCE as a process in another folder finds it."""
    if _AS_IT_IS.fullmatch(source):
        return source
    return f"@{Path(source[1:]).absolute()}" if source.startswith("@") else str(Path(source).absolute())


def _here() -> tuple[str, dict[str, str]]:
    """Return the URL of the dashboard of the Ray that runs here, and the settings of this process for its job."""
    import ray
    from ray._private.services import find_gcs_addresses

    from deployments.serving.nodes import working_nodes

    running = find_gcs_addresses()
    if len(running) > 1 and not os.environ.get("RAY_ADDRESS"):
        raise ClusterError(
            f"Several Ray clusters run on this machine ({', '.join(sorted(running))}); name one in RAY_ADDRESS, as in "
            "the line that `visiongraph serve` prints."
        )
    context = join(log_to_driver=False, logging_level="error")
    if context is None:
        raise ClusterError(
            "No Ray cluster runs on this machine: start the service with `visiongraph serve`, leave out --submit to "
            "index with a Ray of its own, or name the dashboard of another cluster in RAY_API_SERVER_ADDRESS."
        )
    try:
        if not context.dashboard_url:
            raise ClusterError(
                "This Ray cluster has no dashboard; start it with `ray start --head --include-dashboard=true`."
            )
        return f"http://{context.dashboard_url}", inherited_environment(len(working_nodes()))
    finally:
        ray.shutdown()
