"""A room's application in a Serve configuration: which stages share a process, and Serve's options by default.

It imports neither Ray nor a stage, so that a configuration can be read before anything is started.
"""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

OPTIONS: Final[dict[str, Any]] = {
    "max_ongoing_requests": 16,
    "max_queued_requests": 64,
    "backpressure_config": {"status_code": 429, "retry_after_s": 1},
    "health_check_period_s": 5,
    # What VISION_REQUEST_TIMEOUT_S gives a request: a replica that stops ends those that it has.
    "graceful_shutdown_timeout_s": 60,
}
"""Serve's options of every deployment of a room, each of which its entry in a Serve configuration may replace."""
AUTOSCALING: Final[dict[str, Any]] = {
    "min_replicas": 1,
    "max_replicas": 8,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 10,
    "downscale_delay_s": 300,
}
"""``autoscaling_config`` of a stage with its own deployment; Serve replaces it as a whole, never number by number.

A pack has none: its purpose is to have few processes.
"""


class RoomArgs(BaseModel):
    """``args`` of a room's application."""

    model_config = ConfigDict(extra="forbid")

    stages: list[str] = Field(default_factory=list, description="stages with their own deployment")
    packs: dict[str, list[str]] = Field(default_factory=dict, description="deployment name → stages that share it")

    @model_validator(mode="after")
    def _something_once(self) -> "RoomArgs":
        keys = [*self.stages, *(key for pack in self.packs.values() for key in pack)]
        if not keys:
            raise ValueError("a room needs stages or packs")
        if len(keys) != len(set(keys)):
            raise ValueError("a stage is named twice")
        names = [*(key.partition("/")[2] for key in self.stages), *self.packs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two deployments would be called {name}")
        return self

    def deployments(self) -> dict[str, list[str]]:
        """Return the stage keys of each deployment, by its name."""
        return {key.partition("/")[2]: [key] for key in self.stages} | self.packs

    def options(self) -> dict[str, dict[str, Any]]:
        """Return Serve's options of each deployment, by its name, where no Serve configuration replaces them."""
        own = {"autoscaling_config": AUTOSCALING}
        return {name: OPTIONS if name in self.packs else OPTIONS | own for name in self.deployments()}
