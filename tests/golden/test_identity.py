"""people/identity with real weights: 300 labelled pairs, vectors, batches, engines, quality.

Pictures come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from configs import settings as settings_module
from deployments.analysis.groups import Grouper, GroupQuery, Groups
from deployments.people import faces, identity
from deployments.people.identity import FaceVector
from deployments.serving.stage import StageConfig
from ops.calibration.error_rates import Verification
from ops.calibration.faces import read_pairs
from tests.tolerances import BF16_DEEP, FP32, FP32_DEEP, assert_close, decimals, least_cosine
from vision.errors import InvalidInput, ModelNotLoaded
from vision.faces.calibration import face_cosine, is_drawn, similarity_percentage
from vision.faces.face import Face, align, similarity_transform
from vision.images import Pixels, decode
from vision.weights.store import store

pytestmark = pytest.mark.numeric

Photos = dict[str, tuple[Pixels, tuple[Face, ...]]]
EYES_NOSE_MOUTH = {
    "img1.jpg": ((251.0, 222.0), (375.0, 225.0), (316.0, 297.0), (251.0, 340.0), (370.0, 341.0)),
    "img20.jpg": ((349.0, 229.0), (462.0, 225.0), (415.0, 296.0), (356.0, 343.0), (459.0, 340.0)),
}
GOLDEN = {
    # First five numbers of the vectors at these landmarks, by OpenCV's classic engine; and the quality.
    "img1.jpg": ([-0.02663, -0.08903, -0.15898, 0.01751, 0.06037], 0.8519),
    "img20.jpg": ([-0.07287, 0.07520, 0.15861, 0.07562, 0.13155], 0.8975),
}


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[str, identity.FaceRecognizer]]:
    """The recognizer by each engine."""
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    settings_module.settings.cache_clear()
    store.cache_clear()
    loaded = {}
    for engine in ("openvino-fp32", "torch-fp32", "auto"):
        loaded[engine] = identity.FaceRecognizer(identity.Config(models=["sface-2021dec-int8bq"], engine=engine))
        try:
            loaded[engine].load()
        except ModelNotLoaded as error:
            pytest.skip(error.message)
        loaded[engine].warm_up()
    yield loaded
    settings_module.settings.cache_clear()
    store.cache_clear()


@pytest.fixture(scope="module")
def folder() -> Path:
    path = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media"
    if not (path / "face_pairs_deepface").is_dir():
        pytest.skip("no folder media beside VISION_MODELS_DIR")
    return path


@pytest.fixture(scope="module")
def detector() -> faces.FaceDetector:
    stage = faces.FaceDetector(faces.Config())
    try:
        stage.load()
    except ModelNotLoaded as error:
        pytest.skip(error.message)
    return stage


def looked_at(detector: faces.FaceDetector, path: Path) -> tuple[Pixels, tuple[Face, ...]]:
    image = decode(path.read_bytes(), max_pixels=10**8)
    (detected,) = detector.predict_batch([detector.prepare(image)])
    assert isinstance(detected, tuple)
    return image, detected


@pytest.fixture(scope="module")
def photos(stages: object, detector: faces.FaceDetector, folder: Path) -> Photos:
    """The labelled photos with their faces; there is one in each."""
    paths = sorted((folder / "face_pairs_deepface").glob("*.jpg"))
    made = {path.name: looked_at(detector, path) for path in paths}
    assert len(made) == 25
    assert {len(detected) for _, detected in made.values()} == {1}
    return made


def embedded(stage: identity.FaceRecognizer, *items: tuple[Pixels, tuple[Face, ...]]) -> list[tuple[FaceVector, ...]]:
    """Results of one batch that must succeed."""
    results = stage.predict_batch([stage.prepare(item) for item in items])
    assert all(isinstance(result, tuple) for result in results)
    return list(results)  # type: ignore[arg-type]


def labelled(folder: Path) -> list[tuple[str, str, bool]]:
    """(photo, photo, same person) of all pairs."""
    pairs = read_pairs(folder / "face_pairs_deepface" / "master.csv")
    assert (len(pairs), sum(same for *_, same in pairs)) == (300, 38)
    return pairs


def cosines(folder: Path, vectors: dict[str, NDArray[np.float32]]) -> Verification:
    pairs = labelled(folder)
    by_kind = {kind: [float(vectors[a] @ vectors[b]) for a, b, same in pairs if same is kind] for kind in (True, False)}
    return Verification(np.array(by_kind[True]), np.array(by_kind[False]))


@pytest.mark.parametrize("engine", ["openvino-fp32", "auto"])
def test_300_pairs_are_told_apart(
    stages: dict[str, identity.FaceRecognizer], photos: Photos, folder: Path, engine: str
) -> None:
    embeddings = embedded(stages[engine], *photos.values())
    measured = cosines(folder, {name: vectors[0].vector for name, vectors in zip(photos, embeddings, strict=True)})
    assert (measured.auc, measured.eer) == (1.0, 0.0)
    assert measured.matching.min() > 0.53
    assert measured.other.max() < 0.37
    assert measured.matching.mean() > 0.75
    assert measured.other.mean() == pytest.approx(0.14, abs=0.02)
    percentages = {
        kind: [similarity_percentage(value) for value in scores]
        for kind, scores in (("same", measured.matching), ("other", measured.other))
    }
    assert min(percentages["same"]) >= 80  # the default of reference-enforcement
    assert max(percentages["other"]) < 65  # below acceptable
    assert np.mean(np.array(percentages["other"]) < 50) > 0.9


@pytest.mark.parametrize("engine", ["openvino-fp32", "torch-fp32"])
@pytest.mark.parametrize("name", GOLDEN)
def test_vectors_are_known(stages: dict[str, identity.FaceRecognizer], folder: Path, name: str, engine: str) -> None:
    image = decode((folder / "face_pairs_deepface" / name).read_bytes(), max_pixels=10**8)
    face = Face(0, 0, 1, 1, 1, EYES_NOSE_MOUTH[name])
    ((embedding,),) = embedded(stages[engine], (image, (face,)))
    numbers, quality = GOLDEN[name]
    assert (embedding.vector.dtype, embedding.vector.shape) == (np.float32, (128,))
    assert np.linalg.norm(embedding.vector) == pytest.approx(1, rel=FP32)
    np.testing.assert_allclose(embedding.vector[:5], numbers, atol=FP32_DEEP)
    assert embedding.quality == pytest.approx(quality, abs=decimals(4))


def test_engines_agree(stages: dict[str, identity.FaceRecognizer], photos: Photos) -> None:
    results = [embedded(stage, *photos.values()) for stage in stages.values()]
    for exact, torch, auto in zip(*results, strict=True):
        assert_close(torch[0].vector, exact[0].vector, FP32_DEEP)
        assert float(exact[0].vector @ auto[0].vector) > least_cosine(BF16_DEEP)
        assert exact[0].quality == torch[0].quality == auto[0].quality


def test_it_is_what_opencv_computes(stages: dict[str, identity.FaceRecognizer], photos: Photos) -> None:
    """Against OpenCV's classic engine, which reads the block-quantised file by itself."""
    stage = stages["openvino-fp32"]
    (path,) = stage._weights.files.values()
    net = cv2.dnn.readNet(str(path), "", "", cv2.dnn.ENGINE_CLASSIC)
    items = list(photos.values())[:8]
    crops = [align(image, similarity_transform(detected[0].landmarks)) for image, detected in items]
    net.setInput(cv2.dnn.blobFromImages(crops), "data")
    reference = net.forward()
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    ours = np.stack([vectors[0].vector for vectors in embedded(stage, *items)])
    assert (ours * reference).sum(1).min() > least_cosine(FP32_DEEP) - FP32


@pytest.mark.parametrize("engine", ["openvino-fp32", "auto"])
def test_a_batch_of_one_is_a_batch_of_many(
    stages: dict[str, identity.FaceRecognizer],
    photos: Photos,
    detector: faces.FaceDetector,
    folder: Path,
    engine: str,
) -> None:
    items = [*list(photos.values())[:5], looked_at(detector, folder / "faces" / "multiface.jpg")]
    items.insert(2, (items[0][0], ()))
    together = embedded(stages[engine], *items)
    assert [len(vectors) for vectors in together] == [1, 1, 0, 1, 1, 1, 6]
    for item, vectors in zip(items, together, strict=True):
        (alone,) = embedded(stages[engine], item)
        for one, other in zip(alone, vectors, strict=True):
            np.testing.assert_array_equal(one.vector, other.vector)
            assert one.quality == other.quality
    assert embedded(stages[engine], (items[0][0], ())) == [()]


def test_faces_come_back_in_order(
    stages: dict[str, identity.FaceRecognizer], detector: faces.FaceDetector, folder: Path
) -> None:
    image, detected = looked_at(detector, folder / "faces" / "two_people.jpg")
    assert len(detected) == 2
    ((left, right), (swapped_left, swapped_right)) = embedded(
        stages["auto"], (image, detected), (image, detected[::-1])
    )
    np.testing.assert_array_equal(left.vector, swapped_right.vector)
    np.testing.assert_array_equal(right.vector, swapped_left.vector)
    assert similarity_percentage(float(left.vector @ right.vector)) < 50


@pytest.mark.parametrize("threshold", [65.0, 75.0, 85.0])
def test_photos_are_grouped_by_person(
    stages: dict[str, identity.FaceRecognizer], photos: Photos, folder: Path, threshold: float
) -> None:
    vectors = np.stack([vectors[0].vector for vectors in embedded(stages["auto"], *photos.values())])
    grouper = Grouper(StageConfig())
    grouper.load()
    (groups,) = grouper.predict_batch([GroupQuery(vectors, np.arange(len(vectors)), face_cosine(threshold))])
    assert isinstance(groups, Groups)
    label = dict(zip(photos, groups.labels.tolist(), strict=True))
    assert all((label[a] == label[b]) is same for a, b, same in labelled(folder))


def test_six_people_in_one_picture_are_six(
    stages: dict[str, identity.FaceRecognizer], detector: faces.FaceDetector, folder: Path
) -> None:
    (people,) = embedded(stages["auto"], looked_at(detector, folder / "faces" / "multiface.jpg"))
    vectors = np.stack([face.vector for face in people])
    others = (vectors @ vectors.T)[np.triu_indices(6, 1)]
    assert max(similarity_percentage(float(value)) for value in others) < 65


def test_quality_falls_with_what_hides_a_face(
    stages: dict[str, identity.FaceRecognizer], photos: Photos, detector: faces.FaceDetector
) -> None:
    stage = stages["auto"]
    image, detected = photos["img14.jpg"]
    ((sharp,), (blurred,)) = embedded(stage, (image, detected), (cv2.GaussianBlur(image, (0, 0), 6), detected))
    assert 0.85 < sharp.quality <= 1
    assert blurred.quality < 0.6 * sharp.quality
    small = cv2.resize(image, None, fx=0.15, fy=0.15, interpolation=cv2.INTER_AREA)
    (tiny_faces,) = detector.predict_batch([detector.prepare(small)])
    assert isinstance(tiny_faces, tuple)
    ((tiny,),) = embedded(stage, (small, tiny_faces))
    assert tiny.quality < 0.8 * sharp.quality
    for changed in (blurred, tiny):  # and the face is still known
        assert float(changed.vector @ sharp.vector) > 0.4


def test_landmarks_on_one_point_fail_alone(stages: dict[str, identity.FaceRecognizer], photos: Photos) -> None:
    image, (face,) = photos["img1.jpg"]
    point = Face(face.x, face.y, face.width, face.height, 0.9, ((5.0, 5.0),) * 5)
    with pytest.raises(InvalidInput, match="one point"):
        stages["auto"].prepare((image, (point,)))


def test_info_says_what_it_is(stages: dict[str, identity.FaceRecognizer]) -> None:
    info = stages["openvino-fp32"].info()
    assert info["model_version"] == "sface-2021dec-int8bq@fb143eea"
    assert (info["licence"], info["dimensions"], info["engine"]) == ("Apache-2.0", 128, "openvino-fp32")
    assert stages["auto"].info()["engine"] in ("openvino-fp32", "openvino-bf16", "torch-fp32")


def test_a_file_of_another_network_is_refused(stages: object, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("Relu", ["data"], ["out"])],
        "relu",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 112, 112])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "relu.onnx")
    for engine in ("openvino-fp32", "torch-fp32"):
        with pytest.raises(ValueError, match="no network from one picture to 128 numbers"):
            identity.SFace(tmp_path / "relu.onnx", engine)


def flat_colours(image: Pixels) -> Pixels:
    """The picture as somebody draws it in a few colours."""
    areas = cv2.pyrMeanShiftFiltering(np.ascontiguousarray(image), 20, 45)
    return np.asarray(cv2.medianBlur(areas // 64 * 64 + 32, 7), np.uint8)


def pencil(image: Pixels) -> Pixels:
    grey, _ = cv2.pencilSketch(np.ascontiguousarray(image), sigma_s=60, sigma_r=0.07, shade_factor=0.05)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, 2)


def test_no_photograph_is_said_to_be_drawn_and_some_drawings_are(
    stages: dict[str, identity.FaceRecognizer], photos: Photos
) -> None:
    some = list(photos.values())[:8]
    real = embedded(stages["auto"], *photos.values())
    assert not any(is_drawn(vector.quality, vector.strength) for (vector,) in real)
    assert min(vector.strength for (vector,) in real) > 11
    items = [(draw(image), detected) for draw in (flat_colours, pencil) for image, detected in some]
    drawn = embedded(stages["auto"], *items)
    assert sum(is_drawn(vector.quality, vector.strength) for (vector,) in drawn) >= 5
    assert np.median([vector.strength for (vector,) in drawn]) < 10.5


@pytest.mark.parametrize("size", [(1, 1), (31, 1), (1, 31), (31, 31)])
def test_the_vector_of_a_blurred_face_is_shorter(
    stages: dict[str, identity.FaceRecognizer], photos: Photos, size: tuple[int, int]
) -> None:
    image, detected = photos["img1.jpg"]
    ((vector,),) = embedded(stages["auto"], (np.asarray(cv2.blur(image, size), np.uint8), detected))
    length = float(np.linalg.norm(vector.vector))
    assert length == pytest.approx(1, abs=FP32) if size == (1, 1) else 0.75 <= length < 0.97
