"""embed/sentence with its real weights: published cosines, and the pairs that a search of shots lives on."""

import numpy as np
import pytest

from deployments.embed.sentence import CHAIN, Config, SentenceEmbedder
from tests.tolerances import FP32, FP32_DEEP, assert_close, decimals
from vision.embed.sentence import SentenceEmbedding
from vision.weights import WeightsUnavailable, resolve

pytestmark = pytest.mark.numeric

PUBLISHED = {
    # Cosines to SOURCE as the documentation of the Hugging Face hub prints them for this model.
    "That is a happy dog": 0.6945774,
    "That is a very happy person": 0.9429151,
    "Today is a sunny day": 0.2568760,
}
SOURCE = "That is a happy person"
FIRST_FIVE = [-0.0339, 0.0919, 0.0487, -0.0349, -0.0648]


@pytest.fixture(scope="module")
def stage() -> SentenceEmbedder:
    try:
        resolve(CHAIN[0])
    except WeightsUnavailable as error:
        pytest.skip(error.message)
    made = SentenceEmbedder(Config())
    made.load()
    return made


def vectors(stage: SentenceEmbedder, *texts: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    results = stage.predict_batch([stage.prepare(text) for text in texts])
    assert all(isinstance(result, SentenceEmbedding) for result in results)
    return np.stack([result.vector for result in results if isinstance(result, SentenceEmbedding)])


def test_published_cosines(stage: SentenceEmbedder) -> None:
    embedded = vectors(stage, SOURCE, *PUBLISHED)
    assert embedded.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=FP32)
    np.testing.assert_allclose(embedded[1:] @ embedded[0], list(PUBLISHED.values()), atol=FP32_DEEP)
    np.testing.assert_allclose(embedded[0, :5], FIRST_FIVE, atol=decimals(4))


def test_a_batch_changes_nothing(stage: SentenceEmbedder) -> None:
    texts = [SOURCE, "night", "Cars race through dark streets, sirens behind them, until one of them turns over. " * 20]
    alone = np.concatenate([vectors(stage, text) for text in texts])
    assert_close(vectors(stage, *texts), alone, FP32_DEEP, scale=1)


def test_other_words_for_the_same_are_near(stage: SentenceEmbedder) -> None:
    chase, cars, meal = vectors(
        stage,
        "a tense chase through a city at night",
        "Cars race through dark streets, sirens behind them",
        "A family eats breakfast on a sunny terrace",
    )
    assert chase @ cars == pytest.approx(0.518, abs=decimals(3))
    assert chase @ meal < 0.2


def test_what_comes_after_256_tokens_does_not_count(stage: SentenceEmbedder) -> None:
    long = "word " * 254
    assert len(stage.prepare(long + "elephant")) == 256
    one, other = vectors(stage, long + "elephant", long + "submarine")
    assert_close(one, other, FP32_DEEP, scale=1)
    assert stage.info()["model_version"] == "all-minilm-l6-v2@53aa5117"
