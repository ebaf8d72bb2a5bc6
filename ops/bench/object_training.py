"""Train a small detector on composed scenes: ``python -m ops.bench.object_training MEDIA FOLDER``.

The weights that the service serves cannot be had everywhere. This one has their architecture, RT-DETRv2, in small, and
knows the classes of ``object_labels.json`` that are cut out there: enough to see a whole pipeline find real objects. It
is no detector for anything else. FOLDER becomes a checkpoint; where it is one, training goes on from it.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ops.bench import detectors
from ops.bench.report import made_by, publish_section, table
from ops.bench.scenes import Material, Scene, compose, material

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SIDE: Final = 192
SIZES: Final = ((192, 192), (288, 216), (216, 288), (352, 198))
"""Width and height of scenes before they are squeezed into a square."""
BATCH: Final = 8
RATE: Final = 5e-4
CLIP: Final = 1.0
WARM_UP: Final = 50
EVERY: Final = 20
"""Steps whose mean loss is one point of the curve, which lies beside the folder."""
POINTS: Final = 10
"""Of the curve in the report."""


def network(classes: tuple[str, ...]) -> "PreTrainedModel":
    """Return a new RT-DETRv2 of about two million parameters."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_indices=[2, 3, 4],
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[64, 96, 128],
        encoder_hidden_dim=96,
        encoder_ffn_dim=192,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=96,
        decoder_in_channels=[96, 96, 96],
        decoder_ffn_dim=192,
        decoder_layers=2,
        decoder_attention_heads=4,
        num_queries=40,
        num_denoising=20,
        **detectors.names_of(classes),
    )
    return RTDetrV2ForObjectDetection(config)


def batch(scenes: Sequence[Scene], classes: tuple[str, ...]) -> "tuple[torch.Tensor, list[dict[str, torch.Tensor]]]":
    """Return the pictures, float32[n, 3, h, w], and what is in them as the network's loss takes it."""
    import torch

    pixels = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)
    labels = []
    for scene in scenes:
        height, width = scene.image.shape[:2]
        boxes = np.array(scene.boxes, np.float32).reshape(-1, 4) / (width, height, width, height)
        boxes[:, :2] += boxes[:, 2:] / 2
        labels.append(
            {
                "class_labels": torch.tensor([classes.index(label) for label in scene.labels], dtype=torch.int64),
                "boxes": torch.from_numpy(boxes.astype(np.float32)),
            }
        )
    return torch.from_numpy(pixels.astype(np.float32) / 255), labels


def scene(random: np.random.Generator, parts: Material) -> Scene:
    """Return a scene of one of several shapes, squeezed into the square that the network takes."""
    import cv2

    size = SIZES[int(random.integers(len(SIZES)))]
    whole = compose(random, parts, size)
    across, down = SIDE / size[0], SIDE / size[1]
    boxes = tuple((x * across, y * down, width * across, height * down) for x, y, width, height in whole.boxes)
    return Scene(cv2.resize(whole.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), boxes, whole.labels)


def train(parts: Material, folder: Path, steps: int, total: int) -> list[float]:
    """Train for some steps of the schedule of ``total``, from where the folder is; return the losses of all so far."""
    import torch
    from transformers import RTDetrV2ForObjectDetection

    notes = folder.with_suffix(".json")
    losses: list[float] = json.loads(notes.read_text())["losses"] if notes.exists() else []
    done = len(losses) * EVERY
    torch.set_num_threads(1)  # others wait for each other after every layer of so small a network
    torch.manual_seed(done)
    random = np.random.default_rng((7, done))
    local: Any = {"local_files_only": True, "use_safetensors": True}
    model: Any = RTDetrV2ForObjectDetection.from_pretrained(folder, **local) if losses else network(parts.classes)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4)
    moments = folder.with_suffix(".pt")
    if moments.exists():
        optimizer.load_state_dict(torch.load(moments, weights_only=True))
    recent = []
    began = time.monotonic()
    for step in range(done, min(done + steps, total)):
        rate = float(RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * step / total)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        pixels, labels = batch([scene(random, parts) for _ in range(BATCH)], parts.classes)
        loss = model(pixel_values=pixels, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        recent.append(float(loss.detach()))
        if len(recent) == EVERY:
            losses.append(round(float(np.mean(recent)), 4))
            recent = []
            print(f"step {step + 1}: loss {losses[-1]:.3f}, {time.monotonic() - began:.0f} s", flush=True)
    detectors.save(model.eval(), folder, detectors.preprocessing(SIDE))
    torch.save(optimizer.state_dict(), moments)
    notes.write_text(json.dumps({"steps": len(losses) * EVERY, "total": total, "losses": losses}))
    return losses


def section(losses: Sequence[float], parts: Material) -> list[str]:
    """Return the lines of the report: the loss by steps, and what was trained on."""
    part = max(1, len(losses) // POINTS)
    means = [
        (EVERY * (start + part), float(np.mean(losses[start : start + part]))) for start in range(0, len(losses), part)
    ]
    return [
        f"RT-DETRv2 with {SIDE} x {SIDE} pixels, {len(parts.classes)} classes, {len(parts.cutouts)} "
        f"cut-outs and {len(parts.backgrounds)} backgrounds; batches of {BATCH} composed scenes, AdamW, one thread.",
        "",
        *table(("step", *(str(step) for step, _ in means)), [("loss", *(f"{loss:.2f}" for _, loss in means))]),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4000, help="of this run")
    parser.add_argument("--total", type=int, default=4000, help="of all runs, over which the rate goes down")
    parser.add_argument("--out", type=Path, help="file of the report, of which one section is written")
    given = parser.parse_args(arguments)
    parts = material(given.media).part(held_out=False)
    losses = train(parts, given.folder, given.steps, given.total)
    made = made_by("ops.bench.object_training", "transformers", "torch")
    publish_section("A small trained detector", [f"{made}.", "", *section(losses, parts)], given.out)


if __name__ == "__main__":
    main()
