"""Tags of a shot from measured values, and sets of labels for zero-shot classification by CLIP.

A tag states what was measured and no more: a dark image is "dark"; whether it is night or a cellar is a question for
CLIP. ``ZERO_SHOT`` has labels for that with a sentence each, to be compared with the keyframe; they are only valid with
real weights of CLIP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from vision.images import Pixels
from vision.quality.color import COLOURED, colors
from vision.quality.composition import TAGS, TINTED
from vision.quality.exposure import LEVELS, luma_histogram
from vision.quality.framing import UNDETERMINED
from vision.shots.movement import Movement
from vision.shots.scale import Scale

SIDE: Final = 512
"""Longer side, in pixels, of the copy that colours are measured on, as in quality/composition."""
DARK: Final = 0.2
"""Median luma below which an image is dark,"""
BRIGHT: Final = 0.65
"""and above which it is bright."""
LOW_KEY: Final = (0.35, 0.55)
"""Low key: three quarters of the pixels are below the first, and the brightest at least at the second."""
HIGH_KEY: Final = 0.4
"""High key: 95 % of the pixels of a bright image are at least this bright."""
CONTRAST: Final = (0.12, 0.28)
"""Standard deviation of the luma: low contrast up to the first, high contrast from the second."""
QUICK_S: Final = 1.5
LONG_S: Final = 20.0
FAST: Final = 0.3
"""Motion of the image in frame widths a second from which a movement is fast."""
PEOPLE: Final = {1: "one_person", 2: "two_people"}


@dataclass(frozen=True, slots=True)
class Look:
    """Light and colours of a keyframe. ``low``, ``median``, ``upper``, ``high``: luma (BT.601) at 5, 50, 75 and 99 % of
    the pixels, 0 black to 1 white; ``contrast``: its standard deviation, 0 to 0.5; ``coloured``: share of the pixels
    with a hue, 0 to 1; ``warm``: share of warm hues among them."""

    low: float
    median: float
    upper: float
    high: float
    contrast: float
    coloured: float
    warm: float


def look(image: Pixels) -> Look:
    """Measure light and colours of a keyframe, uint8 (H, W, 3) RGB."""
    import cv2

    factor = min(1.0, SIDE / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    shares = luma_histogram(small) / (size[0] * size[1])
    luma = np.arange(LEVELS) / (LEVELS - 1)
    low, median, upper, high = (float(luma[np.searchsorted(shares.cumsum(), q)]) for q in (0.05, 0.5, 0.75, 0.99))
    contrast = float(np.sqrt(shares @ (luma - shares @ luma) ** 2))
    hues = colors(small)
    return Look(low, median, upper, high, contrast, hues.coloured, hues.warm)


def auto_tags(movement: Movement, scale: Scale, look: Look, duration: float) -> tuple[str, ...]:
    """Return the tags of a shot of ``duration`` seconds, each once; undetermined properties have none.

    Movement: its label and those beside it, ``fast_movement``. People: size, angle, framing, grouping, ``one_person``,
    ``two_people``, ``three_people_or_more``. Light: ``dark`` or ``bright``; ``low_key`` (dark with lights in it),
    ``high_key`` (bright with no shadow); ``low_contrast`` or ``high_contrast``. Colour: ``monochrome``, ``warm`` or
    ``cool``. Length: ``quick_cut`` up to 1.5 s, ``long_take`` from 20 s.
    """
    tags = [movement.label, *movement.also, scale.shot_size, scale.shot_angle, scale.framing, scale.grouping]
    if scale.people:
        tags.append(PEOPLE.get(scale.people, "three_people_or_more"))
    tinted = look.coloured >= TINTED
    conditions = {
        "fast_movement": movement.label != UNDETERMINED and movement.intensity >= FAST,
        "dark": look.median < DARK,
        "bright": look.median > BRIGHT,
        "low_key": look.upper < LOW_KEY[0] and look.median < DARK and look.high >= LOW_KEY[1],
        "high_key": look.median > BRIGHT and look.low >= HIGH_KEY,
        "low_contrast": look.contrast <= CONTRAST[0],
        "high_contrast": look.contrast >= CONTRAST[1],
        "monochrome": look.coloured < COLOURED,
        "warm": tinted and look.warm >= TAGS["warm"][1],
        "cool": tinted and look.warm <= TAGS["cool"][2],
        "quick_cut": duration <= QUICK_S,
        "long_take": duration >= LONG_S,
    }
    tags += [name for name, holds in conditions.items() if holds]
    return tuple(dict.fromkeys(tag for tag in tags if tag != UNDETERMINED))


ZERO_SHOT: Final[Mapping[str, Mapping[str, str]]] = {
    "setting": {
        "interior": "a film still of a room indoors",
        "office": "a film still of an office",
        "vehicle_interior": "a film still from inside a car",
        "city_street": "a film still of a city street",
        "forest": "a film still of a forest",
        "mountains": "a film still of mountains",
        "desert": "a film still of a desert",
        "sea": "a film still of the sea",
        "field": "a film still of fields and meadows",
        "sky": "a film still of the sky",
    },
    "time_of_day": {
        "day": "a film still in daylight",
        "golden_hour": "a film still in the low golden light of a sunset",
        "dusk": "a film still in the blue light of dusk",
        "night": "a film still at night",
    },
    "mood": {
        "tense": "a tense film still",
        "frightening": "a frightening film still",
        "sad": "a sad and lonely film still",
        "romantic": "a romantic film still",
        "joyful": "a joyful film still",
        "calm": "a calm and peaceful film still",
        "mysterious": "a mysterious film still",
        "epic": "a grand and epic film still",
    },
    "action": {
        "conversation": "a film still of people talking to each other",
        "chase": "a film still of a chase",
        "fight": "a film still of a fight",
        "walking": "a film still of someone walking",
        "running": "a film still of someone running",
        "driving": "a film still of a moving car",
        "dancing": "a film still of people dancing",
        "eating": "a film still of people at a meal",
        "crowd": "a film still of a crowd",
        "still_life": "a film still of things without people",
    },
}
"""Labels by set, with the sentence that CLIP compares with a keyframe. Labels of a set are mutually exclusive."""
