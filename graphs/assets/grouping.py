"""Groups of assets by the people in them.

Every face at least half as high as the largest one of its asset counts as a person, so an asset may be in several
groups; smaller faces count as passers-by and are left out. Assets without a face are grouped by their whole pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.analysis.groups import GROUPS, GroupQuery
from graphs.assets.character_schemas import Basis, CharacterGroup, FaceBox, GroupedAsset
from graphs.assets.features import FeatureSource
from graphs.indexing.faces import EmbeddedFace, FaceSource
from graphs.web.context import Context
from stores.records import Asset
from vision.errors import StageError
from vision.faces.calibration import face_cosine, image_cosine
from vision.faces.face import Face

PROMINENT: Final = 0.5
"""Height of a face, relative to the largest one of its picture, from which on it counts as a person."""
MAX_PEOPLE: Final = 10
"""People of one asset that are grouped: its largest faces."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A vector to group and the asset that it belongs to; ``face`` is None for a whole picture."""

    asset: Asset
    vector: NDArray[np.float32]
    face: Face | None
    quality: float


class Grouping:
    """Groups assets by face, and those without one by their whole pictures."""

    def __init__(self, context: Context, features: FeatureSource, faces: FaceSource) -> None:
        self._context = context
        self._features = features
        self._faces = faces

    async def group(
        self, assets: Mapping[str, Asset], threshold: float
    ) -> tuple[list[CharacterGroup], dict[str, StageError]]:
        """Return groups, the largest first, and errors by asset id; ``threshold`` in per cent."""
        faces, failures = await self._faces.many(assets.values())
        features, more = await self._features.many(assets[asset_id] for asset_id in faces if not faces[asset_id])
        people = [
            _Member(assets[asset_id], vector.vector, face, vector.quality)
            for asset_id in assets
            for face, vector in _prominent(faces.get(asset_id, ()))
        ]
        scenes = [
            _Member(assets[asset_id], features[asset_id].unit, None, 1.0) for asset_id in assets if asset_id in features
        ]
        groups = await self._groups(people, face_cosine(threshold), "face")
        groups += await self._groups(scenes, image_cosine(threshold), "image")
        groups.sort(key=lambda group: -group.character_count)
        for number, group in enumerate(groups):
            group.group_id = number
        return groups, failures | more

    async def _groups(self, members: list[_Member], least_cosine: float, basis: Basis) -> list[CharacterGroup]:
        if not members:
            return []
        ids = list(dict.fromkeys(member.asset.asset_id for member in members))
        owners = np.array([ids.index(member.asset.asset_id) for member in members])
        vectors = np.stack([member.vector for member in members])
        groups = await self._context.stage(GROUPS)(GroupQuery(vectors, owners, least_cosine))
        return [
            _group([members[index] for index in own], groups.centrality[own], basis)
            for own in (np.flatnonzero(groups.labels == label) for label in range(int(groups.labels.max()) + 1))
        ]


def _prominent(faces: tuple[EmbeddedFace, ...]) -> tuple[EmbeddedFace, ...]:
    highest = max((face.height for face, _ in faces), default=0.0)
    return tuple(face for face in faces if face[0].height >= PROMINENT * highest)[:MAX_PEOPLE]


def _group(members: list[_Member], centrality: NDArray[np.float64], basis: Basis) -> CharacterGroup:
    order = np.argsort(-centrality, kind="stable")
    clearest = max(range(len(members)), key=lambda index: centrality[index] * members[index].quality)
    return CharacterGroup(
        group_id=0,  # numbered once all groups are known
        character_count=len(members),
        assets=[_grouped_asset(members[index]) for index in order],
        representative_asset=members[clearest].asset.asset_id,
        representative_asset_details=_grouped_asset(members[clearest]),
        basis=basis,
    )


def _grouped_asset(member: _Member) -> GroupedAsset:
    face = member.face
    box = face and FaceBox(
        x=round(face.x, 2), y=round(face.y, 2), width=round(face.width, 2), height=round(face.height, 2)
    )
    return GroupedAsset(asset_id=member.asset.asset_id, filename=member.asset.filename, face=box)
