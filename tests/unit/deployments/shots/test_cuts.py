"""TransNetV2 without its weights: shapes, batch mates, what a frame can depend on; and what the stage takes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.shots.cuts import Config, CutDetector
from tests.tolerances import FP32, FP32_DEEP, assert_close
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
    frames, tall = CutDetector(Config()).prepare(window)
    assert frames == 70
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
