"""Objects in pictures, over HTTP."""

import numpy as np
from PIL import Image

from tests.dummies.objects import OBJECTS
from tests.graphs.conftest import Service
from tests.graphs.samples import audio, encoded, error_of, picture

DOG, CAR, PERSON = OBJECTS


def scene() -> bytes:
    """A dog, a car, and something that may be a person."""
    pixels = np.full((120, 200, 3), 90, np.uint8)
    pixels[10:50, 20:80] = DOG
    pixels[60:100, 100:190] = CAR
    pixels[5:55, 150:170] = PERSON
    return encoded(Image.fromarray(pixels), "PNG")


async def test_what_is_in_a_picture_surest_first(service: Service) -> None:
    asset_id = await service.upload(scene(), "scene.png")
    answer = await service.post("detect-objects", asset_id=asset_id)
    assert (answer["asset_id"], answer["filename"]) == (asset_id, "scene.png")
    assert answer["image_dimensions"] == {"width": 200, "height": 120}
    assert answer["objects"] == [
        {"label": "dog", "confidence": 0.95, "x": 20.0, "y": 10.0, "width": 60.0, "height": 40.0},
        {"label": "car", "confidence": 0.6, "x": 100.0, "y": 60.0, "width": 90.0, "height": 40.0},
    ]
    assert answer["counts"] == {"dog": 1, "car": 1}
    assert answer["model_version"] == "dummy@00000000"


async def test_classes_and_confidence_choose(service: Service) -> None:
    asset_id = await service.upload(scene())
    all_of_them = await service.post("detect-objects", asset_id=asset_id, min_confidence=0.3)
    assert list(all_of_them["counts"]) == ["dog", "car", "person"]
    cars = await service.post("detect-objects", asset_id=asset_id, classes=["Car "])
    assert cars["counts"] == {"car": 1}
    none = await service.post("detect-objects", asset_id=asset_id, classes=["person"])
    assert (none["objects"], none["counts"]) == ([], {})
    empty = await service.post("detect-objects", asset_id=await service.upload(picture(1)))
    assert empty["objects"] == []


async def test_a_class_that_there_is_not_is_told(service: Service) -> None:
    asset_id = await service.upload(scene())
    refused = await service.try_post("detect-objects", asset_id=asset_id, classes=["dog", "unicorn"])
    message = error_of(refused, 400, "INVALID_INPUT")["message"]
    assert "no class 'unicorn'" in message
    assert "car, dog, person" in message


async def test_what_has_no_picture_is_refused(service: Service) -> None:
    sound = await service.upload(audio(), "a.wav")
    assert (await service.try_post("detect-objects", asset_id=sound)).status_code == 400
    error_of(await service.try_post("detect-objects", asset_id="f" * 32), 404, "ASSET_NOT_FOUND")
    error_of(await service.try_post("detect-objects", asset_id=sound, min_confidence=2), 422, "VALIDATION_ERROR")
