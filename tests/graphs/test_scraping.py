"""GET /metrics: the pages of the agents of all nodes as one, and nothing of what is not this service's."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from wsgiref.simple_server import WSGIServer

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from graphs.web import scraping
from graphs.web.scraping import scraped
from ops.cluster import free_port
from tests.graphs.conftest import Service
from tests.graphs.samples import error_of
from tests.graphs.test_keys import make_key


@contextmanager
def agent(requests: int, *latencies: float) -> Iterator[str]:
    """A page such as an agent has, with metrics of its own beside those of the service."""
    registry = CollectorRegistry()
    Counter("ray_visiongraph_requests", "Requests.", ["api"], registry=registry).labels('as\n"sets').inc(requests)
    Counter("ray_object_store_bytes", "Of Ray.", registry=registry).inc(5)
    latency = Histogram("ray_visiongraph_request_latency_ms", "Time.", buckets=(1, 10), registry=registry)
    for each in latencies:
        latency.observe(each)
    port = free_port(0)
    server: WSGIServer
    thread: Thread
    server, thread = start_http_server(port, "127.0.0.1", registry)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def samples(page: bytes) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name + str(sample.labels.get("le", "")), []).append(sample.value)
    return found


async def test_the_pages_of_all_nodes_are_one_and_one_that_is_away_is_told() -> None:
    away = f"http://127.0.0.1:{free_port(0)}/metrics"
    with agent(3, 0.5, 5) as first, agent(4, 50) as second:
        page = await scraped([first, away, second])
    found = samples(page)
    assert found["ray_visiongraph_requests_total"] == [3, 4]
    assert found["ray_visiongraph_request_latency_ms_bucket10.0"] == [2, 0]
    assert found["ray_visiongraph_request_latency_ms_bucket+Inf"] == [2, 1]
    assert found["ray_visiongraph_node_up"] == [1, 0, 1]
    assert not any("object_store" in name or name.startswith("python") for name in found)
    assert page.count(b"# TYPE ray_visiongraph_requests_total counter") == 1


async def test_a_page_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "MAX_PAGE", 100)
    with agent(3) as page:
        assert samples(await scraped([page])) == {"ray_visiongraph_node_up": [0]}


async def test_only_an_admin_gets_them(service: Service) -> None:
    answer = await service.client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    admin, reader = await make_key(service, "admin"), await make_key(service, "read", "write")
    service.context.access._fresh_until = 0
    assert (await service.client.get("/metrics", headers=admin)).status_code == 200
    error_of(await service.client.get("/metrics", headers=reader), 403, "FORBIDDEN")
