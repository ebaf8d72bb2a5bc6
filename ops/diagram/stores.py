"""The strip under the picture: the stores, and who opens them."""

from collections.abc import Sequence

from ops.diagram.canvas import EDGE, FRAME, GAP, INK, LINE, MUTED, NIGHT, Canvas
from ops.diagram.measure import width
from ops.diagram.model import Store

HEAD, CHIP_LINE, CHIP_HEIGHT, PAD, FOOT, SMALL = 48, 23, 18, 14, 10, 10.5
ABOVE = 44
"""Height of the lines that come down from the gateway."""


class StoresStrip:
    """Cards side by side, ``width`` wide in all from ``x`` on."""

    def __init__(self, stores: Sequence[Store], x: float, width: float) -> None:
        self._stores, self._x = stores, x
        self._card = (width - GAP * (len(stores) - 1)) / len(stores)
        lines = max(len(self._lines(store)) for store in stores)
        self.height = ABOVE + HEAD + CHIP_LINE * lines + FOOT

    def draw(self, canvas: Canvas, top: float, gateway_x: float) -> None:
        """Everything from ``top`` on, where the gateway ends at ``gateway_x``."""
        y, bus = top + ABOVE, top + ABOVE - 20
        canvas.heading(self._x, bus - 6, "STORES", room=120)
        for number, store in enumerate(self._stores):
            x = self._x + number * (self._card + GAP)
            middle = x + self._card / 2
            if "gateway" in store.users:
                canvas.line([(gateway_x, top), (gateway_x, bus), (middle, bus), (middle, y)])
            canvas.rect(x, y, self._card, self.height - ABOVE)
            canvas.cylinder(x + PAD, y + 14, 16, 21, EDGE)
            canvas.text(x + 40, y + 22, store.name, room=self._card - 50, size=12.5, bold=True)
            canvas.text(x + 40, y + 37, store.backends, room=self._card - 50, size=SMALL, fill=MUTED)
            for line_number, users in enumerate(self._lines(store)):
                self._draw_users(canvas, users, x + PAD, y + HEAD + CHIP_LINE * line_number)

    def _draw_users(self, canvas: Canvas, users: Sequence[str], x: float, y: float) -> None:
        for user in users:
            chip = self._chip(user)
            fill, stroke, ink = (NIGHT, NIGHT, "#ffffff") if user == "gateway" else (FRAME, LINE, INK)
            canvas.rect(x, y, chip, CHIP_HEIGHT, fill=fill, stroke=stroke)
            canvas.text(x + chip / 2, y + 12.5, user, room=chip - 8, size=SMALL, fill=ink, anchor="middle")
            x += chip + 6

    def _lines(self, store: Store) -> list[list[str]]:
        """Users in lines that fit into the card."""
        lines: list[list[str]] = []
        left = 0.0
        for user in store.users:
            if not lines or self._chip(user) > left:
                lines.append([])
                left = self._card - 2 * PAD
            lines[-1].append(user)
            left -= self._chip(user) + 6
        return lines

    def _chip(self, user: str) -> float:
        return min(width(user, SMALL) + 12, self._card - 2 * PAD)
