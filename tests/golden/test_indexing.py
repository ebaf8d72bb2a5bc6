"""Videos composed of labelled photographs, indexed with real weights: everybody found, nobody mixed up.

Photographs come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from configs import settings as settings_module
from graphs.indexing import inference
from ops.bench import film
from ops.bench.film import Part, Portrait, Shot, Truth
from ops.bench.indexing import Indexed, Score, first_shared, index, opened, overlap, score
from stores.people import Identity
from vision.weights.store import store

pytestmark = pytest.mark.filterwarnings("ignore")  # those of libraries that load the weights

SIZE = (640, 360)
LEAST_COVERAGE = 0.95


@dataclass(frozen=True)
class Cast:
    """Photographs by person, and the heads cut out of them."""

    photos: dict[str, list[str]]
    portraits: dict[str, Portrait]

    def part(self, person: str, number: int, path: tuple[tuple[int, float, float], ...], *size: float) -> Part:
        return Part(person, self.photos[person][number], path, (size[0], size[-1]))


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    models = os.environ.get("VISION_MODELS_DIR")
    if models is None or not all((Path(models) / name).is_dir() for name in ("face_detect", "face_recognition")):
        pytest.skip("no weights of people/video_faces and people/identity under VISION_MODELS_DIR")
    folder = Path(models).parent / "media" / "face_pairs_deepface"
    if not (folder / "master.csv").is_file():
        pytest.skip("no folder media/face_pairs_deepface beside VISION_MODELS_DIR")
    settings_module.settings.cache_clear()
    store.cache_clear()
    people = film.people_of(folder / "master.csv")
    names = dict(zip("ABCDEFGHI", people, strict=True))
    yield Cast(names, film.portraits(folder, [name for photos in people for name in photos]))
    settings_module.settings.cache_clear()
    store.cache_clear()


@dataclass(frozen=True)
class Seen:
    """A film that was indexed."""

    truth: Truth
    indexed: Indexed
    score: Score


@dataclass(frozen=True)
class Two:
    """Two films that were indexed one after the other."""

    first: Seen
    second: Seen
    identities: list[Identity]
    searched: Indexed
    """The first film again, every sample of it searched for faces."""


@pytest.fixture(scope="module")
async def films(cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> Two:
    """In the first film A and B cross and B leaves, C and D share a shot, A and B come back; then all meet again."""
    first = (
        Shot(
            97,
            (
                cast.part("A", 0, ((0, 0.12, 0.5), (96, 0.85, 0.45)), 0.12, 0.13),
                cast.part("B", 0, ((20, 1.1, 0.45), (92, -0.1, 0.5)), 0.13),
            ),
        ),
        Shot(
            74,
            (
                cast.part("C", 0, ((0, 0.3, 0.55), (73, 0.35, 0.5)), 0.12, 0.18),
                cast.part("D", 0, ((31, 0.72, 1.3), (38, 0.7, 0.5), (73, 0.68, 0.5)), 0.15),
            ),
        ),
        Shot(
            79,
            (
                cast.part("A", 1, ((0, 0.3, 0.5), (78, 0.36, 0.52)), 0.16, 0.13),
                cast.part("B", 1, ((0, 0.75, 0.5), (78, 0.66, 0.48)), 0.14),
            ),
        ),
    )
    second = (
        Shot(
            66,
            (
                cast.part("C", 1, ((0, 0.2, 0.5), (65, 0.25, 0.5)), 0.14),
                cast.part("E", 0, ((0, 0.55, 0.5), (65, 0.5, 0.5)), 0.14),
                cast.part("A", 2, ((13, 0.85, 0.5), (65, 0.8, 0.55)), 0.14, 0.16),
            ),
        ),
        Shot(51, (cast.part("F", 0, ((0, 0.2, 0.45), (25, 0.6, 0.5), (50, 0.3, 0.5)), 0.14, 0.12),)),
        Shot(33, (cast.part("E", 1, ((0, 0.5, 0.5), (32, 0.5, 0.5)), 0.2, 0.22),)),
    )
    home = tmp_path_factory.mktemp("films")
    async with opened(home) as context:
        seen = []
        for number, shots in enumerate((first, second)):
            path = home / f"{number}.mp4"
            truth = film.write(path, shots, cast.portraits, SIZE, seed=number)
            indexed = await index(context, path)
            seen.append(Seen(truth, indexed, score(indexed, truth)))
        identities = await context.people.list_identities()
        await context.jobs.forget(seen[0].indexed.index.asset_id)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inference, "SEARCHED_APART", 1)
            searched = await index(context, home / "0.mp4")
        return Two(*seen, identities, searched)


def test_cuts_are_exact(films: Two) -> None:
    assert films.first.indexed.index.cuts == tuple(films.first.truth.cuts) == (97, 171)
    assert films.second.indexed.index.cuts == tuple(films.second.truth.cuts) == (66, 117)


def test_traces_cover_everybody(films: Two) -> None:
    for seen, people in ((films.first, "ABCD"), (films.second, "CEAF")):
        assert set(seen.score.coverage) == set(people)
        for person, share in seen.score.coverage.items():
            assert share >= LEAST_COVERAGE, (person, share)


def test_traces_are_those_of_a_film_that_is_searched_whole(films: Two) -> None:
    traces, whole = films.first.indexed.traces, films.searched.traces
    assert len(traces) == len(whole) == 6
    assert films.first.indexed.index.cuts == films.searched.index.cuts
    for (record, boxes), (expected, all_boxes) in zip(traces, whole, strict=True):
        assert record.identity_uuid == expected.identity_uuid
        np.testing.assert_array_equal(boxes.frames, all_boxes.frames)
        np.testing.assert_array_equal(boxes.detected, all_boxes.detected)
        assert float(record.vector @ expected.vector) > 0.995
        # A view of a face moves its box by a pixel or two, whatever candidate led to it.
        shares = [overlap(*pair) for pair in zip(boxes.boxes.tolist(), all_boxes.boxes.tolist(), strict=True)]
        assert min(shares) > 0.8
        assert np.median(shares) > 0.95


def test_no_trace_holds_two_people(films: Two) -> None:
    for seen in (films.first, films.second):
        assert seen.score.mixed == []
        assert seen.score.strangers == []


def test_a_trace_goes_on_through_a_crossing(films: Two) -> None:
    spans = sorted((record.first_frame, record.last_frame) for record, _ in films.first.indexed.traces)
    assert len(spans) == 6
    assert spans[0] == (0, 96)


def test_each_person_is_one_identity(films: Two) -> None:
    people = [identities for seen in (films.first, films.second) for identities in seen.score.identities.values()]
    assert all(len(identities) == 1 and None not in identities for identities in people)
    assert len(set.union(*films.first.score.identities.values())) == 4
    assert len(set.union(*films.second.score.identities.values())) == 4


def test_people_are_found_again_in_another_film(films: Two) -> None:
    for person in "AC":
        assert films.second.score.identities[person] == films.first.score.identities[person]
    new = films.second.score.identities["E"] | films.second.score.identities["F"]
    assert not new & set.union(*films.first.score.identities.values())
    assert len(films.identities) == 6
    assert all(identity.name is None and identity.models.startswith("sface") for identity in films.identities)


@pytest.mark.parametrize(("place", "pair"), [(0, "AB"), (0, "CD"), (1, "CE"), (1, "EA"), (1, "CA")])
def test_the_first_shared_frame_is_that_of_the_film(films: Two, place: int, pair: str) -> None:
    seen = (films.first, films.second)[place]
    wanted = seen.truth.shared(*pair)[0]
    shared = first_shared(seen.indexed, *(seen.score.identities[person] for person in pair))
    assert shared is not None
    assert abs(shared - wanted) <= 2


def test_some_never_meet(films: Two) -> None:
    identities = films.first.score.identities
    assert films.first.truth.shared("A", "C") == []
    assert first_shared(films.first.indexed, identities["A"], identities["C"]) is None
