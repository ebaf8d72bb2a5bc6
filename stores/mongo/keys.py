"""API keys in MongoDB."""

import secrets as random
from collections.abc import Sequence
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from configs.quotas import Quota
from stores.keys import LINKS, SIGNING_BYTES, ApiKey, Keys, KeySecret, RateClass
from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.records import from_micros, optional_micros, optional_moment, to_micros


class MongoKeys(MongoRepository, Keys):
    """The collections ``keys`` and ``signing``."""

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._keys, self._signing = self._collection("keys"), self._collection("signing")

    async def insert(self, key: ApiKey) -> bool:
        document = {
            "_id": key.key_id,
            "name": key.name,
            "scopes": list(key.scopes),
            "secrets": _documents(key.secrets),
            "created_at": to_micros(key.created_at),
            "rate": key.rate,
            "labels": list(key.labels),
            "expires_at": optional_micros(key.expires_at),
            "revoked_at": optional_micros(key.revoked_at),
            "quota": dict(key.quota),
        }
        with translated():
            await self._engine.schema.require()
            try:
                await self._keys.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def get_all(self) -> list[ApiKey]:
        with translated():
            return [_key(document) async for document in self._keys.find().sort([("created_at", 1), ("_id", 1)])]

    async def revoke(self, key_id: str, moment: datetime) -> bool:
        return await self._update(key_id, {"revoked_at": to_micros(moment)})

    async def set_secrets(self, key_id: str, secrets: Sequence[KeySecret]) -> bool:
        return await self._update(key_id, {"secrets": _documents(secrets)})

    async def set_limits(self, key_id: str, rate: RateClass, quota: Quota) -> bool:
        return await self._update(key_id, {"rate": rate, "quota": dict(quota)})

    async def signing_secret(self) -> bytes:
        with translated():
            while (document := await self._signing.find_one({"_id": LINKS})) is None:
                try:
                    await self._signing.insert_one({"_id": LINKS, "secret": random.token_bytes(SIGNING_BYTES)})
                except DuplicateKeyError:
                    continue
            return bytes(document["secret"])

    async def _update(self, key_id: str, values: Document) -> bool:
        with translated():
            found = await self._keys.update_one({"_id": key_id, "revoked_at": None}, {"$set": values})
            return found.matched_count > 0


def _key(document: Document) -> ApiKey:
    return ApiKey(
        key_id=document["_id"],
        name=document["name"],
        scopes=tuple(document["scopes"]),
        secrets=tuple(KeySecret(each["digest"], optional_moment(each["expires_at"])) for each in document["secrets"]),
        created_at=from_micros(document["created_at"]),
        rate=document["rate"],
        labels=tuple(document["labels"]),
        expires_at=optional_moment(document["expires_at"]),
        revoked_at=optional_moment(document["revoked_at"]),
        quota=document.get("quota", {}),
    )


def _documents(secrets: Sequence[KeySecret]) -> list[Document]:
    return [{"digest": each.digest, "expires_at": optional_micros(each.expires_at)} for each in secrets]
