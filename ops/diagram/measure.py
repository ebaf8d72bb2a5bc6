"""How wide a text gets in a font nobody knows yet: as in DejaVu Sans, the widest of the usual ones."""

BOLD = 1.13
STEP = 0.5
_EM = {
    **dict.fromkeys(" .,:;'|!ijlftrIJ-/·()[]", 0.44),
    **dict.fromkeys("ckszxvy_", 0.6),
    **dict.fromkeys("mMwW%@…+=<>#&^~", 1.0),
}
LOWER, UPPER, OTHER = 0.64, 0.79, 1.0


def width(text: str, size: float, *, bold: bool = False) -> float:
    """An upper bound in pixels, ``size`` being the font size in pixels."""
    return sum(map(_em, text)) * size * (BOLD if bold else 1)


def fit(text: str, room: float, size: float, *, smallest: float = 9.5, bold: bool = False) -> tuple[str, float]:
    """The text and the size, ``size`` at most, in which it fits into ``room``; cut where no size will do."""
    while size > smallest and width(text, size, bold=bold) > room:
        size = max(size - STEP, smallest)
    shown = text
    while shown and width(shown, size, bold=bold) > room:
        shown = shown.removesuffix("…")[:-1] + "…" if len(shown) > 1 else ""
    return shown, size


def wrap(text: str, room: float, size: float) -> list[str]:
    """Lines of whole words, none wider than ``room`` unless a single word is."""
    lines: list[str] = []
    for word in text.split():
        if lines and width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _em(char: str) -> float:
    if char in _EM:
        return _EM[char]
    return OTHER if not char.isascii() else UPPER if char.isupper() else LOWER
