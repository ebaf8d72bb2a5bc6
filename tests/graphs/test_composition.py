"""Composition of assets: sizes and shots, faces, colours, with or without features."""

import io

import pytest
from PIL import Image, ImageDraw

from tests.graphs.conftest import Service
from tests.graphs.samples import encoded, error_of, picture, video
from tests.tolerances import FP32


async def test_a_picture_is_described(service: Service) -> None:
    asset_id = await service.upload(picture(1, size=(120, 80)), "wide.png")
    answer = await service.post("analyze-image-composition", asset_id=asset_id)
    assert (answer["asset_id"], answer["filename"]) == (asset_id, "wide.png")
    assert answer["image_dimensions"] == {"width": 120, "height": 80}
    analysis = answer["composition_analysis"]
    assert set(analysis) == {"shot_size", "shot_angle", "framing", "aspect_ratio"}
    assert analysis["aspect_ratio"] == 1.5
    features = (await service.post("extract-features", asset_id=asset_id))["features"]
    assert answer["features"] == pytest.approx(features, abs=FP32)
    assert isinstance(answer["composition_tags"], list)
    assert answer["faces_detected"] == 0


async def test_features_may_be_left_out(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    answer = await service.post("analyze-image-composition", asset_id=asset_id, extract_features=False)
    assert answer["features"] is None
    assert service.embed.calls == 0


async def test_a_mirror_image_is_symmetric(service: Service) -> None:
    half = Image.open(io.BytesIO(picture(2, size=(40, 60))))
    whole = Image.new("RGB", (80, 60))
    whole.paste(half, (0, 0))
    whole.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (40, 0))
    mirrored = await service.post(
        "analyze-image-composition", asset_id=await service.upload(encoded(whole, "PNG")), extract_features=False
    )
    other = await service.post(
        "analyze-image-composition", asset_id=await service.upload(picture(2, size=(80, 60))), extract_features=False
    )
    symmetry = mirrored["enhanced_analysis"]["symmetry_score"]
    assert symmetry["horizontal_symmetry"] > 0.95
    assert symmetry["horizontal_symmetry"] > other["enhanced_analysis"]["symmetry_score"]["horizontal_symmetry"]


async def test_colours(service: Service) -> None:
    warm = await service.post(
        "analyze-image-composition",
        asset_id=await service.upload(encoded(Image.new("RGB", (60, 40), (230, 120, 20)), "PNG")),
        extract_features=False,
    )
    colours = warm["enhanced_analysis"]["color_analysis"]
    assert colours["warm_cool_ratio"] == 1
    assert colours["dominant_hue"] == pytest.approx(28.6, abs=12)
    grey = await service.post(
        "analyze-image-composition",
        asset_id=await service.upload(encoded(Image.new("RGB", (60, 40), (90, 90, 90)), "PNG")),
        extract_features=False,
    )
    assert grey["enhanced_analysis"]["color_analysis"]["dominant_hue"] is None


async def test_faces_are_part_of_it(service: Service) -> None:
    image = Image.new("RGB", (200, 200), (40, 90, 60))
    ImageDraw.Draw(image).rectangle((30, 20, 170, 180), (255, 0, 255))
    answer = await service.post("analyze-image-composition", asset_id=await service.upload(encoded(image, "PNG")))
    assert answer["faces_detected"] == 1
    empty = await service.post("analyze-image-composition", asset_id=await service.upload(picture(1, size=(200, 200))))
    assert answer["composition_analysis"]["shot_size"] != empty["composition_analysis"]["shot_size"]


async def test_a_video_is_described_by_its_poster(service: Service) -> None:
    clip = await service.upload(video(1, size=(64, 48)), "clip.mp4")
    answer = await service.post("analyze-image-composition", asset_id=clip)
    assert answer["image_dimensions"] == {"width": 64, "height": 48}


async def test_a_strip_has_an_aspect_ratio(service: Service) -> None:
    asset_id = await service.upload(picture(1, size=(1, 30_000)))
    answer = await service.post("analyze-image-composition", asset_id=asset_id, extract_features=False)
    assert answer["composition_analysis"]["aspect_ratio"] == pytest.approx(1 / 30_000)


async def test_extract_features_is_yes_or_no(refusing: Service) -> None:
    answer = await refusing.try_post("analyze-image-composition", asset_id="a" * 32, extract_features="perhaps")
    assert error_of(answer, 422, "VALIDATION_ERROR")["details"][0]["field"] == "body.extract_features"
