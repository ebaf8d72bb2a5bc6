"""The APIs by name: what mounts each, and the stages it calls."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI

from graphs.assets import api as assets
from graphs.context import Context


@dataclass(frozen=True)
class Api:
    """``mount`` adds the routes of the API to an application; ``stages`` are the keys it needs in the context."""

    title: str
    mount: Callable[[FastAPI, Context], None]
    stages: tuple[str, ...]


APIS: dict[str, Api] = {
    "assets": Api("Assets: upload, features, similarity, search", assets.mount, assets.STAGES),
}
