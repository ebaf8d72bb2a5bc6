"""Draw the graph for a terminal."""

from rich.align import Align
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ops.diagram.model import Graph, Process, Room, StageRow, api_colors, counted
from ops.diagram.svg import in_columns

DOT = "●"


def draw_text(graph: Graph) -> RenderableType:
    """Return the APIs, the gateway below them, the rooms below that, and the stores."""
    colors = api_colors(graph)
    gateway = Text.assemble(("gateway", "bold"), f"  {graph.gateway.share}  {graph.gateway.count}")
    return Group(
        Text(f"{graph.source}, dots: the APIs that call a stage", "dim"),
        _apis(graph, colors),
        _arrow(),
        Align.center(Panel(gateway, expand=False, padding=(0, 3))),
        _arrow(),
        _rooms(graph, colors),
        _stores(graph),
    )


def _apis(graph: Graph, colors: dict[str, str]) -> Panel:
    table = Table.grid(padding=(0, 2))
    for api in graph.apis:
        name = Text.assemble((DOT, colors[api.name]), " ", (api.name, "bold"))
        table.add_row(name, api.title, Text(counted(api.routes, "route"), "dim"))
    return Panel(table, title="REST APIs", title_align="left")


def _rooms(graph: Graph, colors: dict[str, str]) -> Table:
    columns = in_columns(graph.rooms)
    table = Table.grid(padding=(0, 1), expand=True)
    for _ in columns:
        table.add_column(ratio=1)
    table.add_row(*(Group(*(_room(room, colors) for room in column)) for column in columns))
    return table


def _room(room: Room, colors: dict[str, str]) -> Panel:
    lines = [line for process in room.processes for line in _process(process, colors)]
    return Panel(Group(*lines), title=room.name, title_align="left")


def _process(process: Process, colors: dict[str, str]) -> list[Text]:
    rows = [_stage(row, colors) for row in process.stages]
    share = Text(f"{process.share}  {process.count}", "dim")
    if process.head:
        rows.insert(0, Text.assemble((process.name, "cyan"), (f" {process.head}", "dim")))
    return [*rows, Text.assemble("  ", share)]


def _stage(row: StageRow, colors: dict[str, str]) -> Text:
    dots = [(DOT, colors[api]) for api in row.apis]
    return Text.assemble((row.key, "bold"), (f"  batch {row.batch}  ", "dim"), *dots)


def _stores(graph: Graph) -> Panel:
    table = Table.grid(padding=(0, 2))
    for store in graph.stores:
        table.add_row(Text(store.name, "bold"), store.backends, Text(", ".join(store.users), "dim"))
    return Panel(table, title="stores and their users", title_align="left")


def _arrow() -> Align:
    return Align.center(Text("│\n▼", "dim"))
