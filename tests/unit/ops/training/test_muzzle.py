"""Training of the muzzle models: photos, triplets, verification, and heads that resume."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ops.calibration.error_rates import Verification
from ops.training.features import CROPS, ViewFeatures, random_view
from ops.training.heads import (
    HeadConfig,
    Heads,
    animals_and_views,
    training_rows,
    triplet_loss,
    without_animals,
)
from ops.training.loop import FINAL, fold_file, run_of
from ops.training.muzzle import judgeable
from ops.training.photos import find_photos
from ops.training.verification import (
    HeldOut,
    equal_error_threshold,
    pair_scores,
    summary,
    tar_at_far,
    template_scores,
)
from tests.tolerances import FP32, FP32_DOT, decimals
from vision.muzzle.ensemble import MEMBER_IDS, Domain, projected

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(1)
HERD = [f"herd/cow_{number}" for number in range(6) for _ in range(5)]
DOMAIN = Domain(np.zeros(400, np.float32), np.ones(400, np.float32), np.zeros(400, np.float32), 0.5)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def herd() -> ViewFeatures:
    """Six animals that differ in 390 of 400 features; the other ten, of the light for example, outweigh them."""
    marks = RNG.normal(size=(6, 390))

    def looks(count: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
        features = RNG.normal(size=(len(HERD), count, 400))
        features[:, :, 390:] *= 15
        features[:, :, :390] = 1.5 * features[:, :, :390] + np.repeat(marks, 5, 0)[:, None]
        return features.astype(np.float32)

    return ViewFeatures(looks(1)[:, 0], {number: looks(4) for number in MEMBER_IDS})


def save(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "brown").save(path)


def test_photos_in_folders_and_by_flat_names(tmp_path: Path) -> None:
    for name in ("019/a.jpg", "019/b.PNG", "cattle_0100_DSCF1.jpg", "cattle_0100_DJI_0002.jpg", "cattle_0400_1.jpg"):
        save(tmp_path / "set" / name)
    save(tmp_path / "set" / "019" / "tiny.jpg", (6, 4))
    save(tmp_path / "set" / "nameless.jpg")
    (tmp_path / "set" / "notes.txt").write_text("no photo")
    (tmp_path / "set" / "019" / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    photos, left_out = find_photos([tmp_path / "set"])
    assert [(photo.animal, photo.path.name) for photo in photos] == [
        *(("set/019", "a.jpg"), ("set/019", "b.PNG")),
        *(("set/cattle_0100", "cattle_0100_DJI_0002.jpg"), ("set/cattle_0100", "cattle_0100_DSCF1.jpg")),
    ]
    reasons = "\n".join(left_out)
    for words in (
        "tiny.jpg: 4 pixels",
        "nameless.jpg: the name",
        "broken.jpg",
        "set/cattle_0400: 1 photo, 2 are needed",
    ):
        assert words in reasons
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no labelled photo"):
        find_photos([tmp_path / "empty"])


def test_members_look_at_different_crops_the_same_every_time() -> None:
    for number, (low, high) in CROPS.items():
        views = [random_view(number, np.random.default_rng(seed)) for seed in range(20)]
        assert views == [random_view(number, np.random.default_rng(seed)) for seed in range(20)]
        for view in views:
            assert low <= view.crop.bottom - view.crop.top <= high
            assert 0 <= view.crop.left < view.crop.right <= 1 + 1e-9


def test_triplet_losses_by_hand() -> None:
    def at(degrees: float) -> list[float]:
        return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]

    codes, labels = torch.tensor([at(0), at(20), at(90), at(100)]), torch.tensor([0, 0, 1, 1])
    own, other = 2 * math.sin(math.radians(10)), 2 * math.sin(math.radians(45))
    # Anchors at 0, 20, 90 and 100 degrees, their positives, their nearest negatives.
    pairs = [(20, 90), (20, 70), (10, 70), (10, 80)]
    hard = [max(0.0, 0.5 + 2 * math.sin(math.radians(p / 2)) - 2 * math.sin(math.radians(n / 2))) for p, n in pairs]
    assert float(triplet_loss(codes, labels, 0.5, "batch-hard")) == pytest.approx(np.mean(hard), rel=FP32)
    assert float(triplet_loss(codes, labels, 0.5, "semi-hard")) == pytest.approx(np.mean(hard), rel=FP32)
    assert float(triplet_loss(codes, labels, other - own + 1, "batch-hard")) > 0
    # The nearest negative is nearer than the positive: not semi-hard, so the next one counts.
    mixed, names = torch.tensor([at(0), at(40), at(10), at(60)]), torch.tensor([0, 0, 1, 1])
    assert float(triplet_loss(mixed, names, 0.1, "semi-hard")) < float(triplet_loss(mixed, names, 0.1, "batch-hard"))


def test_batches_are_of_animals_of_one_data_set() -> None:
    labels = np.repeat(np.arange(5), 4)
    groups = np.repeat([0, 0, 0, 1, 1], 4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = animals_and_views(labels, groups, 3, 2, rng)
        assert len(set(groups[rows])) == 1
        assert len(rows) in (4, 6)
    with pytest.raises(ValueError, match="two or more animals"):
        animals_and_views(np.zeros(4, np.int64), np.zeros(4, np.int64), 2, 2, rng)


def test_scores_are_of_one_data_set_and_of_held_out_animals() -> None:
    animals = ["a/1", "a/1", "a/2", "a/2", "b/1", "b/1"]
    codes = np.eye(6, dtype=np.float32)
    same, other = pair_scores(codes, animals)
    assert (len(same), len(other)) == (3, 4)
    assert [len(kind) for kind in pair_scores(codes, animals, ["a/1"])] == [1, 4]
    same, other = template_scores(np.eye(8, dtype=np.float32), ["a/1"] * 4 + ["a/2"] * 4, ["a/1"])
    assert (len(same), len(other)) == (4, 16)


def test_rates() -> None:
    scores = Verification(np.array([0.9, 0.8, 0.3]), np.array([0.5, 0.2, 0.1, 0.0]))
    assert tar_at_far(scores) == pytest.approx(2 / 3)
    assert tar_at_far(scores, 0.25) == 1
    assert 0.2 < equal_error_threshold(scores) < 0.5
    assert summary(scores)["auc"] == round(11 / 12, 4)


def test_training_lifts_the_verification_of_an_animal_that_it_never_saw() -> None:
    found, config = herd(), HeadConfig(epochs=6, batches=8, decay=0.01)
    before, after = {}, {}
    for animal in sorted(set(HERD))[:3]:
        domain = without_animals(DOMAIN, found.plain, HERD, [animal])
        heads = Heads(domain, 0.5, config)
        rows = training_rows(found, HERD, domain, [animal], 0)
        while heads.epoch < config.epochs:
            heads.run_epoch(rows)
        before[animal], after[animal] = projected(domain, 0.5), heads.ensemble()
        assert np.mean(heads.losses[-1]) < np.mean(heads.losses[0])
    untrained, trained = (HeldOut(each, found.plain, HERD, "herd") for each in (before, after))
    assert trained.pairs.auc > untrained.pairs.auc + 0.02
    thresholds = trained.thresholds(0.5)
    assert thresholds.distance == pytest.approx(math.sqrt(2 - 2 * thresholds.cosine), abs=decimals(3))
    assert 0 <= thresholds.mutual <= 1


def test_members_are_trained_on_different_photos() -> None:
    found = herd()
    rows = training_rows(found, HERD, DOMAIN, ["herd/cow_0"], 0)
    assert all(0 not in part.labels for part in rows)
    assert all(len(part.features) < 25 * 5 for part in rows)
    assert len({part.features.tobytes() for part in rows}) == 3


def test_a_training_that_is_taken_up_again_ends_where_it_would_have() -> None:
    found, config = herd(), HeadConfig(epochs=4, batches=4)
    rows = training_rows(found, HERD, DOMAIN, [], 0)
    whole = Heads(DOMAIN, 0.0, config)
    for _ in range(4):
        whole.run_epoch(rows)
    first = Heads(DOMAIN, 0.0, config)
    for _ in range(2):
        first.run_epoch(rows)
    second = Heads(DOMAIN, 0.0, config)
    second.load_state(first.state())
    for _ in range(2):
        second.run_epoch(rows)
    np.testing.assert_allclose(second.ensemble().members[1].weight, whole.ensemble().members[1].weight, atol=FP32_DOT)
    np.testing.assert_allclose(second.losses, whole.losses, atol=FP32_DOT)


def test_heads_of_another_run_are_not_taken_over(tmp_path: Path) -> None:
    config = {"folder": "a", "features": "f-1.npz", "animals": ["x/1"], "folds": [FINAL], "heads": {"epochs": 2}}
    run = run_of(config)
    assert run == run_of(config | {"folder": "b", "folds": ["x/1", FINAL]})
    assert run not in {run_of(config | {"heads": {"epochs": 3}}), run_of(config | {"features": "f-2.npz"})}
    assert fold_file(tmp_path, run, "a/b-c") != fold_file(tmp_path, run, "a-b/c")


def test_animals_without_a_probe_are_not_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    animals = ["cow/1"] * 4 + ["cow/2"] * 3
    assert judgeable(["cow/1", "cow/2"], animals) == ["cow/1"]
    assert "cow/2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no photos of cow/9"):
        judgeable(["cow/9"], animals)
