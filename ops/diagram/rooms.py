"""The right part of the picture: rooms in columns, the processes in them, and the lines that reach them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ops.diagram.canvas import CHIP, FRAME, GAP, MUTED, Canvas
from ops.diagram.measure import width
from ops.diagram.model import Process, Room, StageRow

GUTTER, PAD, LEFT, RIGHT = 30, 10, 14, 10
CORRIDOR = 18
"""Height above the rooms for the line that passes the first column."""
HEAD, PACK_HEAD, ROW, FOOT = 30, 18, 22, 20
KEY, SMALL, SMALLEST_KEY = 12, 10.5, 10


@dataclass(frozen=True)
class _Box:
    """A process in its place."""

    process: Process
    x: float
    y: float
    width: float


class RoomsArea:
    """``colors`` are those of the APIs by name; the area is ``width`` wide from ``x`` on."""

    def __init__(self, rooms: Sequence[Room], colors: Mapping[str, str], x: float, width: float) -> None:
        self._colors, self._x = colors, x
        self._columns = in_columns(rooms)
        self._column_width = (width - GUTTER * (len(self._columns) - 1)) / len(self._columns)
        self._corridor = CORRIDOR if len(self._columns) > 1 else 0
        self.height = self._corridor + max(_column_height(column) for column in self._columns)
        inner = self._column_width - 2 * PAD - LEFT - RIGHT
        rows = [row for room in rooms for process in room.processes for row in process.stages]
        # All chips alike: with the word where every key leaves space for it.
        self._chip_word = "batch " if all(_row_width(row) <= inner for row in rows) else ""

    def draw(self, canvas: Canvas, top: float, source_x: float) -> None:
        """Everything, with the lines from ``source_x`` on."""
        boxes: list[_Box] = []
        for number, column in enumerate(self._columns):
            x, y = self._x + number * (self._column_width + GUTTER), top + self._corridor
            for room in column:
                boxes += self._draw_room(canvas, room, x, y)
                y += _room_height(room) + GAP
        for box in boxes:
            if box.process.called:
                canvas.line(self._way_to(box, top, source_x))
        for box in boxes:
            self._draw_process(canvas, box)

    def _draw_room(self, canvas: Canvas, room: Room, x: float, y: float) -> list[_Box]:
        inner = self._column_width - 2 * PAD
        canvas.rect(x, y, self._column_width, _room_height(room), fill=FRAME, radius=12)
        canvas.text(x + PAD + 2, y + 20, room.name, room=inner, size=KEY, bold=True)
        boxes, y = [], y + HEAD
        for process in room.processes:
            boxes.append(_Box(process, x + PAD, y, inner))
            y += _process_height(process) + PAD
        return boxes

    def _way_to(self, box: _Box, top: float, source_x: float) -> list[tuple[float, float]]:
        """Straight to the first column; over its top and down the gutter to another."""
        y = box.y + _process_height(box.process) / 2
        if box.x == self._x + PAD:
            return [(source_x, y), (box.x, y)]
        over, gutter = top + self._corridor / 2, box.x - PAD - GUTTER / 2
        return [(source_x, over), (gutter, over), (gutter, y), (box.x, y)]

    def _draw_process(self, canvas: Canvas, box: _Box) -> None:
        process, room = box.process, box.width - LEFT - RIGHT
        canvas.rect(box.x, box.y, box.width, _process_height(process))
        x, y = box.x + LEFT, box.y + 6
        if process.head:
            canvas.text(x, y + 12, f"{process.name} · {process.head}", room=room, size=SMALL, fill=MUTED)
            y += PACK_HEAD
        for row in process.stages:
            self._draw_stage(canvas, row, x, y, room)
            y += ROW
        share = width(process.share, SMALL)
        canvas.text(x, y + 12, process.share, room=share, size=SMALL, fill=MUTED)
        canvas.text(x + room, y + 12, process.count, room=room - share - 6, size=SMALL, fill=MUTED, anchor="end")

    def _draw_stage(self, canvas: Canvas, row: StageRow, x: float, y: float, room: float) -> None:
        part = (ROW - 6) / max(len(row.apis), 1)
        for number, api in enumerate(row.apis):
            strip = y + 3 + part * number
            canvas.rect(x - 7, strip, 3, part, fill=self._colors[api], stroke="none", radius=0, title=api)
        batch = f"{self._chip_word}{row.batch}"
        chip = width(batch, SMALL) + 8
        canvas.rect(x + room - chip, y + 3, chip, 16, fill=CHIP, stroke="none", title=f"batch {row.batch}")
        canvas.text(x + room - chip / 2, y + 14.5, batch, room=chip, size=SMALL, fill=MUTED, anchor="middle")
        room -= chip + 4
        key = row.key
        if width(key, SMALLEST_KEY, bold=True) > room:
            key = "…/" + key.partition("/")[2]
        canvas.text(x, y + 15, key, room=room, size=KEY, bold=True, title=row.key)


def stacked(heights: Iterable[float]) -> float:
    """Height of things one above the other with gaps between them."""
    return sum(height + GAP for height in heights) - GAP


def in_columns(rooms: Sequence[Room]) -> list[Sequence[Room]]:
    """The rooms in their order in two columns, as equally high as possible."""
    if len(rooms) < 2:
        return [rooms]
    splits = [[rooms[:cut], rooms[cut:]] for cut in range(1, len(rooms))]
    return min(splits, key=lambda split: max(map(_column_height, split)))


def _column_height(rooms: Sequence[Room]) -> float:
    return stacked(map(_room_height, rooms))


def _room_height(room: Room) -> float:
    return HEAD + sum(_process_height(process) + PAD for process in room.processes)


def _process_height(process: Process) -> float:
    return 12 + (PACK_HEAD if process.head else 0) + ROW * len(process.stages) + FOOT


def _row_width(row: StageRow) -> float:
    return width(row.key, KEY, bold=True) + width(f"batch {row.batch}", SMALL) + 12
