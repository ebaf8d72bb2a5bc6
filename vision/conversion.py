"""Converts networks to OpenVINO: one at a time on a machine, each in a process of its own that ends.

A conversion takes several times the memory of its network, and torch and OpenVINO keep most of it; nine of them in the
process that then serves took 5 GB. A process that ends gives back all, and one that is killed costs no other network.
"""

import logging
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from vision.child import Allowance, Child
from vision.errors import ModelNotLoaded, StageError

logger = logging.getLogger("ray.serve")

WITHIN_S: Final = 900.0
MEMORY: Final = 2**40
"""Not bounded: what a conversion takes is the network's affair, and its file is verified."""
ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2", "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error"}


def apart(model: Path, convert: Callable[..., None], *arguments: Any) -> None:
    """Call ``convert(*arguments)``, which makes ``model``, in a process of its own, when no other one converts.

    Arguments that cannot be pickled, such as functions of a notebook, make it run in this process. Raises what
    ``convert`` does, and ModelNotLoaded when its process ends before it.
    """
    with FileLock(model.parent.parent / "conversion.lock"):
        try:
            pickle.dumps((convert, arguments))
        except (pickle.PicklingError, AttributeError, TypeError):
            convert(*arguments)
            return
        started = time.monotonic()
        logger.info("converting %s for OpenVINO", model.parent.name)
        child = Child(ENVIRONMENT)
        try:
            child.ends = started + WITHIN_S
            child.call(Allowance(WITHIN_S * (os.cpu_count() or 1), MEMORY), convert, *arguments)
        except ModelNotLoaded:
            raise
        except StageError as error:
            logger.warning("the process that converts %s ended: %s", model.parent.name, error.message)
            raise ModelNotLoaded(
                f"Converting {model.parent.name} for OpenVINO ended its process, perhaps for a lack of memory. It is "
                "tried again when the stage is next asked for; or set engine: torch-fp32 in the stage's user_config."
            ) from None
        finally:
            child.stop()
        logger.info("converted %s in %.1f s", model.parent.name, time.monotonic() - started)
