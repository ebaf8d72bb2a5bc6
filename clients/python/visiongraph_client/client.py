"""The client that blocks. ``AsyncClient``, its counterpart for asyncio, is made of this file by generate.py."""

import time
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import httpx

from visiongraph_client import connections, downloads, flows, models, transfers
from visiongraph_client.downloads import Receive
from visiongraph_client.flows import OnJob
from visiongraph_client.protocol import Call, Flow, Found, Pause, Retries, Work, ask
from visiongraph_client.sync_api import Routes
from visiongraph_client.transfers import OnProgress, Stored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class Client(Routes):
    """A service at ``url``; every route is a method of ``assets``, ``media``, ``shots``, ``photos`` and so on.

    ``key`` is an API key or a token; without one it is that of the variable VISIONGRAPH_KEY, if set. ``timeout`` is in
    seconds, or an ``httpx.Timeout``. Requests are tried again as ``retries`` says.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float | httpx.Timeout = connections.TIMEOUT,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(self)
        self.retries = retries or Retries()
        self._http = httpx.Client(**connections.options(url, key, timeout), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, call: Call[T]) -> T:
        """Send a request and return its answer; the methods of routes do this. Raises VisiongraphError."""
        return self._run(ask(call, self.retries))

    def upload(
        self,
        path: Path | str,
        *,
        filename: str | None = None,
        label: str | None = None,
        on_progress: OnProgress | None = None,
        unfinished: MutableMapping[str, str] | None = None,
    ) -> Stored:
        """Upload a file of any size: nothing is sent that the service has, also after the connection broke.

        ``unfinished`` keeps the ids of unfinished uploads by hash, so that a later call goes on with them. Raises
        UploadInterrupted when it was tried again in vain.
        """
        return self._run(
            transfers.upload(
                Path(path),
                self.retries,
                filename=filename,
                label=label,
                on_progress=on_progress,
                unfinished=unfinished,
            )
        )

    def index(self, file_uuid: str) -> models.IndexAccepted:
        """Begin to index the people and shots of a video; ``wait`` for its ``job_id``."""
        return self.media.index(file_uuid)

    def wait(
        self, job_id: str, *, timeout_s: float | None = None, on_progress: OnJob | None = None
    ) -> models.JobAnswer:
        """Return a job once it has succeeded. Raises JobFailed and WaitTimeout."""
        return self._run(flows.wait(job_id, self.retries, timeout_s, on_progress))

    def iter_jobs(
        self, *, status: str | None = None, kind: str | None = None, subject: str | None = None
    ) -> Iterator[models.JobAnswer]:
        """Yield all jobs, latest first, or those of a status, a kind or a subject, such as a video."""
        yield from self._found(flows.jobs(self.retries, {"status": status, "kind": kind, "subject": subject}))

    def iter_assets(
        self, *, kind: Literal["image", "video", "audio"] | None = None, name: str | None = None
    ) -> Iterator[models.LibraryAsset]:
        """Yield all assets, newest first, or those of a kind, or with this text in their name."""
        yield from self._found(flows.assets(self.retries, {"kind": kind, "name": name}))

    def iter_identities(self) -> Iterator[models.IdentityModel]:
        """Yield everybody who is known."""
        yield from self._found(flows.identities(self.retries))

    def iter_traces(self, file_uuid: str) -> Iterator[models.Trace]:
        """Yield the traces of a video."""
        yield from self._found(flows.traces(self.retries, file_uuid))

    def iter_shots(
        self,
        *,
        movement_type: str | None = None,
        emotional_tone: str | None = None,
        genre: str | None = None,
        tags: str | None = None,
    ) -> Iterator[models.StoredShot]:
        """Yield the shots of the library, or those that fit; ``tags`` are separated by commas."""
        filters = {"movement_type": movement_type, "emotional_tone": emotional_tone, "genre": genre, "tags": tags}
        yield from self._found(flows.shots(self.retries, filters))

    def download(self, path: str, to: Path | str, **query: Any) -> int:
        """Save what a route sends, such as ``/api/v1/file/{id}/video``, and return its number of bytes.

        The file has its name once it is whole. A connection that breaks costs no byte twice where the route names the
        version of its file, as it does for all that is stored: this call goes on after the last byte, and so does a
        later one with what is in ``NAME.part``. What is made while it is sent begins anew.
        """
        return self._run(downloads.download(path, Path(to), query, self.retries))

    def features(self, asset_ids: Sequence[str]) -> "NDArray[np.float32]":
        """Return the features of assets as float32[n, d], in their order; needs numpy."""
        import numpy as np

        answers = [self.assets.extract_features(asset_id=asset_id) for asset_id in asset_ids]
        return np.asarray([answer.features for answer in answers], np.float32)

    def _run(self, flow: Flow[T]) -> T:
        """Do what a flow yields until it returns."""
        with connections.understood():
            answer: Any = None
            failure: BaseException | None = None
            while True:
                try:
                    step = flow.send(answer) if failure is None else flow.throw(failure)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                answer = failure = None
                try:
                    answer = self._do(step)
                except httpx.TransportError as error:
                    failure = error

    def _found(self, flow: Flow[None]) -> Iterator[Any]:
        """Yield what a flow finds, as far as somebody asks for it."""
        answer: Any = None
        failure: BaseException | None = None
        while True:
            try:
                step = flow.send(answer) if failure is None else flow.throw(failure)
            except StopIteration:
                return
            answer = failure = None
            if isinstance(step, Found):
                yield from step.items
                continue
            try:
                answer = self._do(step)
            except httpx.TransportError as error:
                failure = error

    def _do(self, step: Any) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.function()
        if isinstance(step, Receive):
            return self._receive(step)
        return self._http.request(**step.arguments(), content=connections.content(step))

    def _receive(self, step: Receive) -> httpx.Response:
        with step.part, self._http.stream(**step.call.arguments()) as response:
            if step.part.takes(response):
                for chunk in response.iter_bytes():
                    step.part.add(chunk)
            else:
                response.read()
        return response
