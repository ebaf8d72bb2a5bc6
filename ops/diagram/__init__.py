"""Draw the graph that a Serve configuration deploys: SVG, PNG, and text for a terminal."""

from ops.diagram.model import Graph, load_graph
from ops.diagram.svg import draw_svg, render_png
from ops.diagram.text import draw_text

__all__ = ["Graph", "draw_svg", "draw_text", "load_graph", "render_png"]
