"""The same bytes of two clients: one asset, an upload of each, and a delete that is only the client's own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest

from graphs.web.uploads import library
from tests.dummies import digest
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import audio, error_of, picture, video

KEYS = {"ada": "key-of-ada", "bob": "key-of-bob", "cyd": "key-of-cyd"}


class Client:
    """One client of a service, by its key; without one where there are none."""

    def __init__(self, service: Service, key: str | None) -> None:
        self._http = service.client
        self._headers = {"x-api-key": key} if key else {}

    async def send(self, data: bytes, name: str) -> httpx.Response:
        files = {"file": (name, data)}
        return await self._http.post("/api/v1/upload-media", files=files, headers=self._headers)

    async def upload(self, data: bytes, name: str) -> dict[str, Any]:
        return ok(await self.send(data, name))

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(f"/api/v1/{path}", headers=self._headers)

    async def delete(self, asset_id: str) -> httpx.Response:
        return await self._http.delete(f"/api/v1/media/{asset_id}", headers=self._headers)

    async def post(self, route: str, **body: Any) -> httpx.Response:
        return await self._http.post(f"/api/v1/{route}", json=body, headers=self._headers)


def ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def service(settings_for: MakeSettings, serve: Serve) -> AsyncIterator[Service]:
    async with serve(settings_for(api_key=",".join(KEYS.values()))) as made:
        yield made
        assert made.spooled == []


@pytest.fixture
def people(service: Service) -> tuple[Client, Client, Client]:
    ada, bob, cyd = (Client(service, key) for key in KEYS.values())
    return ada, bob, cyd


People = tuple[Client, Client, Client]


@pytest.mark.parametrize("data", [picture(1), video(1), audio()], ids=["picture", "video", "sound"])
async def test_one_object_and_two_uploads(service: Service, people: People, data: bytes) -> None:
    ada, bob, cyd = people
    first, second = await ada.upload(data, "ada's.x"), await bob.upload(data, "bob's.x")
    assert first["asset_id"] == second["asset_id"] == digest(data)
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert (first["filename"], second["filename"]) == ("ada's.x", "bob's.x")
    assert datetime.fromisoformat(second["upload_timestamp"]) > datetime.fromisoformat(first["upload_timestamp"])
    for client, expected in ((ada, first), (bob, second), (cyd, first)):
        shown = ok(await client.get(f"media/{digest(data)}"))
        for name in ("filename", "upload_timestamp", "file_size", "format"):
            assert shown[name] == expected[name]
        assert (await client.get(f"media/{digest(data)}/content")).content == data
    again = await bob.upload(data, "renamed.x")
    assert (again["duplicate"], again["filename"]) == (True, "bob's.x")
    assert again["upload_timestamp"] == second["upload_timestamp"]
    assert len([info async for info in service.context.objects.list() if info.key == digest(data)]) == 1
    assert len(await service.context.documents.list_assets()) == 1


async def test_a_delete_is_of_the_clients_own_upload(service: Service, people: People) -> None:
    ada, bob, cyd = people
    data, asset_id = picture(1), digest(picture(1))
    await ada.upload(data, "ada.png")
    second = await bob.upload(data, "bob.png")
    features = ok(await bob.post("extract-features", asset_id=asset_id))["features"]
    gone = ok(await ada.delete(asset_id))
    assert (gone["deleted"], gone["storage_deleted"]) == (True, False)
    assert "stays for others" in gone["message"]
    for path in ("", "/content"):
        error_of(await ada.get(f"media/{asset_id}{path}"), 404, "ASSET_NOT_FOUND")
    error_of(await ada.delete(asset_id), 404, "ASSET_NOT_FOUND")
    error_of(await ada.post("extract-features", asset_id=asset_id), 404, "ASSET_NOT_FOUND")
    for client in (bob, cyd):
        shown = ok(await client.get(f"media/{asset_id}"))
        assert (shown["filename"], shown["upload_timestamp"]) == ("bob.png", second["upload_timestamp"])
        assert ok(await client.post("extract-features", asset_id=asset_id))["features"] == features
    assert (await bob.get(f"media/{asset_id}/content")).content == data

    back = await ada.upload(data, "ada again.png")
    assert (back["duplicate"], back["filename"]) == (True, "ada again.png")
    assert ok(await ada.get(f"media/{asset_id}"))["filename"] == "ada again.png"
    assert ok(await bob.delete(asset_id))["storage_deleted"] is False
    last = ok(await ada.delete(asset_id))
    assert (last["deleted"], last["storage_deleted"]) == (True, True)
    assert [info async for info in service.context.objects.list()] == []
    assert await service.context.documents.list_assets() == []
    for client in people:
        error_of(await client.get(f"media/{asset_id}"), 404, "ASSET_NOT_FOUND")
    assert (await bob.upload(data, "bob.png"))["duplicate"] is False


async def test_who_uploaded_nothing_deletes_nothing(people: People) -> None:
    ada, bob, _ = people
    asset_id = (await ada.upload(picture(1), "ada.png"))["asset_id"]
    error = error_of(await bob.delete(asset_id), 404, "ASSET_NOT_FOUND")
    assert "deletes its own" in error["message"]
    assert error["details"] == {"asset_ids": [asset_id]}
    assert ok(await bob.get(f"media/{asset_id}"))["filename"] == "ada.png"
    assert ok(await ada.delete(asset_id))["storage_deleted"] is True


async def test_what_a_client_deleted_is_in_none_of_its_answers(people: People) -> None:
    ada, bob, _ = people
    query, shared, kept = [(await bob.upload(picture(seed), f"{seed}.png"))["asset_id"] for seed in (1, 2, 3)]
    await ada.upload(picture(2), "ada.png")
    ok(await bob.post("batch-similarity", asset_ids=[query, shared, kept]))

    async def searched(client: Client) -> dict[str, str]:
        hits = ok(await client.post("semantic-search", query_asset_id=query))["search_results"]
        return {hit["asset_id"]: hit["filename"] for hit in hits}

    assert await searched(ada) == {shared: "ada.png", kept: "3.png"}
    ok(await ada.delete(shared))
    assert await searched(ada) == {kept: "3.png"}
    assert await searched(bob) == {shared: "2.png", kept: "3.png"}  # and the index was not told to forget it
    answer = ok(await ada.post("batch-quality-check", asset_ids=[shared, kept]))
    assert [result["filename"] for result in answer["quality_results"]] == [None, "3.png"]
    assert "No asset with id" in answer["quality_results"][0]["error"]
    assert ok(await bob.post("batch-quality-check", asset_ids=[shared]))["failed_assets"] == 0


async def test_a_search_goes_on_behind_what_is_hidden(service: Service, people: People) -> None:
    ada, bob, _ = people
    query = (await bob.upload(picture(1), "query.png"))["asset_id"]
    ids = [(await bob.upload(picture(1, noise=0.002 * n), f"{n}.png"))["asset_id"] for n in range(1, 21)]
    far = [(await bob.upload(picture(seed), f"far {seed}.png"))["asset_id"] for seed in (5, 6)]
    ok(await bob.post("batch-similarity", asset_ids=[query, *ids, *far]))
    for n, asset_id in enumerate(ids, 1):
        await ada.upload(picture(1, noise=0.002 * n), "mine.png")
        ok(await ada.delete(asset_id))
    hits = ok(await ada.post("semantic-search", query_asset_id=query, top_k=2))["search_results"]
    assert {hit["asset_id"] for hit in hits} == set(far)


async def test_uploads_from_before_there_were_keys_are_everybodys(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for()) as open_service:
        anyone = Client(open_service, None)
        for seed in (1, 2, 3):
            await anyone.upload(picture(seed), "old.png")
    one, two, three = (digest(picture(seed)) for seed in (1, 2, 3))
    async with serve(settings_for(api_key=KEYS["ada"])) as service:
        ada = Client(service, KEYS["ada"])
        assert ok(await ada.get(f"media/{one}"))["filename"] == "old.png"
        assert ok(await ada.delete(one))["storage_deleted"] is True
        renamed = await ada.upload(picture(2), "ada.png")
        assert (renamed["duplicate"], renamed["filename"]) == (True, "ada.png")
        assert ok(await ada.delete(two))["storage_deleted"] is True
        await ada.upload(picture(3), "ada.png")
        await ada.upload(picture(4), "ada.png")
    # The key is exchanged: nothing of the old one is lost, and the new one may delete it.
    async with serve(settings_for(api_key="a new key")) as service:
        renewed = Client(service, "a new key")
        assert ok(await renewed.get(f"media/{three}"))["filename"] == "old.png"
        assert ok(await renewed.get(f"media/{digest(picture(4))}"))["filename"] == "ada.png"
        assert ok(await renewed.delete(three))["storage_deleted"] is True
    # And without keys all is one client again.
    async with serve(settings_for(api_key="")) as open_service:
        anyone = Client(open_service, None)
        assert ok(await anyone.delete(digest(picture(4))))["storage_deleted"] is True
        assert [info async for info in open_service.context.objects.list()] == []


@asynccontextmanager
async def two_gateways(settings_for: MakeSettings, serve: Serve) -> AsyncIterator[list[Service]]:
    """Two processes' worth of gateways over the same stores."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serve(settings_for(api_key=",".join(KEYS.values())))) for _ in "ab"]


async def test_two_clients_upload_and_delete_the_same_bytes_at_once(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any mixture of requests, whoever has an acknowledged upload has its bytes, and nobody else's is deleted."""
    monkeypatch.setattr(library, "DELETE_GRACE_S", 0.5)
    async with two_gateways(settings_for, serve) as (first, second):
        ada, bob = Client(first, KEYS["ada"]), Client(second, KEYS["bob"])
        for data in (picture(1), video(2)):
            asset_id = digest(data)
            for _ in range(6):
                await ada.upload(data, "ada.x")
                calls = [bob.send(data, "bob.x"), ada.delete(asset_id), bob.send(data, "bob.x"), ada.delete(asset_id)]
                answers = await asyncio.gather(*calls)
                assert {answer.status_code for answer in answers} <= {200, 404, 503}, [each.text for each in answers]
                if 200 in {answer.status_code for answer in answers[::2]}:
                    assert ok(await bob.get(f"media/{asset_id}"))["filename"] == "bob.x"
                    assert (await bob.get(f"media/{asset_id}/content")).content == data
                # Not hers any more; she sees it as a stranger does where it came to be anew behind her delete.
                seen = await ada.get(f"media/{asset_id}")
                assert seen.status_code == 404 or seen.json()["filename"] == "bob.x"
                await bob.delete(asset_id)
                error_of(await bob.get(f"media/{asset_id}"), 404, "ASSET_NOT_FOUND")
            assert [info.key async for info in first.context.objects.list()] == []


async def test_an_upload_waits_for_the_delete_of_another_client(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_gateways(settings_for, serve) as (first, second):
        ada, bob = Client(first, KEYS["ada"]), Client(second, KEYS["bob"])
        asset_id = (await ada.upload(picture(1), "ada.png"))["asset_id"]
        began, go_on = asyncio.Event(), asyncio.Event()
        remove: Callable[[str], Any] = first.context.objects.delete

        async def slow(key: str) -> bool:
            began.set()
            await go_on.wait()
            existed: bool = await remove(key)
            return existed

        monkeypatch.setattr(first.context.objects, "delete", slow)
        deleting = asyncio.create_task(ada.delete(asset_id))
        await began.wait()
        sending = asyncio.create_task(bob.send(picture(1), "bob.png"))
        await asyncio.sleep(0.1)
        assert not sending.done()
        go_on.set()
        assert ok(await deleting)["storage_deleted"] is True
        sent = ok(await sending)
        assert (sent["duplicate"], sent["filename"]) == (False, "bob.png")
        assert (await bob.get(f"media/{asset_id}/content")).content == picture(1)


async def test_a_delete_that_comes_back_late_spares_the_new_upload(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs is taken for dead, finished by an upload of the same bytes, and then goes on."""
    monkeypatch.setattr(library, "DELETE_GRACE_S", 0.1)
    async with two_gateways(settings_for, serve) as (first, second):
        ada, bob = Client(first, KEYS["ada"]), Client(second, KEYS["bob"])
        asset_id = (await ada.upload(video(1), "ada.mp4"))["asset_id"]
        began, go_on = asyncio.Event(), asyncio.Event()
        forget: Callable[[str], Any] = first.context.jobs.forget

        async def hanging(subject: str) -> int:
            began.set()
            await go_on.wait()
            return int(await forget(subject))

        monkeypatch.setattr(first.context.jobs, "forget", hanging)
        deleting = asyncio.create_task(ada.delete(asset_id))
        await began.wait()
        sent = await bob.upload(video(1), "bob.mp4")
        assert (sent["duplicate"], sent["filename"]) == (False, "bob.mp4")
        go_on.set()
        assert ok(await deleting)["deleted"] is True
        for path in ("content", "poster"):
            assert (await bob.get(f"media/{asset_id}/{path}")).status_code == 200
