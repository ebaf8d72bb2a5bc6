"""visiongraph graph: draw the graph from the code and a configuration."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ops.check import CONFIGS
from ops.diagram import draw_svg, draw_text, load_graph, render_png


def graph(
    config: Annotated[Path, typer.Option(help="Serve configuration to draw.")] = CONFIGS[0],
    output: Annotated[Path | None, typer.Option(help="File to write, .svg or .png; default: the terminal.")] = None,
) -> None:
    """Draw the APIs, the gateway, the stages in their processes, and the stores."""
    if output is not None and output.suffix not in (".svg", ".png"):
        raise typer.BadParameter(f"{output.name} must end with .svg or .png")
    try:
        drawn = load_graph(config)
    except (OSError, ValueError) as error:
        Console(stderr=True).print(Text(str(error), "red"), soft_wrap=True)
        raise typer.Exit(1) from None
    if output is None:
        Console().print(draw_text(drawn))
    elif output.suffix == ".svg":
        output.write_text(draw_svg(drawn), encoding="utf-8")
    else:
        output.write_bytes(render_png(draw_svg(drawn)))
