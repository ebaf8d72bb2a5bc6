"""What a gateway records of its requests: by templates of routes, whatever is asked for."""

import asyncio
import re

import pytest
from starlette.types import Message, Receive, Scope, Send

from graphs.web.metrics import CallMetrics, GatewayMetrics, record_exchange
from graphs.web.requests import RequestIds, Requests
from stores.errors import StoreError
from stores.sqlite.jobs import SqliteJobs
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import contracts_of, every_api
from tests.graphs.samples import picture
from tests.recorded import Recorded, recorded

__all__ = ["recorded"]


async def test_requests_are_named_by_their_routes(service: Service, recorded: Recorded) -> None:
    asset_id = await service.upload(picture(1))
    for method, path in (
        ("GET", f"/api/v1/media/{asset_id}"),
        ("GET", "/api/v1/media/unknown"),
        ("HEAD", f"/api/v1/media/{asset_id}/content"),
        ("GET", "/livez"),
        ("BREW", "/api/v1/config"),
    ):
        await service.client.request(method, path)
    seen = recorded.of("requests")
    assert {tuple(dict(labels).values()) for labels in seen} == {
        # api, method, route, status
        ("assets", "POST", "/api/v1/upload-media", "200"),
        ("assets", "GET", "/api/v1/media/{asset_id}", "200"),
        ("assets", "GET", "/api/v1/media/{asset_id}", "404"),
        ("assets", "HEAD", "/api/v1/media/{asset_id}/content", "200"),
        ("service", "GET", "/livez", "200"),
        ("assets", "OTHER", "other", "405"),
    }
    assert set(seen.values()) == {1}
    size = len(picture(1))
    assert size < recorded.total("request_bytes", api="assets") < size + 1000
    assert len(recorded.values("request_latency_ms", api="service", route="/livez", method="GET")) == 1


@pytest.mark.parametrize("path", ["/wp-login.php", "/api/v1/no-route", "/v1/{x}", "/" + "a" * 5000, "/livez/x"])
async def test_no_path_makes_a_label(service: Service, recorded: Recorded, path: str) -> None:
    for number in range(3):
        await service.client.get(f"{path}{number}", params={"q": number})
    assert {dict(labels)["route"] for labels in recorded.of("requests")} == {"other"}
    assert recorded.total("requests", status="404") == 3


async def test_all_routes_together_make_a_bounded_number_of_series(
    settings_for: MakeSettings, recorded: Recorded
) -> None:
    async with every_api(settings_for()) as service:
        contracts = await contracts_of(service.context.settings)
        for path, operations in service.app.openapi()["paths"].items():
            for method in operations:
                filled = re.sub(r"\{\w+\}", "x1", path)
                await service.client.request(method, filled)
                route = contracts.at(method.upper(), path).route or path
                assert recorded.total("requests", route=route, method=method.upper()) >= 1, path
    assert "other" not in {dict(labels)["route"] for labels in recorded.of("requests")}
    assert "x1" not in str(recorded.of("requests"))


async def test_a_slow_client_makes_no_slow_answer(recorded: Recorded, settings_for: MakeSettings) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"12345"})

    parts = [{"type": "http.request", "body": b"abc", "more_body": more} for more in (True, True, False)]

    async def receive() -> Message:
        await asyncio.sleep(0.2)
        return parts.pop(0)

    async def send(_: Message) -> None: ...

    requests = Requests(app, await contracts_of(settings_for()), [record_exchange])
    await RequestIds(requests)({"type": "http", "method": "POST", "path": "/animals", "headers": []}, receive, send)
    (latency,) = recorded.values("request_latency_ms", api="muzzle", route="/animals", method="POST")
    assert 49 <= latency < 190
    assert recorded.values("request_bytes", api="muzzle") == [9]
    assert recorded.values("response_bytes", api="muzzle") == [5]
    assert recorded.total("requests", status="201") == 1


async def test_a_client_that_leaves_before_the_answer_has_a_status_of_its_own(
    recorded: Recorded, settings_for: MakeSettings
) -> None:
    entered = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await asyncio.Event().wait()

    async def nothing(*_: object) -> Message:
        return {"type": "http.disconnect"}

    requests = Requests(app, await contracts_of(settings_for()), [record_exchange])
    scope = {"type": "http", "method": "GET", "path": "/animals/x", "headers": []}
    task = asyncio.create_task(RequestIds(requests)(scope, nothing, nothing))  # type: ignore[arg-type]
    await entered.wait()
    assert requests.in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert requests.in_flight == 0
    assert recorded.total("requests", status="499", route="/animals/{animal_id}") == 1
    assert recorded.of("request_latency_ms") == {}


async def test_a_429_says_whether_it_is_the_clients_rate_or_the_service(
    settings_for: MakeSettings, serve: Serve, recorded: Recorded
) -> None:
    async with serve(settings_for(rate_limit_enabled="true", rate_limit_per_minute=2, rate_limit_burst=2)) as service:
        for _ in range(3):
            await service.client.post("/v1/cluster", json={})
        assert recorded.of("requests_refused") == {(("api", "photos"), ("reason", "rate")): 1}
    assert recorded.total("requests_refused", reason="overload") == 0


async def test_a_full_queue_of_a_stage_is_counted_by_its_name(service: Service, recorded: Recorded) -> None:
    asset_id = await service.upload(picture(2))
    handle = service.context.stages["embed/dinov3"]
    handle._max_pending = 0
    others = sum(each.refused for key, each in service.context.stages.items() if key != "embed/dinov3")
    answer = await service.try_post("extract-features", asset_id=asset_id)
    assert answer.status_code == 429
    await CallMetrics(service.context.stages).publish()
    assert recorded.total("stage_refused", stage="embed/dinov3") == 1
    assert recorded.total("stage_refused") == 1 + others  # other tests share the handles
    assert recorded.total("requests_refused", reason="overload", api="assets") == 1
    assert recorded.values("stage_waiting", stage="embed/dinov3") == [0]


async def test_gauges_of_a_gateway(service: Service, recorded: Recorded) -> None:
    asset_id = await service.upload(picture(3))
    for _ in range(4):
        await service.post("extract-features", asset_id=asset_id)
    await service.context.jobs.submit("index-video", asset_id, "1", {})
    gauges = GatewayMetrics(service.context)
    await gauges.publish()
    assert recorded.total("cache_lookups", cache="features", result="miss") == 1
    assert recorded.total("cache_lookups", cache="features", result="store") == 3
    assert recorded.values("jobs", kind="index-video", status="queued") == [1]
    assert recorded.values("jobs", kind="index-video", status="running") == [0]
    (waited,) = recorded.values("jobs_oldest_queued_seconds", kind="index-video")
    assert 0 <= waited < 30
    for disk in ("documents", "objects", "vectors", "spool"):
        (free,), (size,) = (recorded.values(f"disk_{what}_bytes", disk=disk) for what in ("free", "size"))
        assert 0 < free < size
    job = await service.context.jobs.claim("worker", ["index-video"], 60)
    assert job is not None
    await service.context.jobs.succeed(job.job_id, "worker", {})
    await gauges.publish()
    assert recorded.values("jobs", kind="index-video", status="queued") == [1, 0]
    assert recorded.values("jobs_oldest_queued_seconds", kind="index-video")[-1] == 0


async def test_gauges_are_set_where_the_store_of_jobs_is_away(
    service: Service, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreError("away")

    monkeypatch.setattr(SqliteJobs, "count", away)
    await GatewayMetrics(service.context).publish()
    assert recorded.of("jobs") == {}
    assert recorded.total("store_errors", store="jobs", operation="count", error="StoreError") == 1
    assert recorded.of("disk_free_bytes")
