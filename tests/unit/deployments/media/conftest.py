"""The videos of all recipes."""

from tests.unit.vision.media.conftest import video

__all__ = ["video"]
