"""Reading of Keras 2 weights files (HDF5) into torch modules, without Keras; layers are looked up by name."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import torch
from torch import Tensor, nn

_NAMES: Final = {
    "kernel:0": "weight",
    "depthwise_kernel:0": "depthwise.weight",
    "pointwise_kernel:0": "pointwise.weight",
    "gamma:0": "weight",
    "beta:0": "bias",
    "moving_mean:0": "running_mean",
    "moving_variance:0": "running_var",
    "bias:0": "bias",
}
"""Names of weights in Keras and in torch."""


def load_layers(path: Path, layers: Iterable[tuple[nn.Module, str]]) -> None:
    """Load the weights of the named groups of a file into modules.

    Raises KeyError when a layer is missing, RuntimeError when it has another shape.
    """
    with h5py.File(path) as file:
        for module, group in layers:
            module.load_state_dict(_state(file[group]))


def _state(group: Any) -> dict[str, Tensor]:
    """Return the weights of a layer, with kernels transposed from height, width, inputs, outputs to torch's order."""
    state = {}
    for name, values in group.items():
        array = np.asarray(values, np.float32)
        if array.ndim == 4:
            # the third axis of a depthwise kernel is what torch counts as outputs
            array = array.transpose((2, 3, 0, 1) if name == "depthwise_kernel:0" else (3, 2, 0, 1))
        elif array.ndim == 2:
            array = array.T
        state[_NAMES[name]] = torch.from_numpy(array.copy())
    if "running_var" in state:
        state["num_batches_tracked"] = torch.tensor(0)
    return state
