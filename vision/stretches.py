"""Stretches of time, and what is in several lists of them at once."""

from collections.abc import Iterable, Sequence

Stretch = tuple[float, float]
"""Seconds from the first up to the second."""


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return the same time in as few stretches as there can be, in order; those that touch become one."""
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def together(lists: Sequence[Iterable[Stretch]]) -> list[Stretch]:
    """Return the time that is in each of some lists, in order; none where there is no list."""
    if not lists:
        return []
    common = joined(lists[0])
    for each in lists[1:]:
        other, shared, place = joined(each), list[Stretch](), 0
        for start, end in common:
            while place < len(other) and other[place][1] <= start:
                place += 1
            at = place
            while at < len(other) and other[at][0] < end:
                shared.append((max(start, other[at][0]), min(end, other[at][1])))
                at += 1
        common = shared
    return common
