"""Accounts of what keys use in MongoDB."""

from pymongo.errors import DuplicateKeyError

from stores.mongo.engine import MongoEngine, MongoRepository, translated
from stores.usage import Account, UsageStore, from_json, to_json


class MongoUsage(MongoRepository, UsageStore):
    """The collection ``accounts``."""

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._accounts = self._collection("accounts")

    async def _read(self, owner: str) -> tuple[Account | None, int]:
        with translated():
            document = await self._accounts.find_one({"_id": owner})
        return (None, 0) if document is None else (from_json(owner, document["record"]), int(document["revision"]))

    async def _write(self, account: Account, revision: int) -> bool:
        record = {"record": to_json(account), "revision": revision + 1}
        with translated():
            if revision:
                same = {"_id": account.owner, "revision": revision}
                return (await self._accounts.update_one(same, {"$set": record})).matched_count == 1
            try:
                await self._accounts.insert_one({"_id": account.owner, **record})
            except DuplicateKeyError:
                return False
        return True
