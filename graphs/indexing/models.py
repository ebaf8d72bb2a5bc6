"""Which models find shots at present, and stand for what was found."""

import asyncio
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphs.indexing.candidates import jpeg
from graphs.indexing.serving import BLANK
from graphs.web.context import Context
from vision.shots.transitions import THUMBNAIL, WINDOW

CUTS: Final = "shots/cuts"
CAMERA: Final = "shots/camera"
EMBED: Final = "embed/dinov3"
CLIP: Final = "embed/clip"
FACES: Final = "people/faces"
STILL: Final = np.zeros((WINDOW, THUMBNAIL[1], THUMBNAIL[0], 3), np.uint8)


@dataclass(frozen=True, slots=True)
class ShotModels:
    """Versions of the models. ``clip`` is empty where none is loaded that understands texts: vectors are for those."""

    cuts: str
    features: str
    clip: str
    faces: str

    @property
    def version(self) -> str:
        """All in one."""
        return f"{self.cuts}+{self.features}+{self.clip}+{self.faces}"

    @classmethod
    async def of(cls, context: Context) -> "ShotModels":
        """Those that serve now. Raises ModelNotLoaded and StageUnavailable."""
        cuts, features, clip, faces = await asyncio.gather(
            context.stages[CUTS].ready_info(STILL),
            context.stages[EMBED].ready_info(jpeg(BLANK)),
            context.stages[CLIP].ready_info(BLANK),
            context.stages[FACES].ready_info(BLANK),
        )
        return cls(
            str(cuts["model_version"]),
            str(features["model_version"]),
            str(clip["model"]) if clip.get("text") else "",
            f"{faces['model_version']}:{faces.get('threshold', '')}",
        )
