"""Silero VAD in plain torch: voice activity detection.

Architecture and weights of snakers4/silero-vad 6.2 (MIT), the part for 16 kHz. Modules have the names of the
checkpoint.
"""

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

WEIGHT_FILE: Final = "silero_vad_16k.safetensors"
RATE: Final = 16_000
STEP: Final = 512
"""Samples per probability, 32 ms."""
CONTEXT: Final = 64
"""Samples of the previous step that are part of the input."""
WINDOW: Final = 256
HOP: Final = 128


class Silero(nn.Module):
    """Sound float32[samples] at 16 kHz, -1 to 1, to float32[ceil(samples / 512)]: probabilities of speech."""

    def __init__(self) -> None:
        super().__init__()
        bands = WINDOW // 2 + 1
        self.stft_conv = nn.Conv1d(1, 2 * bands, WINDOW, stride=HOP, bias=False)
        self.conv1 = nn.Conv1d(bands, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, sound: Tensor) -> Tensor:
        padded = functional.pad(sound, (CONTEXT, -len(sound) % STEP))
        steps = functional.pad(padded.unfold(0, CONTEXT + STEP, STEP), (0, CONTEXT), mode="reflect")
        real, imaginary = self.stft_conv(steps.unsqueeze(1)).chunk(2, 1)
        x = (real**2 + imaginary**2).sqrt()
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = functional.relu(conv(x))
        hidden, _ = self.lstm(x.squeeze(2))
        probabilities: Tensor = torch.sigmoid(self.final_conv(functional.relu(hidden).unsqueeze(2))).flatten()
        return probabilities


def load(path: Path) -> Silero:
    """Return the network with the published weights, in eval mode. Raises RuntimeError when they do not fit."""
    from safetensors.torch import load_file

    model = Silero()
    # The published cell is torch's LSTM, whose weight names end in the number of the layer.
    state = {
        f"lstm.{name.removeprefix('lstm_cell.')}_l0" if name.startswith("lstm_cell.") else name: values
        for name, values in load_file(path).items()
    }
    model.load_state_dict(state)
    return model.eval()
