"""Lays the graph out: APIs on the left, the gateway, the rooms on the right, the stores below."""

from ops.diagram.canvas import GAP, HAZE, MUTED, NIGHT, SHEET, Canvas
from ops.diagram.measure import wrap
from ops.diagram.model import Api, Graph, api_colors, counted
from ops.diagram.rooms import RoomsArea, stacked
from ops.diagram.stores import StoresStrip

PAGE, MARGIN = 900, 20
API_W, API_TEXT = 172, 146
GATEWAY_X, GATEWAY_W = 224, 104
ROOMS_X = 362
TITLE_Y, HEADING_Y, TOP = 36, 70, 84
SMALLEST_GATEWAY = 170
DUTIES = ("429 when full", "body cap", "deadline", "errors to HTTP")


def draw_svg(graph: Graph) -> str:
    """The picture as an SVG document, 900 pixels wide."""
    colors = api_colors(graph)
    rooms = RoomsArea(graph.rooms, colors, ROOMS_X, PAGE - MARGIN - ROOMS_X)
    stores = StoresStrip(graph.stores, MARGIN, PAGE - 2 * MARGIN)
    height = max(rooms.height, stacked(map(_api_height, graph.apis)), SMALLEST_GATEWAY)
    bottom = TOP + height + stores.height + MARGIN

    canvas = Canvas(PAGE)
    canvas.rect(0.5, 0.5, PAGE - 1, bottom - 1, fill=SHEET, radius=14)
    _draw_titles(canvas, graph)
    # From inside the gateway, whose corners are round; it is drawn over the lines.
    rooms.draw(canvas, TOP, GATEWAY_X + GATEWAY_W - 12)
    stores.draw(canvas, TOP + height, GATEWAY_X + GATEWAY_W / 2)
    _draw_apis(canvas, graph, colors, height)
    _draw_gateway(canvas, graph, height)
    return canvas.svg(bottom, f"The graph that {graph.source} deploys")


def _draw_titles(canvas: Canvas, graph: Graph) -> None:
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
    canvas.text(MARGIN, TITLE_Y, "visiongraph", room=150, size=17, bold=True)
    canvas.text(right, TITLE_Y, summary, room=640, size=12, fill=MUTED, anchor="end")
    canvas.heading(MARGIN, HEADING_Y, "REST APIS", room=API_W)
    canvas.heading(GATEWAY_X, HEADING_Y, "GATEWAY", room=GATEWAY_W)
    canvas.heading(ROOMS_X, HEADING_Y, "STAGES", room=70)
    canvas.text(right, HEADING_Y, legend, room=right - ROOMS_X - 70, size=10.5, fill=MUTED, anchor="end")


def _draw_apis(canvas: Canvas, graph: Graph, colors: dict[str, str], height: float) -> None:
    x, y = MARGIN + 16, TOP + (height - stacked(map(_api_height, graph.apis))) / 2
    for api in graph.apis:
        box, color = _api_height(api), colors[api.name]
        name, lines = _words(api)
        canvas.line([(MARGIN + API_W, y + box / 2), (GATEWAY_X, y + box / 2)], color=color, width=2)
        canvas.rect(MARGIN, y, API_W, box)
        canvas.bar(MARGIN, y, box, color)
        canvas.text(x, y + 22, name, room=API_TEXT, size=13, bold=True)
        for number, line in enumerate(lines):
            canvas.text(x, y + 40 + 15 * number, line, room=API_TEXT, fill=MUTED)
        routes = f"{api.name} · {counted(api.routes, 'route')}"
        canvas.text(x, y + box - 11, routes, room=API_TEXT, fill=color, bold=True)
        y += box + GAP


def _draw_gateway(canvas: Canvas, graph: Graph, height: float) -> None:
    x, y, room = GATEWAY_X + GATEWAY_W / 2, TOP + height / 2 - 48, GATEWAY_W - 8
    gateway = graph.gateway
    canvas.rect(GATEWAY_X, TOP, GATEWAY_W, height, fill=NIGHT, stroke=NIGHT, radius=12)
    canvas.text(x, y, "gateway", room=room, size=14, bold=True, fill="#ffffff", anchor="middle")
    canvas.text(x, y + 19, gateway.share, room=room, fill=HAZE, anchor="middle")
    canvas.text(x, y + 34, gateway.count, room=room, fill=HAZE, anchor="middle")
    for number, duty in enumerate(DUTIES):
        canvas.text(x, y + 62 + 15 * number, duty, room=room, fill="#ffffff", anchor="middle")


def _api_height(api: Api) -> float:
    return 58 + 15 * len(_words(api)[1])


def _words(api: Api) -> tuple[str, list[str]]:
    """What stands before the colon of the title, and the lines of what stands behind it."""
    name, _, text = api.title.partition(":")
    return name, wrap(text, API_TEXT, 11)
