"""A sheet to draw SVG on: rectangles, texts that stay inside their room, and lines with rounded corners."""

from collections.abc import Sequence
from html import escape

from ops.diagram.measure import fit

FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',Aileron,sans-serif"
INK, MUTED, LINE, EDGE = "#1e293b", "#5b6b82", "#d3dbe6", "#8595ab"
SHEET, FRAME, CHIP, NIGHT, HAZE = "#fbfcfe", "#f0f3f8", "#eef1f6", "#1e2a44", "#b8c4d9"
GAP = 14
Point = tuple[float, float]


class Canvas:
    """Elements in the order of drawing; sizes in pixels."""

    def __init__(self, width: float) -> None:
        self.width = width
        self._elements: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "#ffffff",
        stroke: str = LINE,
        radius: float = 8,
        title: str = "",
    ) -> None:
        """A rectangle; ``title`` is shown when the mouse rests on it."""
        box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"'
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._elements.append(f'<rect {box} fill="{fill}" stroke="{stroke}">{tip}</rect>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        room: float,
        size: float = 11,
        fill: str = INK,
        bold: bool = False,
        anchor: str = "start",
        title: str = "",
    ) -> None:
        """One line with its baseline at ``y``, made smaller and then cut to stay within ``room``."""
        shown, size = fit(text, room, size, bold=bold)
        look = f'font-size="{size:g}" fill="{fill}"' + (' font-weight="600"' if bold else "")
        if anchor != "start":
            look += f' text-anchor="{anchor}"'
        full = title or text
        tip = f"<title>{escape(full)}</title>" if shown != full else ""
        self._elements.append(f'<text x="{x:g}" y="{y:g}" {look}>{escape(shown)}{tip}</text>')

    def heading(self, x: float, y: float, text: str, *, room: float) -> None:
        """Over a part of the picture, in capitals."""
        self.text(x, y, text, room=room, size=10.5, fill=MUTED, bold=True)

    def line(
        self,
        points: Sequence[Point],
        *,
        color: str = EDGE,
        width: float = 1.4,
        arrow: bool = True,
        radius: float = 7,
    ) -> None:
        """Straight pieces along the points, rounded at the corners, with an arrow at the end."""
        path = f"M{points[0][0]:g} {points[0][1]:g}"
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            (ax, ay), (bx, by) = _toward(corner, before, radius), _toward(corner, after, radius)
            path += f"L{ax:g} {ay:g}Q{corner[0]:g} {corner[1]:g} {bx:g} {by:g}"
        head_x, head_y = points[-1]
        end = _toward(points[-1], points[-2], 5) if arrow else points[-1]
        path += f"L{end[0]:g} {end[1]:g}"
        self._elements.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"/>')
        if arrow:
            back_x, back_y = _toward(points[-1], points[-2], 7)
            side_x, side_y = (head_y - back_y) * 0.55, (head_x - back_x) * 0.55
            corners = (head_x, head_y), (back_x + side_x, back_y + side_y), (back_x - side_x, back_y - side_y)
            triangle = " ".join(f"{x:g},{y:g}" for x, y in corners)
            self._elements.append(f'<polygon points="{triangle}" fill="{color}"/>')

    def bar(self, x: float, y: float, height: float, color: str) -> None:
        """A coloured left edge for a rectangle with the usual corners."""
        path = f"M{x + 8:g} {y:g}a8 8 0 0 0 -8 8v{height - 16:g}a8 8 0 0 0 8 8h-3v{-height:g}z"
        self._elements.append(f'<path d="{path}" fill="{color}"/>')

    def cylinder(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """The sign for a store."""
        rx, ry = width / 2, height / 6
        side = f"M{x:g} {y + ry:g}v{height - 2 * ry:g}a{rx:g} {ry:g} 0 0 0 {width:g} 0v{2 * ry - height:g}"
        top = f'<ellipse cx="{x + rx:g}" cy="{y + ry:g}" rx="{rx:g}" ry="{ry:g}"/>'
        self._elements.append(f'<g fill="#ffffff" stroke="{color}" stroke-width="1.3"><path d="{side}"/>{top}</g>')

    def svg(self, height: float, title: str) -> str:
        """The whole document, ``height`` high."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {height:g}" '
            f'width="{self.width:g}" height="{height:g}" font-family="{FONTS}" role="img">'
        )
        return "\n".join([head, f"<title>{escape(title)}</title>", *self._elements, "</svg>", ""])


def _toward(start: Point, goal: Point, distance: float) -> Point:
    """The point ``distance`` from ``start`` on the way to ``goal``, at most half of the way."""
    (x, y), (gx, gy) = start, goal
    length = abs(gx - x) + abs(gy - y)
    part = min(distance / length, 0.5) if length else 0
    return round(x + (gx - x) * part, 2), round(y + (gy - y) * part, 2)
