"""Records and bytes for the store tests."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stores.records import OBJECT_COLUMNS, PLACE_COLUMNS, Asset, Features, PictureFaces, PictureObjects, Vector
from vision.media.sniff import MediaKind

MODEL = "dinov3-vits16/1"
DETECTOR = "detr@1:0.3"
MOMENT = datetime(2026, 3, 4, 5, 6, 7, 123457, tzinfo=UTC)


def asset_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def make_asset(number: int) -> Asset:
    return Asset(
        asset_id=asset_id(number),
        filename=f"photo {number} – ä.jpg",
        kind="image",
        format="jpeg",
        content_type="image/jpeg",
        file_size=5_000_000_000 + number,
        uploaded_at=MOMENT,
        width=640,
        height=480,
    )


def unit_vector(seed: int, dimension: int = 8) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(dimension, dtype=np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def make_features(
    number: int,
    *,
    model: str = MODEL,
    kind: MediaKind = "image",
    unit: Vector | None = None,
    created_at: datetime = MOMENT,
) -> Features:
    unit = unit_vector(number) if unit is None else unit
    return Features(asset_id(number), model, kind, unit * 3, unit, created_at)


def make_faces(number: int, *, count: int = 2, model: str = MODEL, created_at: datetime = MOMENT) -> PictureFaces:
    rng = np.random.default_rng(number)
    places = rng.standard_normal((count, PLACE_COLUMNS), dtype=np.float32)
    return PictureFaces(asset_id(number), model, places, rng.standard_normal((count, 8), dtype=np.float32), created_at)


def make_objects(
    number: int, *objects: tuple[str, float], kind: MediaKind = "image", model: str = DETECTOR
) -> PictureObjects:
    """Objects by class and confidence, four pixels apart."""
    places = [(4 * place, 8, 30, 20.5, confidence) for place, (_, confidence) in enumerate(objects)]
    array = np.array(places, np.float32).reshape(-1, OBJECT_COLUMNS)
    labels = tuple(label for label, _ in objects)
    return PictureObjects(asset_id(number), model, kind, 640, 480, labels, array, MOMENT)


def write_file(folder: Path, content: bytes, name: str = "upload") -> Path:
    """A file for ``put_file``, which may consume it."""
    path = folder / name
    path.write_bytes(content)
    return path
