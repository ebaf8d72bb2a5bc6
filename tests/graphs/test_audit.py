"""The audit trail over HTTP: what is in it, what is not, who may read it, and that it comes before the answer."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from graphs.web import access, audit
from stores.audit import AuditEntry
from stores.errors import StoreError
from stores.keys import new_key
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import error_of, picture

UPLOAD = "/api/v1/upload-media"
DELETE = "DELETE /api/v1/media/{asset_id}"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of keys are seen with the next request."""
    monkeypatch.setattr(access, "FRESH_S", 0.0)
    monkeypatch.setattr(access, "RETRY_S", 0.0)


async def make_key(service: Service, name: str, *scopes: str) -> dict[str, str]:
    token, key = new_key(name, scopes)
    await service.context.keys.insert(key)
    return {"X-API-Key": token}


async def send(service: Service, headers: Mapping[str, str], number: int = 1) -> httpx.Response:
    files = {"file": ("secret name.png", picture(number))}
    return await service.client.post(UPLOAD, headers=dict(headers), files=files)


async def entries(service: Service, **values: Any) -> list[AuditEntry]:
    return await service.context.audit.list(**values)


async def test_changes_are_in_the_trail_with_who_what_and_result(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        studio, reader = await make_key(service, "studio", "read", "write"), await make_key(service, "press", "read")
        asset_id = (await send(service, studio)).json()["asset_id"]
        for path in (f"/media/{asset_id}", f"/media/{asset_id}/content", "/config"):
            assert (await service.client.get(path, headers=studio)).status_code == 200
        await service.client.post("/find-best-match", headers=reader, json={})
        assert (await service.client.delete(f"/media/{asset_id}", headers=reader)).status_code == 403
        answer = (await service.client.delete(f"/media/{asset_id}?x=query", headers=studio)).json()
        assert answer["removed"] == {"objects": 1, "documents": 1, "jobs": 0, "vectors": 0, "cache": 0}
        assert (await service.client.delete(f"/api/v1/media/{asset_id}", headers=studio)).status_code == 404
        body = {"threshold": 80}
        changed = await service.client.put("/config/similarity-threshold", headers={"X-API-Key": "env-key"}, json=body)
        assert changed.status_code == 200
        trail = [(each.who, each.action, each.object_id, each.result) for each in await entries(service)]
        assert trail == [
            ("API_KEY", "PUT /config/similarity-threshold", "similarity_threshold", "200"),
            ("studio", DELETE, asset_id, "404"),
            ("studio", "DELETE /media/{asset_id}", asset_id, "200"),
            ("studio", "POST /api/v1/upload-media", asset_id, "200"),
        ]
        setting, _, deletion, _ = await entries(service)
        assert setting.details == {
            **{"value": 80.0, "previous": 75.0},
            "request_id": changed.headers["x-request-id"],
        }
        assert deletion.key_id == studio["X-API-Key"].split("_")[1]
        assert deletion.details["removed"] == answer["removed"]
        shown = repr(await entries(service))
        for secret in ("secret name", studio["X-API-Key"], "env-key", "query"):
            assert secret not in shown


async def test_administrators_read_it_in_pages(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        env, studio = {"X-API-Key": "env-key"}, await make_key(service, "studio", "read", "write")
        ids = [
            (await send(service, studio if number < 4 else env, number)).json()["asset_id"] for number in range(1, 6)
        ]
        error_of(await service.client.get("/api/v1/audit", headers=studio), 403, "FORBIDDEN")

        async def read(**values: Any) -> Any:
            answer = await service.client.get("/api/v1/audit", headers=env, params=values)
            assert answer.status_code == 200, answer.text
            return answer.json()

        first = await read(limit=2)
        second = await read(limit=2, after=first["next"])
        third = await read(limit=2, after=second["next"])
        seen = [entry["object_id"] for page in (first, second, third) for entry in page["entries"]]
        assert (seen, third["next"]) == (ids[::-1], None)
        assert [entry["object_id"] for entry in (await read(key="studio"))["entries"]] == ids[2::-1]
        assert [entry["who"] for entry in (await read(object=ids[4]))["entries"]] == ["API_KEY"]
        assert (await read(since="2999-01-01T00:00:00Z"))["entries"] == []
        answer = await service.client.get("/api/v1/audit?since=yesterday", headers=env)
        error_of(answer, 422, "VALIDATION_ERROR")


@pytest.mark.parametrize(("setting", "reads"), [("all", 2), ("writes", 0)])
async def test_reads_of_files_are_in_it_where_that_is_asked_for(
    settings_for: MakeSettings, serve: Serve, setting: str, reads: int
) -> None:
    async with serve(settings_for(audit=setting)) as service:
        asset_id = (await send(service, {})).json()["asset_id"]
        assert (await service.client.get(f"/media/{asset_id}/content")).status_code == 200
        assert (await service.client.head(f"/media/{asset_id}/content")).status_code == 200
        assert (await service.client.get("/config")).status_code == 200
        found = await entries(service, object_id=asset_id)
        assert sum(each.action.endswith("/media/{asset_id}/content") for each in found) == reads
        assert {each.who for each in found} == {"anyone"}


async def test_without_a_trail_nothing_is_written(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(audit="none")) as service:
        assert (await send(service, {})).status_code == 200
        assert await entries(service) == []


async def test_a_trail_that_cannot_be_written_costs_no_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise StoreError("sqlite: broken")

    monkeypatch.setattr(service.context.audit, "append", broken)
    for number in (1, 2):
        assert (await send(service, {}, number)).status_code == 200
    assert [record.message for record in caplog.records if "audit trail" in record.message] == [
        "1 entries of the audit trail are lost: sqlite: broken"
    ]


async def test_what_came_to_no_answer_is_in_it_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(service.context.documents, "withdraw", bug)
    asset_id = (await send(service, {})).json()["asset_id"]
    assert (await service.client.delete(f"/api/v1/media/{asset_id}")).status_code == 500
    (latest,) = await entries(service, limit=1)
    assert (latest.action, latest.object_id, latest.result) == (DELETE, asset_id, audit.FAILED)
