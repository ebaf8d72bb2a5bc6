"""The pictures: true to code and configuration, legible at five APIs, and the ones in docs up to date."""

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest
import typer
from PIL import Image, ImageFont
from rich.console import Console
from typer.testing import CliRunner

from deployments.serving.catalog import find_stage
from graphs.web.api import find_apis
from ops.cli.graph import graph as graph_command
from ops.diagram import Graph, draw_svg, draw_text, load_graph, render_png
from ops.diagram.model import STORES, Api, Process, Room, StageRow, Store
from ops.diagram.svg import fit, text_width, wrap
from ops.plan.choice import CONFIGS, ROOT
from stores.open import Stores

SVG = "{http://www.w3.org/2000/svg}"
ROOMS = {
    "embed": ["dinov3", "clip"],
    "quality": ["aesthetics", "technical"],
    "people": ["faces", "identity", "pose", "scenes"],
    "shots": ["cuts"],
    "forensics": ["frequency_artifacts", "noise_residual", "face_swap_detector", "lip_sync"],
    "muzzle": ["detector", "embedding", "verifier"],
    "language": ["speech", "captions"],
    "analysis": ["nearest", "clusters", "anomalies"],
    "media": ["frames", "clips"],
    "fusion": ["a_stage_with_a_name_that_nobody_would_ever_want_to_write"],
}


def large_graph() -> Graph:
    names = ["assets", "photos", "muzzle", "authenticity", "media"]
    title = "Authenticity: deepfake verdicts on pictures, video and voices, incomprehensibilities included"

    def process(room: str, name: str, number: int) -> Process:
        row = StageRow(f"{room}/{name}", 128, tuple(names[: number % 6]))
        return Process(name, (row,), 0.5, 0.125, "0-16")

    rooms = tuple(
        Room(room, tuple(process(room, stage, number) for number, stage in enumerate(stages, len(room))))
        for room, stages in ROOMS.items()
    )
    keys = tuple(f"{room}/{stage}" for room, stages in ROOMS.items() for stage in stages)
    return Graph(
        "serve_config.yaml",
        tuple(Api(name, title, 100 + len(name), keys) for name in names),
        Process("gateway", (), 1, 0, "2-16"),
        rooms,
        tuple(Store(name, *engine, ("gateway", "worker", *keys[:9])) for name, engine in STORES.items()),
    )


@pytest.fixture(params=["production", "laptop", "large"])
def graph(request: pytest.FixtureRequest) -> Graph:
    if request.param == "large":
        return large_graph()
    return load_graph(CONFIGS[0 if request.param == "production" else -1])


def test_the_picture_in_docs_is_up_to_date() -> None:
    drawn = draw_svg(load_graph(CONFIGS[0]))
    assert (ROOT / "docs" / "graph.svg").read_text() == drawn, (
        "run `visiongraph graph --output docs/graph.svg`, then the same for docs/graph.png "
        "and, with --config configs/laptop.yaml, for docs/graph-laptop.png"
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_api_and_every_stage_is_in_the_picture(path: Path) -> None:
    loaded = load_graph(path)
    svg = draw_svg(loaded)
    assert loaded.apis
    for api in loaded.apis:
        assert f"{api.name} · {api.routes} route" in svg
        for key in find_apis()[api.name].stage_keys:
            assert f">{key}<" in svg


def test_what_is_read_from_the_code() -> None:
    production, laptop = map(load_graph, (CONFIGS[0], CONFIGS[-1]))
    [assets] = [api for api in production.apis if api.name == "assets"]
    assert (assets.title, assets.stages) == (find_apis()["assets"].title, find_apis()["assets"].stage_keys)
    assert assets.routes > 10
    rows = {row.key: row for room in laptop.rooms for process in room.processes for row in process.stages}
    assert rows["analysis/clusters"].batch == find_stage("analysis/clusters").config_class().max_batch_size
    assert any("in one process" in process.head for room in laptop.rooms for process in room.processes)
    [worker] = [process for room in production.rooms for process in room.processes if process.jobs is not None]
    assert (worker.name, worker.stages, worker.called) == ("worker", (), False)
    assert worker.head.startswith("durable jobs")
    assert replace(worker, jobs=("index-video", "index-sound")).head == "durable jobs: index-video, index-sound"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_store_is_in_the_picture_with_its_users(path: Path) -> None:
    loaded = load_graph(path)
    assert {store.name for store in loaded.stores} == {
        name for name, value in vars(Stores).items() if isinstance(value, cached_property) and name[0] != "_"
    }
    users = {store.name: set(store.users) for store in loaded.stores}
    assert users.pop("objects") == {"gateway", "worker", "embed/dinov3", "quality/maps", "media/frames", "media/clips"}
    assert users.pop("documents") == {"gateway", "worker", "analysis/nearest"}
    assert users.pop("animals") == {"gateway", "worker", "muzzle/gallery"}
    assert users.pop("vectors") == {"analysis/nearest", "muzzle/gallery"}
    assert all(of_store == {"gateway", "worker"} for of_store in users.values())
    svg = draw_svg(loaded)
    shown = {store.name if store.engine == "database" else store.engine for store in loaded.stores}
    assert all(f">{name}<" in svg for name in [*shown, *(store.backends for store in loaded.stores)])


def test_texts_stay_in_their_boxes_and_boxes_on_the_page(graph: Graph) -> None:
    root = ET.fromstring(draw_svg(graph))
    page_width, page_height = float(root.attrib["width"]), float(root.attrib["height"])
    assert page_width == 900
    boxes = [
        (float(r.attrib["x"]), float(r.attrib["y"]), float(r.attrib["width"]), float(r.attrib["height"]))
        for r in root.iter(f"{SVG}rect")
    ]
    for x, y, w, h in boxes:
        assert 0 <= x <= x + w <= page_width
        assert 0 <= y <= y + h <= page_height
    for text in root.iter(f"{SVG}text"):
        x, y, words = float(text.attrib["x"]), float(text.attrib["y"]), text.text or ""
        size = float(text.attrib["font-size"])
        assert size >= 9.5
        long = text_width(words, size, bold="font-weight" in text.attrib)
        left = x - long * {"start": 0, "middle": 0.5, "end": 1}[text.attrib.get("text-anchor", "start")]
        around = [box for box in boxes if box[0] <= x <= box[0] + box[2] and box[1] < y < box[1] + box[3]]
        bx, _, bw, _ = min(around, key=lambda box: box[2] * box[3])
        assert bx <= left + 0.01, words
        assert left + long <= bx + bw + 0.01, words


def test_a_shortened_name_keeps_the_whole_one_at_hand() -> None:
    svg = draw_svg(large_graph())
    assert "<title>fusion/a_stage_with_a_name_that_nobody_would_ever_want_to_write</title>" in svg
    assert ">…/a_stage_with" in svg


@pytest.mark.parametrize("rooms", [0, 1, 2, 10])
def test_a_line_to_every_box(rooms: int) -> None:
    graph = replace(large_graph(), rooms=large_graph().rooms[:rooms])
    called = [process for room in graph.rooms for process in room.processes if process.called]
    assert draw_svg(graph).count("<polygon") == len(graph.apis) + len(called) + len(
        {store.engine for store in graph.stores}
    )


def test_text_for_a_terminal(graph: Graph) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(draw_text(graph))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    short = re.sub(r"\s", "", text)
    for room in graph.rooms:
        assert room.name in short
    for api in graph.apis:
        assert f"{api.routes} routes" in text


@pytest.mark.parametrize("system_fonts", [True, False])
def test_png_has_text_even_without_fonts(system_fonts: bool) -> None:
    svg = draw_svg(load_graph(CONFIGS[0]))
    png = render_png(svg, system_fonts=system_fonts)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width == 1800
    assert png != render_png(re.sub("<text.*</text>", "", svg), system_fonts=system_fonts)


@pytest.mark.parametrize(("name", "bold"), [("DejaVuSans.ttf", False), ("DejaVuSans-Bold.ttf", True)])
def test_widths_are_upper_bounds(name: str, bold: bool) -> None:
    try:
        font = ImageFont.truetype(name, 100)
    except OSError:
        pytest.skip(f"{name} is not installed")
    for char in map(chr, range(32, 127)):
        assert font.getlength(char) <= text_width(char, 100, bold=bold), char


def test_fit_and_wrap() -> None:
    assert fit("short", 100, 12) == ("short", 12)
    shown, size = fit("a text that is much too long for this", 60, 12)
    assert size == 9.5
    assert shown.endswith("…")
    assert text_width(shown, size) <= 60
    assert fit("x", 1, 12)[0] == ""
    assert wrap("one two three", text_width("one two", 11), 11) == ["one two", "three"]


@pytest.fixture
def cli() -> typer.Typer:
    app = typer.Typer()
    app.command()(graph_command)
    return app


def test_command_line(cli: typer.Typer, tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert "analysis/nearest" in run(cli, []).output
    assert run(cli, ["--output", str(tmp_path / "g.svg")]).exit_code == 0
    assert (tmp_path / "g.svg").read_text().startswith("<svg")
    laptop = ["--config", str(CONFIGS[-1]), "--output", str(tmp_path / "g.png")]
    assert run(cli, laptop).exit_code == 0
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "text",
    ["applications: []", "just words", "applications: [{import_path: 'graphs.web.gateway:gateway'}]", "a: ["],
)
def test_a_file_that_cannot_be_drawn(cli: typer.Typer, tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"cannot be drawn \(.*\); see `visiongraph check"):
        load_graph(path)
    assert CliRunner().invoke(cli, ["--config", str(path)]).exit_code == 1
    assert CliRunner().invoke(cli, ["--config", str(tmp_path / "absent.yaml")]).exit_code == 1
    assert CliRunner().invoke(cli, ["--output", "graph.jpg"]).exit_code == 2
