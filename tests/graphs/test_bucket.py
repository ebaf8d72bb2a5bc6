"""The same API over a bucket instead of a folder: links that anyone may open, nothing left behind."""

from collections.abc import Iterator

import httpx
import pytest

from tests.dummies import digest
from tests.graphs.conftest import MakeSettings, Serve
from tests.graphs.samples import error_of, picture, video
from tests.stores.seaweed import seaweedfs

KEY, SECRET = "test-key", "test-secret-of-nobody"


@pytest.fixture
def bucket(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    with seaweedfs(tmp_path_factory.mktemp("weed"), KEY, SECRET) as endpoint:
        yield f"s3://assets?endpoint_url={endpoint}&region=us-east-1&create=1"


async def test_assets_in_a_bucket(bucket: str, settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(objects_url=bucket)) as service, httpx.AsyncClient() as anyone:
        for data in (picture(1), video(1)):
            asset = await service.uploaded(data)
            assert (asset["asset_id"], asset["duplicate"]) == (digest(data), False)
            assert SECRET not in asset["public_url"]
            linked = await anyone.get(asset["public_url"])
            assert (linked.content, linked.headers["content-type"]) == (data, asset["content_type"])
            content = await service.client.get(f"/media/{asset['asset_id']}/content")
            assert content.content == data
            assert (await service.uploaded(data))["duplicate"] is True
            assert service.spooled == []
        alike = await service.post("calculate-similarity", asset_id_1=digest(picture(1)), asset_id_2=digest(video(1)))
        assert alike["similarity_percentage"] > 99
        assert (await service.get("health"))["storage"] == {"connected": True, "type": "s3"}
        for data in (picture(1), video(1)):
            assert (await service.delete(digest(data)))["storage_deleted"] is True
            error_of(await service.client.get(f"/media/{digest(data)}/content"), 404, "ASSET_NOT_FOUND")
        assert [info async for info in service.context.objects.list()] == []
        assert (await anyone.get(asset["public_url"])).status_code == 404


async def test_parts_of_an_upload_in_a_bucket(bucket: str, settings_for: MakeSettings, serve: Serve) -> None:
    config, data = settings_for(objects_url=bucket), picture(3)
    tus = {"Tus-Resumable": "1.0.0"}
    async with serve(config) as first:
        created = await first.client.post("/uploads", headers={**tus, "Upload-Length": str(len(data))})
        url = created.headers["location"]
        octets = {**tus, "Content-Type": "application/offset+octet-stream"}
        part = await first.client.patch(url, headers={**octets, "Upload-Offset": "0"}, content=data[:1000])
        assert (part.status_code, part.headers["upload-offset"]) == (204, "1000")
        assert [info.size async for info in first.context.objects.list("uploads/")] == [1000]
    async with serve(config) as second:
        part = await second.client.patch(url, headers={**octets, "Upload-Offset": "1000"}, content=data[1000:])
        assert part.headers["upload-asset-id"] == digest(data)
        assert [info.key async for info in second.context.objects.list()] == [digest(data)]
        assert (await second.client.get(f"/media/{digest(data)}/content")).content == data
        assert second.spooled == []


async def test_links_lead_to_the_service_where_clients_do_not_reach_the_bucket(
    bucket: str, settings_for: MakeSettings, serve: Serve
) -> None:
    hidden = settings_for(objects_url=bucket, presign_ttl_s=0, public_url="https://vision.example/apis")
    async with serve(hidden) as service:
        for data in (picture(2), video(2)):
            asset = await service.uploaded(data)
            path = f"/media/{asset['asset_id']}/content"
            assert asset["public_url"] == f"https://vision.example/apis/api/v1{path}"
            assert (await service.get(f"media/{asset['asset_id']}"))["public_url"] == asset["public_url"]
            assert (await service.client.get(path)).content == data
