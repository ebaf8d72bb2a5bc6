"""One MongoDB client and the base of the stores that share it.

They use plain operations only, which servers that are compatible with MongoDB have too.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from pymongo import AsyncMongoClient, IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from stores.errors import StoreError, StoreFull, StoreRefused
from stores.mongo.schema import Migration, MongoSchema

DATABASE = "visiongraph"
"""Used when the URL names none."""
TIMEOUTS_MS = {"serverSelectionTimeoutMS": 3_000, "connectTimeoutMS": 3_000, "timeoutMS": 15_000}
"""Defaults; the URL may set its own."""
OUT_OF_DISK: Final = 14031
NO_ROOM: Final = ("no space left", "space quota")
"""In texts of MongoDB and of Atlas."""
REFUSED: Final = (13, 18)
"""Unauthorized and AuthenticationFailed."""
LEAST_FREE_BYTES: Final = 64 * 2**20

Document = dict[str, Any]
Collection = AsyncCollection[Document]


class MongoEngine:
    """The client of ``mongodb://…`` or ``mongodb+srv://…``; connects at the first operation.

    :raises ValueError: the URL is not of that form.
    """

    def __init__(self, url: str) -> None:
        options: Document = {k: v for k, v in TIMEOUTS_MS.items() if f"{k}=".lower() not in url.lower()}
        try:
            self._client: AsyncMongoClient[Document] = AsyncMongoClient(url, appname="visiongraph", **options)
            self.database = self._client.get_default_database(
                DATABASE,
                read_preference=ReadPreference.PRIMARY,  # a secondary may not have seen an older write yet
                write_concern=WriteConcern("majority", j=True),
            )
        except (PyMongoError, ValueError):  # whose texts may quote a piece of the password
            raise ValueError(
                "not a MongoDB URL: expected mongodb://user:password@host/database, "
                "the password percent-encoded where it has special characters"
            ) from None
        self.schema = MongoSchema(self.database, {})

    def migrate_by(self, migrations: Mapping[int, Migration]) -> None:
        """Set what brings a database of an earlier version to this one, see ``MongoSchema``."""
        self.schema = MongoSchema(self.database, migrations)

    async def ping(self) -> None:
        """Raise StoreError unless the server answers."""
        with translated():
            await self._client.admin.command("ping")
            await self.schema.require()

    async def check_room(self) -> None:
        """Raise StoreFull if the disk of the server is full, which servers compatible with MongoDB may not tell."""
        with translated():
            stats = await self.database.command("dbStats")
        if "fsTotalSize" in stats and stats["fsTotalSize"] - stats["fsUsedSize"] < LEAST_FREE_BYTES:
            raise StoreFull("mongodb: its disk is full")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class MongoRepository:
    """Base of the stores whose collections are in the database of one engine."""

    type = "mongodb"
    remote = True
    indexes: ClassVar[Mapping[str, Sequence[IndexModel]]]
    """By collection; ``_make_indexes`` comes before the first write, and before a read that needs one."""

    def __init__(self, engine: MongoEngine) -> None:
        self._engine = engine
        self._has_indexes = False

    async def ping(self) -> None:
        """Raise StoreError unless the server answers."""
        await self._engine.ping()

    async def check_room(self) -> None:
        """Raise StoreFull while nothing more can be stored."""
        await self._engine.check_room()

    def _collection(self, name: str) -> Collection:
        return self._engine.database[name]

    async def _make_indexes(self) -> None:
        """Create the indexes once; it is no error if another process does so too."""
        if not self._has_indexes:
            with translated():
                await self._engine.schema.require()
                for name, indexes in self.indexes.items():
                    await self._collection(name).create_indexes(list(indexes))
            self._has_indexes = True

    async def _having_all(self, name: str, labels: Sequence[str], least: float) -> set[str]:
        """Return the ids of documents of a collection that have all of these tags, each with this confidence."""
        await self._make_indexes()
        each = [{"tags": {"$elemMatch": {"label": label, "confidence": {"$gte": least}}}} for label in labels]
        if not each:
            return set()
        with translated():
            return {document["_id"] async for document in self._collection(name).find({"$and": each}, {"_id": 1})}

    async def _values(self, name: str, field: str, query: Document | None = None) -> AsyncIterator[str]:
        """Yield the different values of a field in the documents of a collection that match; there may be millions."""
        with translated():
            steps: list[Document] = [{"$match": query or {}}, {"$group": {"_id": f"${field}"}}]
            async for group in await self._collection(name).aggregate(steps):
                yield group["_id"]


@contextmanager
def translated() -> Iterator[None]:
    """Raise driver errors as StoreError, by name and code only: their texts quote addresses and documents."""
    try:
        yield
    except PyMongoError as error:
        code = getattr(error, "code", None)
        raise _kind(error, code)(f"mongodb: {type(error).__name__}{f' {code}' if code else ''}") from error


def _kind(error: PyMongoError, code: int | None) -> type[StoreError]:
    text = str(error).lower()
    if code == OUT_OF_DISK or any(phrase in text for phrase in NO_ROOM):
        return StoreFull
    return StoreRefused if code in REFUSED else StoreError
