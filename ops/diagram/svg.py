"""Draw the graph as SVG and PNG: APIs on the left, the gateway, rooms of stages on the right, the stores below."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import resvg_py
from PIL import ImageFont

from ops.diagram.model import GATEWAY_USER, Api, Graph, Process, Room, StageRow, Store, api_colors, counted

FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',Aileron,sans-serif"
INK, MUTED, LINE, EDGE = "#1e293b", "#5b6b82", "#d3dbe6", "#8595ab"
SHEET, FRAME, CHIP, NIGHT, HAZE = "#fbfcfe", "#f0f3f8", "#eef1f6", "#1e2a44", "#b8c4d9"
SMALL = 10.5
"""Font size in pixels of all but titles."""
SMALLEST = 9.5

PAGE, MARGIN, GAP = 900, 20, 14
API_W, API_TEXT = 172, 146
GATEWAY_X, GATEWAY_W = 224, 104
ROOMS_X = 362
TITLE_Y, HEADING_Y, TOP = 36, 70, 84
MIN_GATEWAY_H = 170
DUTIES = ("429 when full", "body cap", "deadline", "errors to HTTP")
ZOOM = 2
"""Pixels of the PNG for one of the SVG, for screens of high resolution."""

GUTTER, PAD, LEFT, RIGHT = 30, 10, 14, 10
CORRIDOR = 18
"""Height above the rooms for the line that passes over the first column."""
HEAD, PACK_HEAD, ROW, FOOT = 30, 18, 22, 20
KEY, SMALLEST_KEY = 12, 10
ABOVE = 44
"""Height of the lines from the gateway to the stores."""
STORE_COLUMNS, CELL_GAP = 3, 10
"""Stores beside one another in the card of an engine, and the gap between them."""
CARD_PAD, ENGINE_HEAD, STORE_NAME, CHIP_LINE, CHIP_HEIGHT, CHIP_GAP = 12, 58, 18, 22, 18, 4
BOLD = 1.13
STEP = 0.5
_EM = {
    **dict.fromkeys(" .,:;'|!ijlftrIJ-/·()[]", 0.44),
    **dict.fromkeys("ckszxvy_", 0.6),
    **dict.fromkeys("mMwW%@…+=<>#&^~", 1.0),
}
LOWER, UPPER, OTHER = 0.64, 0.79, 1.0

Point = tuple[float, float]


def draw_svg(graph: Graph) -> str:
    """Return the picture as an SVG document, 900 pixels wide."""
    colors = api_colors(graph)
    rooms = _RoomsArea(graph.rooms, colors, ROOMS_X, PAGE - MARGIN - ROOMS_X)
    stores = _StoresStrip(graph.stores, MARGIN, PAGE - 2 * MARGIN)
    height = max(rooms.height, stacked(map(_api_height, graph.apis)), MIN_GATEWAY_H)
    bottom = TOP + height + stores.height + MARGIN

    canvas = _Canvas(PAGE)
    canvas.rect(0.5, 0.5, PAGE - 1, bottom - 1, fill=SHEET, radius=14)
    _draw_titles(canvas, graph)
    # From inside the gateway, whose corners are round; it is drawn over the lines.
    rooms.draw(canvas, TOP, GATEWAY_X + GATEWAY_W - 12)
    stores.draw(canvas, TOP + height, GATEWAY_X + GATEWAY_W / 2)
    _draw_apis(canvas, graph, colors, height)
    _draw_gateway(canvas, graph, height)
    return canvas.svg(bottom, f"The graph that {graph.source} deploys")


def render_png(svg: str, *, system_fonts: bool = True) -> bytes:
    """Render an SVG document as PNG, ``ZOOM`` times its size, also on a machine without fonts."""
    with tempfile.TemporaryDirectory() as folder:
        font = _write_font(Path(folder))
        # Where none of the named fonts is installed, everything is set in the one that comes with Pillow.
        data: bytes = resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=ZOOM,
            font_files=[str(font)],
            skip_system_fonts=not system_fonts,
            sans_serif_family="Aileron",
        )
    return bytes(data)


def _write_font(folder: Path) -> Path:
    font = ImageFont.load_default(size=12)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType, so it has no font; install a wheel of Pillow")
    path = folder / "aileron.ttf"
    path.write_bytes(font.font_bytes)
    return path


def in_columns(rooms: Sequence[Room]) -> list[Sequence[Room]]:
    """Return the rooms in their order in two columns, as equally high as possible."""
    if len(rooms) < 2:
        return [rooms]
    splits = [[rooms[:cut], rooms[cut:]] for cut in range(1, len(rooms))]
    return min(splits, key=lambda split: max(map(_column_height, split)))


def stacked(heights: Iterable[float]) -> float:
    """Return the height of boxes below one another, with gaps between them."""
    return sum(height + GAP for height in heights) - GAP


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return an upper bound of the width in pixels; ``size`` is the font size in pixels.

    The font is not known yet, so it is measured as in DejaVu Sans, the widest of the usual ones.
    """
    return sum(map(_em, text)) * size * (BOLD if bold else 1)


def fit(text: str, max_width: float, size: float, *, bold: bool = False) -> tuple[str, float]:
    """Return the text and the size, at most ``size``, that fit into ``max_width``; cut the text where no size fits."""
    while size > SMALLEST and text_width(text, size, bold=bold) > max_width:
        size = max(size - STEP, SMALLEST)
    shown = text
    while shown and text_width(shown, size, bold=bold) > max_width:
        shown = shown.removesuffix("…")[:-1] + "…" if len(shown) > 1 else ""
    return shown, size


def wrap(text: str, max_width: float, size: float) -> list[str]:
    """Return lines of whole words, none wider than ``max_width`` unless a single word is."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= max_width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _em(char: str) -> float:
    if char in _EM:
        return _EM[char]
    return OTHER if not char.isascii() else UPPER if char.isupper() else LOWER


class _Canvas:
    """Collects SVG elements in the order of drawing; sizes in pixels."""

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
        """Draw a rectangle; ``title`` is shown when the mouse rests on it."""
        box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"'
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._elements.append(f'<rect {box} fill="{fill}" stroke="{stroke}">{tip}</rect>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        max_width: float,
        size: float = 11,
        fill: str = INK,
        bold: bool = False,
        anchor: str = "start",
        title: str = "",
    ) -> None:
        """Draw a line of text with its baseline at ``y``, shrunk and then cut to stay within ``max_width``."""
        shown, size = fit(text, max_width, size, bold=bold)
        look = f'font-size="{size:g}" fill="{fill}"' + (' font-weight="600"' if bold else "")
        if anchor != "start":
            look += f' text-anchor="{anchor}"'
        full = title or text
        tip = f"<title>{escape(full)}</title>" if shown != full else ""
        self._elements.append(f'<text x="{x:g}" y="{y:g}" {look}>{escape(shown)}{tip}</text>')

    def heading(self, x: float, y: float, text: str, *, max_width: float) -> None:
        """Draw the heading of a part of the picture."""
        self.text(x, y, text, max_width=max_width, size=SMALL, fill=MUTED, bold=True)

    def line(
        self,
        points: Sequence[Point],
        *,
        color: str = EDGE,
        width: float = 1.4,
        arrow: bool = True,
        radius: float = 7,
    ) -> None:
        """Draw a line along the points, rounded at the corners, with an arrow at the end."""
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
        """Draw a coloured left edge for a rectangle with the usual corners."""
        path = f"M{x + 8:g} {y:g}a8 8 0 0 0 -8 8v{height - 16:g}a8 8 0 0 0 8 8h-3v{-height:g}z"
        self._elements.append(f'<path d="{path}" fill="{color}"/>')

    def cylinder(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Draw the symbol of a store."""
        rx, ry = width / 2, height / 6
        side = f"M{x:g} {y + ry:g}v{height - 2 * ry:g}a{rx:g} {ry:g} 0 0 0 {width:g} 0v{2 * ry - height:g}"
        top = f'<ellipse cx="{x + rx:g}" cy="{y + ry:g}" rx="{rx:g}" ry="{ry:g}"/>'
        self._elements.append(f'<g fill="#ffffff" stroke="{color}" stroke-width="1.3"><path d="{side}"/>{top}</g>')

    def svg(self, height: float, title: str) -> str:
        """Return the whole document, ``height`` high."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {height:g}" '
            f'width="{self.width:g}" height="{height:g}" font-family="{FONTS}" role="img">'
        )
        return "\n".join([head, f"<title>{escape(title)}</title>", *self._elements, "</svg>", ""])


def _toward(start: Point, goal: Point, distance: float) -> Point:
    """Return the point ``distance`` from ``start`` on the way to ``goal``, at most half of the way."""
    (x, y), (gx, gy) = start, goal
    length = abs(gx - x) + abs(gy - y)
    part = min(distance / length, 0.5) if length else 0
    return round(x + (gx - x) * part, 2), round(y + (gy - y) * part, 2)


def _draw_titles(canvas: _Canvas, graph: Graph) -> None:
    processes = [process for room in graph.rooms for process in room.processes]
    numbers = [
        counted(len(graph.apis), "API"),
        counted(1 + len(graph.rooms), "application"),
        counted(1 + len(processes), "deployment"),
        counted(sum(len(process.stages) for process in processes), "stage"),
    ]
    summary = f"{graph.source}: {', '.join(numbers)}"
    legend = "frame: application · box: process · stripe: APIs that call it · chip: batch size"
    right = PAGE - MARGIN
    canvas.text(MARGIN, TITLE_Y, "visiongraph", max_width=150, size=17, bold=True)
    canvas.text(right, TITLE_Y, summary, max_width=640, size=12, fill=MUTED, anchor="end")
    canvas.heading(MARGIN, HEADING_Y, "REST APIS", max_width=API_W)
    canvas.heading(GATEWAY_X, HEADING_Y, "GATEWAY", max_width=GATEWAY_W)
    canvas.heading(ROOMS_X, HEADING_Y, "STAGES", max_width=70)
    canvas.text(right, HEADING_Y, legend, max_width=right - ROOMS_X - 70, size=10.5, fill=MUTED, anchor="end")


def _draw_apis(canvas: _Canvas, graph: Graph, colors: dict[str, str], height: float) -> None:
    x, y = MARGIN + 16, TOP + (height - stacked(map(_api_height, graph.apis))) / 2
    for api in graph.apis:
        box, color = _api_height(api), colors[api.name]
        name, lines = _title_lines(api)
        canvas.line([(MARGIN + API_W, y + box / 2), (GATEWAY_X, y + box / 2)], color=color, width=2)
        canvas.rect(MARGIN, y, API_W, box)
        canvas.bar(MARGIN, y, box, color)
        canvas.text(x, y + 22, name, max_width=API_TEXT, size=13, bold=True)
        for number, line in enumerate(lines):
            canvas.text(x, y + 40 + 15 * number, line, max_width=API_TEXT, fill=MUTED)
        routes = f"{api.name} · {counted(api.routes, 'route')}"
        canvas.text(x, y + box - 11, routes, max_width=API_TEXT, fill=color, bold=True)
        y += box + GAP


def _draw_gateway(canvas: _Canvas, graph: Graph, height: float) -> None:
    x, y, inner = GATEWAY_X + GATEWAY_W / 2, TOP + height / 2 - 48, GATEWAY_W - 8
    gateway = graph.gateway
    canvas.rect(GATEWAY_X, TOP, GATEWAY_W, height, fill=NIGHT, stroke=NIGHT, radius=12)
    canvas.text(x, y, "gateway", max_width=inner, size=14, bold=True, fill="#ffffff", anchor="middle")
    canvas.text(x, y + 19, gateway.share, max_width=inner, fill=HAZE, anchor="middle")
    canvas.text(x, y + 34, gateway.count, max_width=inner, fill=HAZE, anchor="middle")
    for number, duty in enumerate(DUTIES):
        canvas.text(x, y + 62 + 15 * number, duty, max_width=inner, fill="#ffffff", anchor="middle")


def _api_height(api: Api) -> float:
    return 58 + 15 * len(_title_lines(api)[1])


def _title_lines(api: Api) -> tuple[str, list[str]]:
    """Return what comes before the colon of the title, and the lines of what comes after it."""
    name, _, text = api.title.partition(":")
    return name, wrap(text, API_TEXT, 11)


@dataclass(frozen=True)
class _Box:
    """A process and its place."""

    process: Process
    x: float
    y: float
    width: float


class _RoomsArea:
    """Rooms in columns, and lines to their processes; ``colors`` by API name, ``width`` wide from ``x`` on."""

    def __init__(self, rooms: Sequence[Room], colors: Mapping[str, str], x: float, width: float) -> None:
        self._colors, self._x = colors, x
        self._columns = in_columns(rooms)
        self._column_width = (width - GUTTER * (len(self._columns) - 1)) / len(self._columns)
        self._corridor = CORRIDOR if len(self._columns) > 1 else 0
        self.height = self._corridor + max(_column_height(column) for column in self._columns)
        inner = self._column_width - 2 * PAD - LEFT - RIGHT
        rows = [row for room in rooms for process in room.processes for row in process.stages]
        # All chips have the word, where every key leaves space for it, or none has.
        self._chip_word = "batch " if all(_row_width(row) <= inner for row in rows) else ""

    def draw(self, canvas: _Canvas, top: float, source_x: float) -> None:
        """Draw everything, with lines from ``source_x`` on."""
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

    def _draw_room(self, canvas: _Canvas, room: Room, x: float, y: float) -> list[_Box]:
        inner = self._column_width - 2 * PAD
        canvas.rect(x, y, self._column_width, _room_height(room), fill=FRAME, radius=12)
        canvas.text(x + PAD + 2, y + 20, room.name, max_width=inner, size=KEY, bold=True)
        boxes, y = [], y + HEAD
        for process in room.processes:
            boxes.append(_Box(process, x + PAD, y, inner))
            y += _process_height(process) + PAD
        return boxes

    def _way_to(self, box: _Box, top: float, source_x: float) -> list[tuple[float, float]]:
        """Return the line to a box: straight to the first column; over its top and down the gutter to another."""
        y = box.y + _process_height(box.process) / 2
        if box.x == self._x + PAD:
            return [(source_x, y), (box.x, y)]
        over, gutter = top + self._corridor / 2, box.x - PAD - GUTTER / 2
        return [(source_x, over), (gutter, over), (gutter, y), (box.x, y)]

    def _draw_process(self, canvas: _Canvas, box: _Box) -> None:
        process, inner = box.process, box.width - LEFT - RIGHT
        canvas.rect(box.x, box.y, box.width, _process_height(process))
        x, y = box.x + LEFT, box.y + 6
        if process.head:
            canvas.text(x, y + 12, f"{process.name} · {process.head}", max_width=inner, size=SMALL, fill=MUTED)
            y += PACK_HEAD
        for row in process.stages:
            self._draw_stage(canvas, row, x, y, inner)
            y += ROW
        share = text_width(process.share, SMALL)
        canvas.text(x, y + 12, process.share, max_width=share, size=SMALL, fill=MUTED)
        canvas.text(x + inner, y + 12, process.count, max_width=inner - share - 6, size=SMALL, fill=MUTED, anchor="end")

    def _draw_stage(self, canvas: _Canvas, row: StageRow, x: float, y: float, inner: float) -> None:
        part = (ROW - 6) / max(len(row.apis), 1)
        for number, api in enumerate(row.apis):
            strip = y + 3 + part * number
            canvas.rect(x - 7, strip, 3, part, fill=self._colors[api], stroke="none", radius=0, title=api)
        batch = f"{self._chip_word}{row.batch}"
        chip = text_width(batch, SMALL) + 8
        canvas.rect(x + inner - chip, y + 3, chip, 16, fill=CHIP, stroke="none", title=f"batch {row.batch}")
        canvas.text(x + inner - chip / 2, y + 14.5, batch, max_width=chip, size=SMALL, fill=MUTED, anchor="middle")
        inner -= chip + 4
        key = row.key
        if text_width(key, SMALLEST_KEY, bold=True) > inner:
            key = "…/" + key.partition("/")[2]
        canvas.text(x, y + 15, key, max_width=inner, size=KEY, bold=True, title=row.key)


def _column_height(rooms: Sequence[Room]) -> float:
    return stacked(map(_room_height, rooms))


def _room_height(room: Room) -> float:
    return HEAD + sum(_process_height(process) + PAD for process in room.processes)


def _process_height(process: Process) -> float:
    return 12 + (PACK_HEAD if process.head else 0) + ROW * len(process.stages) + FOOT


def _row_width(row: StageRow) -> float:
    return text_width(row.key, KEY, bold=True) + text_width(f"batch {row.batch}", SMALL) + 12


class _StoresStrip:
    """A card for each engine, with the stores in it and their users, ``width`` wide in all from ``x`` on."""

    def __init__(self, stores: Sequence[Store], x: float, width: float) -> None:
        self._x = x
        self._engines = [list(group) for _, group in groupby(stores, attrgetter("engine"))]
        columns = [min(len(engine), STORE_COLUMNS) for engine in self._engines]
        gaps = GAP * (len(columns) - 1) + 2 * CARD_PAD * len(columns) + CELL_GAP * (sum(columns) - len(columns))
        self._cell = (width - gaps) / sum(columns)
        self._widths = [count * (self._cell + CELL_GAP) - CELL_GAP + 2 * CARD_PAD for count in columns]
        self.height = ABOVE + max(map(self._engine_height, self._engines))

    def draw(self, canvas: _Canvas, top: float, gateway_x: float) -> None:
        """Draw everything from ``top`` on, and lines from the gateway, which ends there at ``gateway_x``."""
        y, bus = top + ABOVE, top + ABOVE - 20
        canvas.heading(self._x, bus - 6, "STORES", max_width=120)
        x = self._x
        for engine, width in zip(self._engines, self._widths, strict=True):
            if any(GATEWAY_USER in store.users for store in engine):
                middle = x + width / 2
                canvas.line([(gateway_x, top), (gateway_x, bus), (middle, bus), (middle, y)])
            self._draw_engine(canvas, engine, x, y, width)
            x += width + GAP

    def _draw_engine(self, canvas: _Canvas, engine: Sequence[Store], x: float, y: float, width: float) -> None:
        canvas.rect(x, y, width, self.height - ABOVE)
        canvas.cylinder(x + CARD_PAD, y + 11, 16, 21, EDGE)
        inner = width - 2 * CARD_PAD
        canvas.text(x + CARD_PAD + 25, y + 26, engine[0].engine, max_width=inner - 25, size=12.5, bold=True)
        canvas.text(x + CARD_PAD, y + 47, engine[0].backends, max_width=inner, size=SMALL, fill=MUTED)
        y += ENGINE_HEAD
        named = len(engine) > 1
        for row in _rows(engine):
            for column, store in enumerate(row):
                left = x + CARD_PAD + column * (self._cell + CELL_GAP)
                if named:
                    canvas.text(left, y + 11, store.name, max_width=self._cell, size=11, bold=True)
                self._draw_users(canvas, store, left, y + STORE_NAME * named)
            y += self._row_height(row, named=named)

    def _draw_users(self, canvas: _Canvas, store: Store, x: float, y: float) -> None:
        for users in self._lines(store):
            left = x
            for user in users:
                chip = self._chip(user)
                fill, stroke, ink = (NIGHT, NIGHT, "#ffffff") if user == GATEWAY_USER else (FRAME, LINE, INK)
                middle = left + chip / 2
                canvas.rect(left, y, chip, CHIP_HEIGHT, fill=fill, stroke=stroke)
                canvas.text(middle, y + 12.5, user, max_width=chip - 8, size=SMALL, fill=ink, anchor="middle")
                left += chip + CHIP_GAP
            y += CHIP_LINE

    def _engine_height(self, engine: Sequence[Store]) -> float:
        return ENGINE_HEAD + sum(self._row_height(row, named=len(engine) > 1) for row in _rows(engine)) + 4

    def _row_height(self, row: Sequence[Store], *, named: bool) -> float:
        return STORE_NAME * named + CHIP_LINE * max(len(self._lines(store)) for store in row) + 6

    def _lines(self, store: Store) -> list[list[str]]:
        """Return the users in lines that fit into a cell."""
        lines: list[list[str]] = []
        left = 0.0
        for user in store.users:
            if not lines or self._chip(user) > left:
                lines.append([])
                left = self._cell
            lines[-1].append(user)
            left -= self._chip(user) + CHIP_GAP
        return lines

    def _chip(self, user: str) -> float:
        return min(text_width(user, SMALL) + 12, self._cell)


def _rows(engine: Sequence[Store]) -> list[Sequence[Store]]:
    return [engine[start : start + STORE_COLUMNS] for start in range(0, len(engine), STORE_COLUMNS)]
