"""Load checkpoints of transformers models from verified files, and refuse those that do not fit their architecture.

transformers itself initialises weights that a checkpoint lacks at random, with no more than a line in the log. Here
the names that are missing, unexpected or of another shape are an error. Only the files that models.yaml lists are read:
nothing else in their folder, no code that a configuration names, and nothing over the network.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from vision.errors import ModelNotLoaded
from vision.weights.store import Weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

FILES: Final = ("model.safetensors", "pytorch_model.bin")
"""File names that a checkpoint may have; the first that models.yaml lists is read."""
SHOWN: Final = 5
"""Weights that an error names; of more it gives the number."""


def architecture_names(architecture: str) -> frozenset[str]:
    """Return the names of the classes of one of transformers' mappings, or the one name of a class."""
    from transformers.models.auto import modeling_auto

    names: Mapping[str, str | Sequence[str]] = getattr(modeling_auto, f"{architecture}_NAMES", {})
    flat = [name for value in names.values() for name in ([value] if isinstance(value, str) else value)]
    return frozenset(flat or [architecture])


def read_json(weights: Weights, name: str) -> dict[str, Any]:
    """Read a JSON file of a model. Raises ModelNotLoaded when its entry in models.yaml does not list the file."""
    if name not in weights.files:
        raise ModelNotLoaded(f"{weights.name} has no {name}; list it under files of its entry in the models file.")
    values: dict[str, Any] = json.loads(weights.files[name].read_text(encoding="utf-8"))
    return values


def load_checkpoint(
    architecture: "type[PreTrainedModel] | Mapping[type[PreTrainedConfig], type[PreTrainedModel]]",
    weights: Weights,
    *,
    part: str | None = None,
    optional: Sequence[str] = (),
    unused: Sequence[str] = (),
    **options: bool,
) -> "PreTrainedModel":
    """Return the model of a checkpoint, in fp32 on the CPU and in eval mode.

    ``architecture`` is a model class of transformers, or one of its mappings from configuration classes to model
    classes, such as ``MODEL_MAPPING``. ``part`` names the part of ``config.json`` to use, such as "vision_config".
    ``options`` go to the constructor of the class. Names of weights that contain a string of ``optional`` may be
    missing, and those that begin with a string of ``unused`` are left out.

    Raises ModelNotLoaded when the configuration is of an unknown kind, when the checkpoint lacks weights, and when it
    has others or has them in other shapes.
    """
    import torch
    from transformers import CONFIG_MAPPING

    try:
        values = read_json(weights, "config.json")
        config = CONFIG_MAPPING[values["model_type"]].from_dict(values)
        model_class = architecture[type(config)] if isinstance(architecture, Mapping) else architecture
    except (KeyError, TypeError, ValueError) as error:
        raise ModelNotLoaded(
            f"The config.json of {weights.name} describes no model that can be used here ({error})."
        ) from error
    state = {name: values for name, values in _state(weights).items() if not name.startswith(tuple(unused))}
    model: PreTrainedModel
    model, loaded = model_class.from_pretrained(
        None,
        config=config if part is None else getattr(config, part),
        state_dict=state,
        dtype=torch.float32,
        local_files_only=True,
        # Or transformers raises by itself, without the names.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    faults = {
        "missing": [name for name in loaded["missing_keys"] if not any(word in name for word in optional)],
        "unexpected": list(loaded["unexpected_keys"]),
        "of another shape": [name for name, *_ in loaded["mismatched_keys"]],
    }
    told = [f"{len(names)} {fault} ({_listed(names)})" for fault, names in faults.items() if names]
    if told:
        raise ModelNotLoaded(
            f"The weights of {weights.name} do not fit {model_class.__name__}: {', '.join(told)}. "
            "Use a complete checkpoint of that class."
        )
    return model


def output_module(model: "PreTrainedModel", read: "Callable[[Any], torch.Tensor]") -> "torch.nn.Module":
    """Return a module of one input that gives the tensor that ``read`` takes from the output of ``model``.

    Engines take such modules; the model is at their attribute ``model``.
    """
    import torch

    class Output(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return read(self.model(inputs))

    return Output()


def classifier_module(weights: Weights) -> "torch.nn.Module":
    """Return a new torch module of an image classifier, float32[n, 3, h, w] → logits in the order of the checkpoint.

    Raises ModelNotLoaded as ``load_checkpoint`` does.
    """
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    model = load_checkpoint(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, weights)
    return output_module(model, lambda output: output.logits)


def _state(weights: Weights) -> "dict[str, torch.Tensor]":
    import torch
    from safetensors.torch import load_file

    name = next((name for name in FILES if name in weights.files), None)
    if name is None:
        raise ModelNotLoaded(f"{weights.name} lists neither {' nor '.join(FILES)} in the models file.")
    state: dict[str, torch.Tensor]
    if name.endswith(".safetensors"):
        state = load_file(weights.files[name])
    else:
        state = torch.load(weights.files[name], map_location="cpu", weights_only=True, mmap=True)
    return state


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(sorted(names)[:SHOWN]) + (f" and {more} more" if more > 0 else "")
