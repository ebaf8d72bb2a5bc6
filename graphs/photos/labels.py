"""Scores in words. A threshold belongs to the better label for ratings and to the worse one for distortion."""

from typing import Final, Literal

Label = Literal["high", "medium", "low"]

HIGH_BRISQUE: Final = 25.0
MEDIUM_BRISQUE: Final = 50.0
HIGH_TECHNICAL: Final = 6.0
MEDIUM_TECHNICAL: Final = 4.5
HIGH_AESTHETIC: Final = 6.5
MEDIUM_AESTHETIC: Final = 5.0


def overall_quality(brisque: float, technical: float) -> Label:
    """``brisque``: 0-100, lower is better; ``technical``: NIMA's mean rating, 1-10. Both must be good enough."""
    if brisque < HIGH_BRISQUE and technical >= HIGH_TECHNICAL:
        return "high"
    if brisque < MEDIUM_BRISQUE and technical >= MEDIUM_TECHNICAL:
        return "medium"
    return "low"


def aesthetic_label(aesthetic: float) -> Label:
    """``aesthetic``: NIMA's mean rating, 1-10."""
    if aesthetic >= HIGH_AESTHETIC:
        return "high"
    return "medium" if aesthetic >= MEDIUM_AESTHETIC else "low"
