"""Which models find faces in videos and tell them apart at present."""

import asyncio
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphs.web.context import Context

FACES: Final = "people/video_faces"
IDENTITY: Final = "people/identity"
BLANK: Final = np.zeros((32, 32, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Models:
    """``faces``: the version of the detector and its threshold; ``identity``: the version of the recognizer."""

    faces: str
    identity: str

    @property
    def version(self) -> str:
        """Both in one."""
        return f"{self.faces}+{self.identity}"

    @classmethod
    async def of(cls, context: Context) -> "Models":
        """Those that serve now. Raises as ``identity_version`` does."""
        detector, identity = await asyncio.gather(context.stages[FACES].ready_info(BLANK), identity_version(context))
        return cls(f"{detector['model_version']}:{detector.get('threshold', '')}", identity)


async def identity_version(context: Context) -> str:
    """The version that vectors have to be of to be compared. Raises ModelNotLoaded and StageUnavailable."""
    return str((await context.stages[IDENTITY].ready_info((BLANK, ())))["model_version"])
