"""Shots: one contract, over every backend."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stores.errors import StoreError
from stores.open import Stores
from stores.shots import Shot, ShotAnalysis, ShotFilter, Shots, Transition, shot_id_of
from tests.stores.samples import unit_vector
from vision.objects.tags import Tag

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
FILM, OTHER = "a" * 32, "b" * 32
TEXT, CLIP = "minilm@1", "clip@1"
DOG, CAR = Tag("dog", 0.9140625, 1, 1.5), Tag("traffic light", 0.5, 3, 0.25)


@pytest.fixture
def shots(stores: Stores) -> Shots:
    return stores.shots


def shot(number: int = 0, asset_id: str = FILM, **changes: Any) -> Shot:
    """One of 50 frames at 25 a second."""
    first = number * 50
    made = Shot(
        video_asset_id=asset_id,
        shot_index=number,
        start_frame=first,
        end_frame=first + 49,
        start_timestamp=first / 25,
        end_timestamp=(first + 50) / 25,
        keyframe_frame=first + 25,
        keyframe_time=(first + 25) / 25,
        camera_movement="pan_left",
        movement_intensity=0.125,
        shot_size="wide",
        shot_angle="eye_level",
        framing="centered",
        analysis_timestamp=NOW,
        transition_in=Transition("dissolve", first, first + 5),
        auto_tags=("movement:pan_left", "size:wide"),
        features=unit_vector(number, 384),
        features_version="dino@1",
        clip=unit_vector(number, 512),
        clip_version=CLIP,
        text=unit_vector(number + 100, 384),
        text_version=TEXT,
        stored_at=NOW + timedelta(seconds=number),
    )
    return replace(made, **changes)


def same(one: Shot, other: Shot) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        if isinstance(getattr(one, field.name), np.ndarray)
        else getattr(one, field.name) == getattr(other, field.name)
        for field in fields(Shot)
    )


async def starts(store: Shots, offset: int = 0, limit: int | None = None, **wanted: Any) -> list[int]:
    stored = await store.list_shots(ShotFilter(**wanted), offset=offset, limit=limit)
    assert offset or limit or len(stored) == await store.count_shots(ShotFilter(**wanted))
    return [each.start_frame for each in stored]


def test_an_id_follows_from_video_and_frames() -> None:
    assert shot().shot_id == shot(camera_movement="static", shot_index=7).shot_id == shot_id_of(FILM, 0, 49)
    assert len({shot().shot_id, shot(1).shot_id, shot(asset_id=OTHER).shot_id, shot(end_frame=48).shot_id}) == 4
    assert len(shot().shot_id) == 32


def test_manual_tags_take_the_place_of_automatic_ones() -> None:
    assert shot().tags == ("movement:pan_left", "size:wide")
    assert shot(manual_tags=("night",)).tags == ("night",)


async def test_what_is_put_is_got(shots: Shots) -> None:
    full = shot(
        manual_tags=("night", "Ünïcode"),
        emotional_tone="tense",
        genre="thriller",
        scene_context='said "so"',
        usage_situations=("opening", "chase"),
    )
    bare = shot(1, features=None, features_version=None, clip=None, clip_version=None, transition_in=None)
    await shots.put_shots([full, bare])
    stored = await shots.get_shots([full.shot_id, bare.shot_id, "f" * 32])
    assert set(stored) == {full.shot_id, bare.shot_id}
    assert same(stored[full.shot_id], full)
    assert same(stored[bare.shot_id], bare)


async def test_storing_twice_updates(shots: Shots) -> None:
    await shots.put_shots([shot(), shot(1)])
    await shots.put_shots([shot(genre="western")])
    assert await shots.count_shots(ShotFilter()) == 2
    assert (await shots.get_shots([shot().shot_id]))[shot().shot_id].genre == "western"
    await shots.put_shots([])
    assert await shots.count_shots(ShotFilter()) == 2


async def test_a_shot_of_the_library_has_a_moment(shots: Shots) -> None:
    with pytest.raises(ValueError, match="when it was stored"):
        await shots.put_shots([shot(stored_at=None)])


async def test_filters(shots: Shots) -> None:
    await shots.put_shots(
        [
            shot(0, emotional_tone="Tense", genre="Film-Noir", manual_tags=("Night", "city")),
            shot(1, emotional_tone="calm", genre="film noir"),
            shot(2, camera_movement="pan_right", manual_tags=("night",)),
            shot(3, camera_movement="panorama_100%"),
            shot(0, OTHER, camera_movement="static", auto_tags=()),
        ]
    )
    assert await starts(shots, movement="pan_left") == [50, 0]
    assert await starts(shots, movement="Pan") == [100, 50, 0]
    assert await starts(shots, movement="p") == []
    assert await starts(shots, movement="%") == []
    assert await starts(shots, emotional_tone="tense") == [0]
    assert await starts(shots, genre="FILM NOIR") == [50, 0]
    assert await starts(shots, tags=("night",)) == [100, 0]
    assert await starts(shots, tags=("city", "night")) == [0]
    assert await starts(shots, tags=("Night", "night")) == [100, 0]
    assert await starts(shots, tags=("size:wide",)) == [150, 50]  # manual tags took the place of those of the others
    assert await starts(shots, tags=("pan left", "WIDE")) == [150, 50]
    assert await starts(shots, tags=("day",)) == []
    assert await starts(shots, video_asset_id=OTHER) == [0]
    assert await starts(shots, genre="film noir", emotional_tone="calm") == [50]


async def test_shots_are_found_by_all_objects_that_they_show(shots: Shots) -> None:
    await shots.put_shots(
        [
            shot(0, objects=(DOG, CAR)),
            shot(1, objects=(DOG,), manual_tags=("cat",)),
            shot(2, objects=()),
            shot(3),
            shot(0, OTHER, objects=(CAR,), genre="noir"),
        ]
    )
    assert await starts(shots, objects=("dog",)) == [50, 0]
    assert await starts(shots, objects=("dog", "traffic light")) == [0]
    assert await starts(shots, objects=("dog", "dog")) == [50, 0]
    assert await starts(shots, objects=("traffic light",), genre="noir") == [0]
    assert await starts(shots, objects=("traffic",)) == []
    assert await starts(shots, objects=("cat",)) == []  # a tag of people is no object
    assert await starts(shots, tags=("dog",)) == []
    assert len(await starts(shots)) == 5


async def test_tags_of_objects_are_replaced_alone(shots: Shots) -> None:
    full = shot(genre="noir", objects=(DOG,))
    await shots.put_shots([full, shot(1), shot(0, OTHER)])
    spans = {each.shot_id: each for each in await shots.spans(FILM)}
    places = {(each.start_frame, each.end_frame, each.start_timestamp, each.end_timestamp) for each in spans.values()}
    assert places == {(0, 49, 0, 2), (50, 99, 2, 4)}
    assert {shot_id: each.objects for shot_id, each in spans.items()} == {full.shot_id: (DOG,), shot(1).shot_id: None}
    assert await shots.spans("f" * 32) == []
    before = await shots.revision()
    await shots.set_objects({full.shot_id: (CAR, DOG), shot(1).shot_id: (), "f" * 32: (DOG,)})
    assert await shots.revision() != before
    stored = await shots.get_shots([full.shot_id, shot(1).shot_id, shot(0, OTHER).shot_id, "f" * 32])
    assert len(stored) == 3
    assert same(stored[full.shot_id], replace(full, objects=(CAR, DOG)))
    assert same(stored[shot(1).shot_id], shot(1, objects=()))
    assert same(stored[shot(0, OTHER).shot_id], shot(0, OTHER))
    assert await starts(shots, objects=("traffic light",)) == [0]
    await shots.set_objects({full.shot_id: None})
    assert (await shots.get_shots([full.shot_id]))[full.shot_id].objects is None
    assert await starts(shots, objects=("dog",)) == []
    before = await shots.revision()
    await shots.set_objects({})
    await shots.set_objects({"f" * 32: None})
    assert await shots.revision() == before


async def test_the_catalogue_has_the_shots_of_each_class(shots: Shots) -> None:
    stored = [shot(0, objects=(DOG, CAR)), shot(1, objects=(replace(DOG, confidence=0.25),)), shot(2, objects=())]
    await shots.put_shots([*stored, shot(3), shot(4)])
    catalogue = await shots.catalogue(TEXT, CLIP)
    assert catalogue.not_looked == 2
    assert {
        label: {catalogue.labels[place].shot_id: confidence for place, confidence in zip(*each, strict=True)}
        for label, each in ((label, (seen.places, seen.confidences)) for label, seen in catalogue.objects.items())
    } == {
        "dog": {stored[0].shot_id: 0.9140625, stored[1].shot_id: 0.25},
        "traffic light": {stored[0].shot_id: 0.5},
    }


async def test_pages_are_in_order_and_leave_nothing_out(shots: Shots) -> None:
    await shots.put_shots([shot(number) for number in range(5)])
    await shots.put_shots([shot(number, OTHER, stored_at=NOW + timedelta(seconds=2)) for number in range(2)])
    whole = [200, 150, 100, 0, 50, 50, 0]
    assert await starts(shots) == whole
    assert [start for page in range(4) for start in await starts(shots, offset=page * 2, limit=2)] == whole
    assert await starts(shots, offset=7, limit=2) == []
    assert await shots.list_shots(ShotFilter(), limit=0) == []


async def test_the_catalogue_has_all_shots_and_the_vectors_of_the_models_asked_for(shots: Shots) -> None:
    stored = [
        shot(0, emotional_tone="Tense", genre="Noir", manual_tags=("movement:static", "Night")),
        shot(1, text_version="minilm@2", clip=None, clip_version=None),
        shot(2, clip_version="clip@2"),
    ]
    await shots.put_shots(stored)
    catalogue = await shots.catalogue(TEXT, CLIP)
    by_id = {each.shot_id: each for each in stored}
    assert [label.shot_id for label in catalogue.labels] == sorted(by_id)
    assert (catalogue.text.shape, catalogue.clip.shape) == ((3, 384), (3, 512))
    for label, text, has_text, clip, has_clip in zip(
        catalogue.labels, catalogue.text, catalogue.has_text, catalogue.clip, catalogue.has_clip, strict=True
    ):
        each = by_id[label.shot_id]
        assert (has_text, has_clip) == (each.text_version == TEXT, each.clip_version == CLIP)
        assert each.text is not None
        np.testing.assert_array_equal(text, each.text if has_text else np.zeros(384))
        np.testing.assert_array_equal(clip, each.clip if has_clip and each.clip is not None else np.zeros(512))
    (label,) = [label for label in catalogue.labels if label.shot_id == stored[0].shot_id]
    assert (label.emotional_tone, label.genre) == ("tense", "noir")
    assert label.tags == {"movement:static", "static", "night"}
    assert not (await shots.catalogue(TEXT, None)).has_clip.any()


async def test_an_empty_catalogue(shots: Shots) -> None:
    catalogue = await shots.catalogue(TEXT, CLIP)
    assert (catalogue.labels, catalogue.text.shape, catalogue.clip.shape) == ((), (0, 384), (0, 512))
    assert (catalogue.objects, catalogue.not_looked) == ({}, 0)


async def test_the_revision_changes_with_the_library(shots: Shots) -> None:
    seen = [await shots.revision()]
    await shots.put_shots([shot(), shot(1)])
    seen.append(await shots.revision())
    await shots.put_shots([shot()])
    seen.append(await shots.revision())
    assert await shots.delete_shot(shot().shot_id)
    seen.append(await shots.revision())
    await shots.delete_video(FILM)
    seen.append(await shots.revision())
    assert len(set(seen)) == 5
    await shots.put_analysis(ShotAnalysis(FILM, "m", NOW, (shot(),)))
    assert await shots.revision() == seen[-1]


async def test_an_analysis_is_replaced_as_a_whole(shots: Shots) -> None:
    assert await shots.get_analysis(FILM) is None
    bare = [shot(number, stored_at=None, text=None, text_version=None) for number in range(3)]
    # Objects follow of the index, and are not stored twice.
    looked = [replace(each, objects=(DOG,)) for each in bare]
    await shots.put_analysis(ShotAnalysis(FILM, "cuts@1 dino@1", NOW, tuple(looked)))
    await shots.put_analysis(ShotAnalysis(OTHER, "cuts@1", NOW, ()))
    stored = await shots.get_analysis(FILM)
    assert stored is not None
    assert (stored.asset_id, stored.models, stored.analyzed_at) == (FILM, "cuts@1 dino@1", NOW)
    assert all(same(one, other) for one, other in zip(stored.shots, bare, strict=True))
    await shots.put_analysis(ShotAnalysis(FILM, "cuts@2", NOW, (bare[1],)))
    stored = await shots.get_analysis(FILM)
    assert stored is not None
    assert (stored.models, [each.start_frame for each in stored.shots]) == ("cuts@2", [50])
    empty = await shots.get_analysis(OTHER)
    assert empty is not None
    assert empty.shots == ()
    assert await shots.count_shots(ShotFilter()) == 0


async def test_a_video_takes_its_shots_along(shots: Shots) -> None:
    await shots.put_shots([shot(), shot(1), shot(0, OTHER)])
    await shots.put_analysis(ShotAnalysis(FILM, "m", NOW, (shot(),)))
    await shots.delete_video(FILM)
    assert await shots.get_analysis(FILM) is None
    assert [each.video_asset_id for each in await shots.list_shots(ShotFilter())] == [OTHER]
    await shots.delete_video(FILM)


async def test_one_shot_is_taken_out(shots: Shots) -> None:
    await shots.put_shots([shot(), shot(1)])
    assert await shots.delete_shot(shot().shot_id)
    assert not await shots.delete_shot(shot().shot_id)
    assert await starts(shots) == [50]


async def test_what_was_put_outlives_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/documents.sqlite"
    first = Stores(documents=url)
    await first.shots.put_shots([shot()])
    await first.close()
    with pytest.raises(StoreError):
        await first.shots.revision()
    again = Stores(documents=url)
    assert same((await again.shots.get_shots([shot().shot_id]))[shot().shot_id], shot())
    await again.close()
