"""The APIs by name: what mounts each, the stages it calls, and what it promises of all its routes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import FastAPI

from configs.settings import Settings
from graphs.assets import api as assets
from graphs.authenticity import api as authenticity
from graphs.jobs import routes as jobs
from graphs.media import api as media
from graphs.muzzle import api as muzzle
from graphs.photos import api as photos
from graphs.shots import api as shots
from graphs.shots.library import body_limits as shot_body_limits
from graphs.web import contracts
from graphs.web.context import Context
from graphs.web.contracts import Contract


def _no_body_limits(_: Settings) -> Mapping[str, int]:
    return {}


@dataclass(frozen=True)
class Api:
    """``mount`` adds the routes of the API to an application; ``stages`` are the keys it needs in the context.

    ``body_limits`` are bytes by path, for routes whose body may be larger than ``max_body_bytes``.
    """

    title: str
    mount: Callable[[FastAPI, Context], None]
    stages: tuple[str, ...]
    contract: Contract
    body_limits: Callable[[Settings], Mapping[str, int]] = _no_body_limits


APIS: dict[str, Api] = {
    "assets": Api(
        "Assets: upload, features, similarity, search, quality", assets.mount, assets.STAGES, contracts.ASSETS
    ),
    "photos": Api(
        "Photos: quality, emotion, embedding, clusters, reviews",
        photos.mount,
        photos.STAGES,
        contracts.PHOTOS,
        photos.body_limits,
    ),
    "media": Api("Media: video streams, clips, frames, face traces", media.mount, media.STAGES, contracts.MEDIA),
    "shots": Api(
        "Shots: storing, suggesting and browsing shots of videos",
        shots.mount,
        shots.STAGES,
        contracts.SHOTS,
        shot_body_limits,
    ),
    "muzzle": Api(
        "Muzzle: verification and identification of cattle",
        muzzle.mount,
        muzzle.STAGES,
        contracts.MUZZLE,
        muzzle.body_limits,
    ),
    "authenticity": Api(
        "Authenticity: deepfake analysis of image, video and audio",
        authenticity.mount,
        authenticity.STAGES,
        contracts.AUTHENTICITY,
        authenticity.body_limits,
    ),
    "jobs": Api("Jobs: progress and cancelling of long work", jobs.mount, (), contracts.JOBS),
}
