"""muzzle/ensemble with real weights on real photos: codes, verdicts, domain check, engines, batches, training.

Photos come from the folder ``media`` beside VISION_MODELS_DIR. Numbers measured are in ops/bench/reports/muzzle.md.
"""

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import settings as settings_module
from deployments.muzzle.ensemble import Config, MuzzleEncoder
from deployments.muzzle.print import MuzzlePrint, PrintAnswer, PrintPhoto, PrintQuery
from deployments.serving.stage import StageConfig
from graphs.muzzle.verdicts import Limits, domain_check, predicted
from ops.training.photos import blank_pictures, draw_page, find_photos
from ops.training.verification import measured, pair_scores, template_scores
from tests.tolerances import BF16_DEEP, FP32, FP32_DEEP, decimals, least_cosine
from vision.errors import ModelNotLoaded
from vision.images import Pixels, decode
from vision.muzzle.ensemble import MEMBER_IDS, MuzzleEncoding
from vision.muzzle.photo import muzzle_pixels
from vision.muzzle.prints import MIN_INLIERS, Print, match
from vision.weights.store import store

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.filterwarnings("ignore"),
]  # those of torch.jit, by which OpenVINO converts

LIMITS = Limits(cosine=0.62, distance=0.85, mutual=0.40, variance=0.005, consistency=0.20, margin=0.05)
GOLDEN = {
    # First three numbers of each code of the first photo, and its domain distance, by torch fp32.
    "dinov2-vits14-lineage@c1325d0c-texture8": (
        [[0.02845, 0.07048, -0.07636], [-0.0071, 0.05232, 0.17576], [-0.08051, -0.03555, -0.12979]],
        0.19156,
    ),
}


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[str, MuzzleEncoder]]:
    """The stage by two engines."""
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    threads = torch.get_num_threads()
    settings_module.settings.cache_clear()
    store.cache_clear()
    loaded = {}
    for engine in ("torch-fp32", "auto"):
        config = Config(models=["dinov2-vits14-lineage"], engine=engine, max_batch_size=2, torch_threads=2)
        loaded[engine] = MuzzleEncoder(config)
        try:
            loaded[engine].load()
        except ModelNotLoaded as error:
            pytest.skip(error.message)
    yield loaded
    torch.set_num_threads(threads)
    settings_module.settings.cache_clear()
    store.cache_clear()


@pytest.fixture(scope="module")
def folder() -> Path:
    path = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media" / "animals"
    if not (path / "cattle_muzzle").is_dir():
        pytest.skip("no folder media/animals beside VISION_MODELS_DIR")
    return path


def encode(stage: MuzzleEncoder, pictures: list[bytes], batch: int = 8) -> list[MuzzleEncoding]:
    prepared = [stage.prepare(data) for data in pictures]
    results = [
        each
        for start in range(0, len(prepared), batch)
        for each in stage.predict_batch(prepared[start : start + batch])
    ]
    assert all(isinstance(each, MuzzleEncoding) for each in results)
    return results  # type: ignore[return-value]


@pytest.fixture(scope="module")
def herd(stages: dict[str, MuzzleEncoder], folder: Path) -> dict[str, list[MuzzleEncoding]]:
    """Encodings of the photos of each animal, by the engine that serves."""
    photos, _ = find_photos([folder / "cattle_muzzle"])
    encodings = encode(stages["auto"], [photo.path.read_bytes() for photo in photos])
    made: dict[str, list[MuzzleEncoding]] = {}
    for photo, encoding in zip(photos, encodings, strict=True):
        made.setdefault(photo.animal, []).append(encoding)
    assert [len(each) for each in made.values()] == [5, 5, 8]
    return made


@pytest.fixture(scope="module")
def answers(herd: dict[str, list[MuzzleEncoding]], folder: Path) -> list[PrintAnswer]:
    """What muzzle/print says of each photo as a probe and all of them as references."""
    photos, _ = find_photos([folder / "cattle_muzzle"])
    encodings = [each for own in herd.values() for each in own]
    taken = [PrintPhoto(photo.path.read_bytes(), each.likeness) for photo, each in zip(photos, encodings, strict=True)]
    kept = MuzzlePrint(StageConfig()).prepare(PrintQuery(tuple(taken), keep=True))
    prints = [Print.from_bytes(each) for each in kept.prints]
    return [
        PrintAnswer((*kept.qualities, kept.qualities[row]), tuple(match(probe, each) for each in prints))
        for row, probe in enumerate(prints)
    ]


def of_pixels(stage: MuzzleEncoder, pictures: list[Pixels]) -> list[MuzzleEncoding]:
    inputs = [stage._texture.normalize(muzzle_pixels(pixels)) for pixels in pictures]
    results = stage.predict_batch(inputs)
    assert all(isinstance(each, MuzzleEncoding) for each in results)
    return list(results)  # type: ignore[arg-type]


def first_photo(folder: Path) -> bytes:
    return (folder / "cattle_muzzle" / "cattle_0100_DSCF3856.jpg").read_bytes()


def test_the_numbers_are_what_they_were(stages: dict[str, MuzzleEncoder], folder: Path) -> None:
    exact, fast = (encode(stage, [first_photo(folder)])[0] for stage in stages.values())
    codes, distance = GOLDEN[stages["torch-fp32"].info()["backbone"]]
    np.testing.assert_allclose(exact.codes[:, :3], codes, atol=FP32_DEEP + decimals(5))
    assert exact.domain_distance == pytest.approx(distance, abs=FP32_DEEP + decimals(5))
    assert (exact.codes * fast.codes).sum(1).min() > 0.998  # engines are refused below 0.999 of features
    assert fast.domain_distance == pytest.approx(distance, abs=0.02)


def test_codes_have_their_form(stages: dict[str, MuzzleEncoder], folder: Path) -> None:
    (encoding,) = encode(stages["auto"], [first_photo(folder)])
    assert encoding.model_ids == MEMBER_IDS
    assert (encoding.codes.shape, encoding.codes.dtype) == ((3, 128), np.float32)
    np.testing.assert_allclose(np.linalg.norm(encoding.codes, axis=1), 1, atol=FP32)
    info = stages["auto"].info()
    assert info["method"].startswith("untrained")
    assert (info["models_loaded"], info["missing"], info["thresholds"]) == ([60, 62, 64], [], None)
    assert encoding.model_version == info["model_version"]


def test_a_result_does_not_depend_on_its_batch(stages: dict[str, MuzzleEncoder], folder: Path) -> None:
    pictures = [path.read_bytes() for path in sorted((folder / "cattle_muzzle").glob("*.jpg"))[::4]]
    for stage in stages.values():
        alone, together = encode(stage, pictures, 1), encode(stage, pictures, 8)
        for one, other in zip(alone, together, strict=True):
            assert (one.codes * other.codes).sum(1).min() > least_cosine(BF16_DEEP / 2)


def test_animals_are_told_apart(herd: dict[str, list[MuzzleEncoding]]) -> None:
    animals = [animal for animal, each in herd.items() for _ in each]
    codes = np.stack([encoding.codes.reshape(-1) for each in herd.values() for encoding in each])
    assert measured(pair_scores(codes, animals)).auc > 0.98
    templates = measured(template_scores(codes, animals))
    assert templates.auc > 0.995
    assert templates.eer < 0.03


def test_verdicts_at_the_thresholds_of_the_contract(
    herd: dict[str, list[MuzzleEncoding]], answers: list[PrintAnswer]
) -> None:
    photos = [(name, each) for name, own in herd.items() for each in own]
    right, wrong = {"MATCH": 0, "all": 0}, {"MATCH": 0, "all": 0}
    for animal in herd:
        own = [row for row, (name, _) in enumerate(photos) if name == animal]
        for triple in list(combinations(own, 3))[::5]:
            for row, (name, probe) in enumerate(photos):
                if row in triple:
                    continue
                counted = right if name == animal else wrong
                prints = PrintAnswer(
                    tuple(answers[row].qualities[each] for each in (*triple, row)),
                    tuple(answers[row].matches[each] for each in triple),
                )
                verdict = predicted([photos[each][1] for each in triple], probe, prints, LIMITS).decision.verdict
                counted["all"] += 1
                counted["MATCH"] += verdict == "MATCH"
    # Measured over all triples: 308 of 320, and none of 820; by the codes alone 2 of 820.
    assert right["MATCH"] / right["all"] > 0.9
    assert wrong["MATCH"] == 0


def test_prints_of_one_animal_agree_and_of_two_do_not(
    herd: dict[str, list[MuzzleEncoding]], answers: list[PrintAnswer]
) -> None:
    names = [name for name, own in herd.items() for _ in own]
    pairs = [(row, other) for row in range(len(names)) for other in range(len(names)) if row != other]
    same = [answers[row].matches[other].inliers for row, other in pairs if names[row] == names[other]]
    others = [answers[row].matches[other].inliers for row, other in pairs if names[row] != names[other]]
    assert (len(same), len(others)) == (96, 210)
    assert min(same) > 1.5 * MIN_INLIERS
    assert max(others) <= 5 < MIN_INLIERS


def test_all_these_photos_are_good_enough_to_be_enrolled(answers: list[PrintAnswer]) -> None:
    assert [quality.reasons for quality in answers[0].qualities] == [()] * 19


def test_the_skin_is_found_and_nostrils_and_hair_are_not(herd: dict[str, list[MuzzleEncoding]]) -> None:
    likeness = next(iter(herd.values()))[0].likeness
    assert likeness is not None
    assert likeness.shape == (16, 16)
    middle, left_nostril, right_nostril, hair = likeness[9:14, 6:10], likeness[6, 3], likeness[6, 14], likeness[13, 0]
    assert middle.mean() > 0.5
    assert max(left_nostril, right_nostril, hair) < 0.2


def test_muzzles_are_valid_and_nothing_else_is(
    stages: dict[str, MuzzleEncoder], herd: dict[str, list[MuzzleEncoding]]
) -> None:
    for encoding in (each for own in herd.values() for each in own):
        assert domain_check(encoding, LIMITS).decision.verdict == "VALID_MUZZLE"
    nothing = dict(list(blank_pictures())[::3])
    nothing["another text"] = draw_page("#fffbe6", "#223", 32)
    nothing["other noise"] = np.random.default_rng(99).integers(40, 130, (300, 300, 3), dtype=np.uint8)
    for name, encoding in zip(nothing, of_pixels(stages["auto"], list(nothing.values())), strict=True):
        assert domain_check(encoding, LIMITS).decision.verdict == "INVALID_INPUT", name


def test_other_photos_are_refused(stages: dict[str, MuzzleEncoder], folder: Path) -> None:
    paths = [
        *sorted((folder.parent / "near_duplicates" / "base").glob("*.jpg"))[:4],
        *sorted((folder / "opencows" / "023").glob("*.jpg"))[:2],
    ]
    for path, encoding in zip(paths, encode(stages["auto"], [path.read_bytes() for path in paths]), strict=True):
        assert domain_check(encoding, LIMITS).decision.verdict == "INVALID_INPUT", path.name


def test_light_and_size_change_little(stages: dict[str, MuzzleEncoder], folder: Path) -> None:
    image = decode(first_photo(folder), max_pixels=10**7)
    dim = (image * 0.6).astype(np.uint8)
    small = image[::2, ::2]
    original, dimmed, smaller = of_pixels(stages["auto"], [image, dim, np.ascontiguousarray(small)])
    for changed in (dimmed, smaller):
        assert float(changed.codes.reshape(-1) @ original.codes.reshape(-1)) / 3 > 0.8
