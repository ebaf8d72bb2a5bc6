"""What a shot may be used for: what people said, else what follows of its size, movement and angle.

The uses are those that a grammar of film names for such shots (Thompson and Bowen, Grammar of the Shot).
"""

from typing import Final, Literal

from stores.shots import Shot

Source = Literal["given", "derived", "none"]

SIZES: Final = {
    "extreme_wide": "establishing shot: the place, before anybody in it",
    "wide": "establishing shot: where it takes place, with people in it",
    "full": "a person in their surroundings, or an action seen whole",
    "medium_full": "people who move or act together",
    "medium": "conversation, or work of hands",
    "medium_close_up": "dialogue, interview",
    "close_up": "reaction, what somebody feels",
    "extreme_close_up": "emphasis on a detail of a face",
}
MOVEMENTS: Final = {
    "pan_left": "looking around in a place, or going with a movement",
    "pan_right": "looking around in a place, or going with a movement",
    "tilt_up": "revealing how high something is",
    "tilt_down": "leading from the surroundings to a subject",
    "zoom_in": "drawing attention to a detail",
    "zoom_out": "revealing the context",
    "dolly_in": "approaching a subject, rising tension",
    "dolly_out": "leaving a subject, the end of a scene",
    "roll": "loss of balance or orientation",
    "handheld": "immediacy, as of a report or of a witness",
    "tracking": "following somebody or something that moves",
}
ANGLES: Final = {
    "high_angle": "somebody who is small, watched or defeated",
    "low_angle": "somebody who is tall, strong or threatening",
    "dutch": "unease, a world out of balance",
}


def usages_of(shot: Shot) -> tuple[list[str], Source]:
    """Return what a shot may be used for, and whether people gave it or it follows of what was measured and said."""
    if shot.usage_situations:
        return list(shot.usage_situations), "given"
    measured = SIZES.get(shot.shot_size), MOVEMENTS.get(shot.camera_movement), ANGLES.get(shot.shot_angle)
    derived = [use for use in measured if use is not None]
    if shot.emotional_tone:
        derived.append(f"a scene of this tone: {shot.emotional_tone}")
    if shot.genre:
        derived.append(f"a film of this genre: {shot.genre}")
    return derived, "derived" if derived else "none"
