"""A real browser, and the service on a socket with dummy models that it looks at."""

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from configs import settings as settings_module
from deployments.serving.catalog import AnyStage
from deployments.serving.handle import StageHandle
from graphs.web.api import find_apis
from tests.dummies import LocalNearest
from tests.dummies.muzzle import DummyMuzzle, DummyPrint, LocalGallery
from tests.dummies.video import DummyVideoFaces
from tests.graphs.harness import configured, handles, listening, serving
from tests.graphs.indexing import DUMMIES, REAL, IndexService
from tests.waiting import PATIENCE_S
from vision.errors import StageUnavailable

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REFUSED = "Failed to load resource: the server responded with a status of"
"""What Chromium says of an answer that is an error; the page shows it."""

MEASURES = (
    *("quality/blur", "quality/exposure", "quality/composition", "quality/maps"),
    *("analysis/clusters", "analysis/anomalies"),
)
"""Stages without weights."""


@dataclass
class Watched:
    """What a page did that it must not do."""

    origin: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def said(self, message: ConsoleMessage) -> None:
        """Keep what the console says of an error."""
        if message.type in ("error", "warning") and not message.text.startswith(REFUSED):
            self.errors.append(message.text)

    def asked(self, request: Request) -> None:
        """Keep what is loaded from another host."""
        if not request.url.startswith((self.origin, "blob:", "data:")):
            self.elsewhere.append(request.url)

    def check(self) -> None:
        """Fail if there was anything."""
        assert (self.errors, self.elsewhere, self.dialogs) == ([], [], [])


@dataclass
class Visit:
    """A page of the console and the service behind it."""

    page: Page
    service: IndexService
    url: str
    watched: Watched

    async def open(self, view: str) -> None:
        """Go to a view and wait for its heading."""
        await self.page.goto(f"{self.url}/console#/{view}")
        await self.page.wait_for_selector("h1")


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no chromium here; Debian's package is chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def chosen(visit: Visit, tmp_path: Path, *files: tuple[str, bytes], place: str = ".drop input >> nth=0") -> None:
    """Choose files as somebody would, in a file dialog."""
    folder = tmp_path / "chosen"
    folder.mkdir(exist_ok=True)
    for name, data in files:
        (folder / name).write_bytes(data)
    await visit.page.locator(place).set_input_files([folder / name for name, _ in files])


async def until_film_is_at(page: Page, seconds: float, within: float = 0.05) -> None:
    """Wait until the film on the page is at a time."""
    there = "([at, within]) => Math.abs(document.querySelector('video').currentTime - at) <= within"
    await page.wait_for_function(there, arg=[seconds, within])


async def accessible(visit: Visit) -> None:
    """Fail where a rule of accessibility is broken."""
    report = await Axe().run(visit.page)
    found = [(each["id"], each["nodes"][0]["html"][:200]) for each in report.response["violations"]]
    assert not found, found


Visiting = Callable[..., AbstractAsyncContextManager[Visit]]


@pytest.fixture
async def visiting(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Visiting]:
    """Makes a visit to a service with these settings and ``more`` stages, in a window of this size."""

    @asynccontextmanager
    async def visit(
        size: tuple[int, int] = (1360, 900), *, more: Sequence[AnyStage] = (), **values: object
    ) -> AsyncIterator[Visit]:
        async def unused(*_: object) -> object:
            raise StageUnavailable("not here")

        async def info() -> dict[str, object]:
            return {"loaded": True}

        config = configured(monkeypatch, tmp_path, allowed_hosts="", **values)
        keys = {key for api in find_apis().values() for key in api.stage_keys}
        muzzles = DummyMuzzle, DummyPrint, LocalGallery
        async with handles(*REAL, *MEASURES, *DUMMIES, LocalNearest, *muzzles, *more) as known:
            stages = {key: known.get(key) or StageHandle(key, unused, info) for key in keys}
            async with (
                serving(IndexService, config, list(find_apis()), stages, faces=DummyVideoFaces.running) as service,
                service.working(),
                listening(service.app) as port,
            ):
                url = f"http://127.0.0.1:{port}"
                context = await browser.new_context(viewport={"width": size[0], "height": size[1]})
                page, watched = await context.new_page(), Watched(url)
                page.set_default_timeout(1000 * PATIENCE_S)
                expect.set_options(timeout=1000 * PATIENCE_S)
                page.on("console", watched.said)
                page.on("pageerror", lambda error: watched.errors.append(str(error)))
                page.on("request", watched.asked)
                page.on("dialog", lambda dialog: watched.dialogs.append(dialog.message))
                try:
                    yield Visit(page, service, url, watched)
                finally:
                    await context.close()

    yield visit
    settings_module.settings.cache_clear()
