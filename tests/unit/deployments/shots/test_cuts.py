"""TransNetV2 without its weights: shapes, batch mates, what a frame can depend on; and what the stage takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from deployments.shots.cuts import Config, CutDetector
from tests.tolerances import FP32, FP32_DEEP, assert_close
from vision.engines import MIN_COSINE
from vision.errors import InvalidInput
from vision.networks.transnetv2 import HEIGHT, WIDTH, WINDOW, TransNetV2, _histograms, load

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def network() -> TransNetV2:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return TransNetV2().eval()


def noise(windows: int) -> torch.Tensor:
    levels = np.random.default_rng(4).integers(0, 256, (windows, 3, WINDOW * HEIGHT, WIDTH))
    return torch.from_numpy(levels.astype(np.float32) / 255)


def test_a_window_has_two_logits_a_frame_whatever_its_batch_mates(network: TransNetV2) -> None:
    windows = noise(2)
    with torch.inference_mode():
        together, alone = network(windows), network(windows[1:])
    assert together.shape == (2, 2 * WINDOW)
    assert_close(together[1:], alone, FP32_DEEP)


def test_the_network_is_as_large_as_the_published_one(network: TransNetV2) -> None:
    # The published state dict has 7,614,466 without batch normalisation, of which a bias is left for 896 channels.
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_614_466 + 896


def test_colours_are_counted_by_eight_levels_a_channel() -> None:
    frames = torch.zeros(1, 3, 2, HEIGHT, WIDTH)
    frames[0, :, 0] = torch.tensor([31.0, 32.0, 255.0])[:, None, None] / 255
    frames[0, 0, 1, :, : WIDTH // 2] = 1.0
    histograms = _histograms(frames)[0]
    assert histograms[0].nonzero().tolist() == [[0 * 64 + 1 * 8 + 7]]
    assert histograms[1].nonzero().tolist() == [[0], [7 * 64]]
    torch.testing.assert_close(histograms.norm(dim=1), torch.ones(2), rtol=FP32, atol=0)


def test_a_file_without_the_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"fc1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(KeyError, match="frame_sim_layer"):
        load(tmp_path / "other.pth")


def test_a_short_window_goes_on_with_its_last_frame() -> None:
    window = np.random.default_rng(5).integers(0, 256, (70, HEIGHT, WIDTH, 3), np.uint8)
    prepared = CutDetector(Config()).prepare(window)
    tall = prepared.pixels
    assert (prepared.frames, prepared.exact) == (70, True)
    assert tall.dtype == np.float32
    shown = tall.reshape(3, WINDOW, HEIGHT, WIDTH).transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(np.round(shown[:70] * 255), window)
    np.testing.assert_array_equal(shown[70:], shown[69:70].repeat(30, 0))


@pytest.mark.parametrize(
    "item",
    [
        np.zeros((0, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((101, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((100, WIDTH, HEIGHT, 3), np.uint8),
        np.zeros((100, HEIGHT, WIDTH), np.uint8),
        np.zeros((100, HEIGHT, WIDTH, 3), np.float32),
    ],
)
def test_what_is_no_window_is_refused(item: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="A window"):
        CutDetector(Config()).prepare(item)


class Answers:
    """An engine whose logits are how bright each frame is, and ``off`` more; it counts the windows of each call."""

    name, device, streams = "openvino-fp32", "cpu", 1

    def __init__(self, off: float = 0.0) -> None:
        self.off, self.batches = off, list[int]()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(len(batch))
        levels = batch.reshape(len(batch), 3, WINDOW, -1).mean((1, 3)) * 20 - 10
        return np.repeat(levels[:, :, None] + self.off, 2, 2).reshape(len(batch), -1).astype(np.float32)


def bright(frame: int, logit: float) -> np.ndarray:
    """A window that is dark but for one frame."""
    window = np.zeros((WINDOW, HEIGHT, WIDTH, 3), np.uint8)
    window[frame] = round((logit + 10) / 20 * 255)
    return window


def test_fp32_sees_only_windows_that_it_could_decide_otherwise() -> None:
    stage = CutDetector(Config())
    stage._engine, stage._glance = exact, glance = Answers(), Answers(off=0.5)
    windows = [bright(50, 6.0), bright(50, 0.4), bright(10, 0.4), bright(50, -9.0)]
    ready = [*(stage.prepare((window, "decisions")) for window in windows), stage.prepare(windows[3])]
    answers = stage.predict_batch(ready)
    # The second is near one half; the third only in a frame that another window decides about; the last is exact.
    assert glance.batches == [1, 1, 1, 1]
    assert exact.batches == [2]
    logits = [np.log(answer / (1 - answer)).max() for answer in answers]  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(logits, [6.5, 0.4, 0.9, -8.5, -9.0], atol=0.05)


def test_without_int8_every_window_is_exact() -> None:
    stage = CutDetector(Config())
    stage._engine = exact = Answers()
    stage.predict_batch([stage.prepare((bright(50, -9.0), "decisions"))] * 2)
    assert exact.batches == [2]


def test_in_int8_the_network_has_the_same_weights_and_nearly_the_same_logits(network: TransNetV2) -> None:
    rounded = TransNetV2(in_int8=True).eval()
    rounded.load_state_dict(network.state_dict())
    windows = noise(1)
    with torch.inference_mode():
        exact, rough = network(windows), rounded(windows)
    assert not torch.equal(rough, exact)
    assert functional.cosine_similarity(rough, exact).item() >= MIN_COSINE  # as of any engine
