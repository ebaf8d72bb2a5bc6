"""analysis/identities: which traces of a video show the same person, and which of them are known already.

How is in ``vision.faces.identities``: average linkage of face vectors, then the most alike known identity.
"""

from typing import Any, Final

from pydantic import Field

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.faces.identities import Assignment, IdentityRequest, assign_identities


class Config(StageConfig):
    """``user_config`` of analysis/identities; everything changes in place."""

    same_cosine: float = Field(
        default=0.40, ge=-1, le=1, description="least mean cosine between two groups of traces of one person"
    )
    known_cosine: float = Field(
        default=0.40, ge=-1, le=1, description="least cosine of a group's mean to the identity that it is"
    )


IDENTITIES: Final = StageRef[IdentityRequest, tuple[Assignment, ...]]("analysis/identities")


class IdentityMatcher(Stage[Config, IdentityRequest, IdentityRequest, tuple[Assignment, ...]]):
    """Traces of one video → one Assignment each, in order."""

    key = IDENTITIES.key
    config_class = Config
    libraries = ("scipy.cluster.hierarchy",)

    def predict(self, item: IdentityRequest) -> tuple[Assignment, ...]:
        config = self.config
        return assign_identities(item, same_cosine=config.same_cosine, known_cosine=config.known_cosine)

    def info(self) -> dict[str, Any]:
        return {
            "method": "average linkage, never joining traces that share a moment; then the most alike known identity",
            "score": "cosine, -1 to 1, higher is more alike",
            "same_cosine": self.config.same_cosine,
            "known_cosine": self.config.known_cosine,
        }
