"""Two gateways over shared stores, as on two nodes: requests alternate, and no client sees a difference."""

import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import httpx
import pytest

from tests.dummies import digest
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import error_of, picture, video
from tests.stores.mongodb import database, mongodb
from tests.stores.seaweed import seaweedfs

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret-of-nobody"}


class Alternating(httpx.AsyncBaseTransport):
    """Sends each request to the next of its transports."""

    def __init__(self, transports: list[httpx.AsyncBaseTransport]) -> None:
        self._next = itertools.cycle(transports)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await next(self._next).handle_async_request(request)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of an S3 server and of a MongoDB."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (KEYS | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
            patch.setenv(name, value)
        with (
            seaweedfs(tmp_path_factory.mktemp("weed"), *KEYS.values()) as endpoint,
            mongodb(tmp_path_factory.mktemp("mongodb")) as server,
        ):
            yield endpoint, server


@pytest.fixture
def shared(servers: tuple[str, str]) -> Iterator[dict[str, str]]:
    """URLs of empty stores that several machines reach."""
    endpoint, server = servers
    objects, vectors = (f"{kind}-{uuid.uuid4().hex}" for kind in ("objects", "vectors"))
    session = boto3.session.Session(*KEYS.values(), region_name="us-east-1")
    session.client("s3", endpoint_url=endpoint).create_bucket(Bucket=vectors)
    place = f"endpoint_url={endpoint}&region=us-east-1"
    with database(server) as documents:
        yield {
            "objects_url": f"s3://{objects}?{place}&create=1",
            "vectors_url": f"s3://{vectors}/index?{place}",
            "documents_url": documents,
        }


@pytest.fixture
async def gateways(
    shared: dict[str, str], settings_for: MakeSettings, serve: Serve, tmp_path: Path
) -> AsyncIterator[Service]:
    """Two services with homes of their own; their client alternates."""
    config = settings_for(**shared)
    async with serve(config) as first, serve(config.model_copy(update={"home": tmp_path / "other"})) as second:
        transports = [httpx.ASGITransport(each.app, raise_app_exceptions=False) for each in (first, second)]
        async with httpx.AsyncClient(transport=Alternating(transports), base_url="http://test") as client:
            yield replace(first, client=client)
        assert first.spooled == second.spooled == []


async def test_what_one_gateway_has_stored_the_other_one_works_on(gateways: Service) -> None:
    a, b, c = [await gateways.upload(picture(seed)) for seed in (1, 2, 3)]
    film = await gateways.upload(video(1), "film.mp4")
    assert [(await gateways.uploaded(picture(seed)))["duplicate"] for seed in (1, 2)] == [True, True]
    cached = [(await gateways.post("extract-features", asset_id=each))["cached"] for each in (a, b, b, a, c, film)]
    assert cached == [False, False, True, True, False, False]
    for _ in range(2):
        for asset_id in (a, b, c, film):
            await gateways.post("calculate-similarity", asset_id_1=a, asset_id_2=asset_id)
            assert (await gateways.get(f"media/{asset_id}"))["asset_id"] == asset_id
            best = await gateways.post("semantic-search", query_asset_id=asset_id, top_k=4)
            await gateways.post("find-best-match", reference_asset_id=a, candidate_asset_ids=[b, c])
            assert len(best["search_results"]) == 3
    groups = await gateways.post("feature-clustering", asset_ids=[a, b, c, film], n_clusters=2)
    assert groups["n_clusters"] == 2
    await gateways.client.put("/api/v1/config/similarity-threshold", json={"threshold": 61})
    thresholds = [(await gateways.get("config"))["similarity_threshold"] for _ in range(2)]
    assert thresholds == [61, 61]


async def test_what_one_gateway_has_deleted_is_gone_from_the_other_one(gateways: Service) -> None:
    a, b = [await gateways.upload(picture(seed)) for seed in (4, 5)]
    for asset_id in (a, b, a, b):
        await gateways.post("extract-features", asset_id=asset_id)
    for asset_id in (a, b):
        await gateways.delete(asset_id)
        for _ in range(2):
            error_of(await gateways.client.get(f"/api/v1/media/{asset_id}"), 404, "ASSET_NOT_FOUND")
            error_of(await gateways.try_post("extract-features", asset_id=asset_id), 404, "ASSET_NOT_FOUND")
        assert await gateways.upload(picture(4 if asset_id == a else 5)) == asset_id
        assert (await gateways.post("extract-features", asset_id=asset_id))["cached"] is False
    assert digest(picture(4)) == a
