"""Subscriptions in MongoDB."""

from collections.abc import Sequence
from typing import ClassVar

from pymongo import IndexModel

from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.records import from_micros, optional_micros, optional_moment, to_micros
from stores.subscriptions import SigningSecret, Subscription, Subscriptions


class MongoSubscriptions(MongoRepository, Subscriptions):
    """The collection ``subscriptions``."""

    indexes: ClassVar = {"subscriptions": [IndexModel("owner")]}

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._subscriptions = self._collection("subscriptions")

    async def insert(self, subscription: Subscription) -> None:
        await self._make_indexes()
        with translated():
            await self._subscriptions.insert_one({"_id": subscription.subscription_id, **_document(subscription)})

    async def get(self, subscription_id: str) -> Subscription | None:
        with translated():
            document = await self._subscriptions.find_one({"_id": subscription_id})
        return None if document is None else _subscription(document)

    async def list(self, owner: str | None = None) -> Sequence[Subscription]:
        with translated():
            found = self._subscriptions.find({} if owner is None else {"owner": owner})
            return [_subscription(each) async for each in found.sort([("created_at", 1), ("_id", 1)])]

    async def set(self, subscription: Subscription, *names: str) -> bool:
        document = _document(subscription)
        change = {"$set": {name: document[name] for name in names}}
        with translated():
            found = await self._subscriptions.update_one({"_id": subscription.subscription_id}, change)
            return found.matched_count > 0

    async def delete(self, subscription_id: str) -> bool:
        with translated():
            return (await self._subscriptions.delete_one({"_id": subscription_id})).deleted_count > 0


def _document(subscription: Subscription) -> Document:
    return {
        "owner": subscription.owner,
        "url": subscription.url,
        "events": list(subscription.events),
        "secrets": [
            {"secret": each.secret, "expires_at": optional_micros(each.expires_at)} for each in subscription.secrets
        ],
        "created_at": to_micros(subscription.created_at),
        "kinds": list(subscription.kinds),
        "description": subscription.description,
        "delivered_at": optional_micros(subscription.delivered_at),
        "failing_since": optional_micros(subscription.failing_since),
        "disabled_at": optional_micros(subscription.disabled_at),
        "disabled_reason": subscription.disabled_reason,
    }


def _subscription(document: Document) -> Subscription:
    return Subscription(
        subscription_id=document["_id"],
        owner=document["owner"],
        url=document["url"],
        events=tuple(document["events"]),
        secrets=tuple(
            SigningSecret(each["secret"], optional_moment(each["expires_at"])) for each in document["secrets"]
        ),
        created_at=from_micros(document["created_at"]),
        kinds=tuple(document["kinds"]),
        description=document["description"],
        delivered_at=optional_moment(document["delivered_at"]),
        failing_since=optional_moment(document["failing_since"]),
        disabled_at=optional_moment(document["disabled_at"]),
        disabled_reason=document["disabled_reason"],
    )
