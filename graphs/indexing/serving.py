"""Which models find faces in videos and tell them apart at present."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphs.web.context import Context
from vision.errors import StageError, StageUnavailable

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
        detector, identity = await asyncio.gather(stage_info(context, FACES, BLANK), identity_version(context))
        return cls(f"{detector['model_version']}:{detector.get('threshold', '')}", identity)


async def identity_version(context: Context) -> str:
    """The version that vectors have to be of to be compared. Raises ModelNotLoaded and StageUnavailable."""
    return str((await stage_info(context, IDENTITY, (BLANK, ())))["model_version"])


async def stage_info(context: Context, key: str, blank: Any) -> dict[str, Any]:
    """What a stage says of itself, once it is loaded; ``blank`` is an input that costs little.

    Raises ModelNotLoaded and StageUnavailable.
    """
    stage = context.stages[key]
    try:
        info = await stage.info()
        if not info.get("loaded"):
            await stage(blank)  # wakes a stage that sleeps; of one without weights it raises the reason
            info = await stage.info()
    except StageError:
        raise
    except Exception as error:
        raise StageUnavailable(f"{key} does not answer yet; try again in a few seconds.") from error
    return info
