"""What every store in MongoDB has; plain operations only, so that its kin can serve too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from stores.documents import StoreError

DATABASE = "visiongraph"
"""Used when the URL names none."""
TIMEOUTS_MS = {"serverSelectionTimeoutMS": 5_000, "timeoutMS": 30_000}
"""Defaults; the URL may set its own."""

Document = dict[str, Any]
Collection = AsyncCollection[Document]


class MongoStore:
    """Base of the stores at ``mongodb://…`` or ``mongodb+srv://…``; connects at the first operation.

    :raises ValueError: the URL is not of that form.
    """

    type = "mongodb"
    remote = True

    def __init__(self, url: str) -> None:
        options: Document = {k: v for k, v in TIMEOUTS_MS.items() if f"{k}=".lower() not in url.lower()}
        try:
            self._client: AsyncMongoClient[Document] = AsyncMongoClient(url, appname="visiongraph", **options)
            self._database = self._client.get_default_database(
                DATABASE,
                read_preference=ReadPreference.PRIMARY,  # a secondary may not have seen an older write yet
                write_concern=WriteConcern("majority", j=True),
            )
        except (PyMongoError, ValueError):  # whose texts may quote a piece of the password
            raise ValueError(
                "not a MongoDB URL: expected mongodb://user:password@host/database, "
                "the password percent-encoded where it has special characters"
            ) from None

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        with translated():
            await self._client.admin.command("ping")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


@contextmanager
def translated() -> Iterator[None]:
    """Driver errors as StoreError, by name and code only: their texts quote addresses and documents."""
    try:
        yield
    except PyMongoError as error:
        code = getattr(error, "code", None)
        raise StoreError(f"mongodb: {type(error).__name__}{f' {code}' if code else ''}") from error
