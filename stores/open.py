"""The stores that the settings name, by the schemes of their URLs.

Client libraries are imported only when their scheme is used.
"""

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol, Self

from configs.settings import PREFIX, Settings
from stores.analyses import Analyses
from stores.animals import Animals
from stores.audit import Audit
from stores.cache import Cache
from stores.documents import Documents
from stores.jobs import JobStore
from stores.keys import Keys
from stores.objects import Objects
from stores.observed import Report, observed
from stores.partial_uploads import PartialUploads
from stores.people import People
from stores.shots import Shots
from stores.subscriptions import Subscriptions
from stores.usage import UsageStore
from stores.vectors import Vectors

SHARED: Final = {
    "objects": "s3://…",
    "documents": "mongodb://…",
    "vectors": "s3://…",
    "cache": "redis://…",
}
"""What a URL of each store begins with that several machines share."""
_OF_ONE_MACHINE: Final = ("file:", "sqlite:", "unix:")


def of_one_machine(settings: Settings, names: Collection[str] = tuple(SHARED)) -> str:
    """Return what to set in place of the stores that other machines do not reach: a list in words, empty for none.

    No cache is none to replace: each process counts for itself then.
    """
    urls = {
        "objects": settings.objects,
        "documents": settings.documents,
        "vectors": settings.vectors,
        "cache": settings.cache_url.get_secret_value(),
    }
    wanted = [
        f"{PREFIX}{name.upper()}_URL ({SHARED[name]})" for name in names if urls[name].startswith(_OF_ONE_MACHINE)
    ]
    return " and ".join(filter(None, [", ".join(wanted[:-1]), *wanted[-1:]]))


class Stores:
    """All stores, each opened at its first use; ``close`` closes those that were.

    All but objects, vectors and cache share one database: a SQLite file or a MongoDB client. The first use raises
    ValueError if the URL is malformed or of an unknown scheme, StoreError if the store is refused for good; one that
    does not answer yet is opened later. A MongoDB client and the cache belong to the event loop that uses them first.
    """

    def __init__(
        self,
        *,
        objects: str = "",
        documents: str = "",
        vectors: str = "",
        cache: str = "",
        reserve_bytes: int = 0,
        vector_index_from: int = 0,
        report: Report | None = None,
    ) -> None:
        """Take the URLs of those stores that will be used; the cache without one holds nothing.

        ``reserve_bytes`` of the disks of embedded stores are kept free, see ``stores.disk``. A space of
        ``vector_index_from`` vectors gets an index; with 0 none does. ``report`` is told of every call.
        """
        self._report = report
        self._reserve_bytes, self._vector_index_from = reserve_bytes, vector_index_from
        self._objects_url, self._documents_url, self._vectors_url, self._cache_url = objects, documents, vectors, cache

    @classmethod
    def open(cls, settings: Settings, report: Report | None = None) -> Self:
        """Return the stores that the settings name; ``report`` is told of every call."""
        return cls(
            objects=settings.objects,
            documents=settings.documents,
            vectors=settings.vectors,
            cache=settings.cache_url.get_secret_value(),
            reserve_bytes=settings.disk_reserve_bytes,
            vector_index_from=settings.vector_index_from,
            report=report,
        )

    @cached_property
    def objects(self) -> Objects:
        """Bytes under keys: ``file:///…`` or ``s3://…``."""
        return observed("objects", self._objects, self._report)

    @cached_property
    def vectors(self) -> Vectors:
        """Nearest neighbours: ``file:///…`` or ``s3://…``."""
        return observed("vectors", self._vectors, self._report)

    @cached_property
    def _objects(self) -> Objects:
        if self._objects_url.startswith("file:///"):
            from stores.file.objects import FileObjects

            return FileObjects(self._objects_url, self._reserve_bytes)
        if self._objects_url.startswith("s3://"):
            from stores.s3.objects import S3Objects

            return S3Objects(self._objects_url)
        raise ValueError("an object store URL starts with file:/// or s3://")

    @cached_property
    def _vectors(self) -> Vectors:
        if self._vectors_url.startswith(("file:///", "s3://")):
            from stores.lance.maintenance import Upkeep
            from stores.lance.vectors import LanceVectors

            return LanceVectors(self._vectors_url, Upkeep(index_from=self._vector_index_from))
        raise ValueError("a vector store URL starts with file:/// or s3://")

    @cached_property
    def cache(self) -> Cache:
        """The cache: ``redis://…``, ``rediss://…``, ``unix://…``, or none."""
        return Cache(self._cache_url, self._report)

    @cached_property
    def documents(self) -> Documents:
        """Assets, features, faces and configuration."""
        return observed("documents", self._database.documents, self._report)

    @cached_property
    def jobs(self) -> JobStore:
        """Durable jobs."""
        return observed("jobs", self._database.jobs, self._report)

    @cached_property
    def people(self) -> People:
        """Face traces and identities."""
        return observed("people", self._database.people, self._report)

    @cached_property
    def shots(self) -> Shots:
        """Shots of videos."""
        return observed("shots", self._database.shots, self._report)

    @cached_property
    def analyses(self) -> Analyses:
        """Authenticity analyses."""
        return observed("analyses", self._database.analyses, self._report)

    @cached_property
    def animals(self) -> Animals:
        """Enrolled animals."""
        return observed("animals", self._database.animals, self._report)

    @cached_property
    def keys(self) -> Keys:
        """API keys."""
        return observed("keys", self._database.keys, self._report)

    @cached_property
    def partial_uploads(self) -> PartialUploads:
        """Uploads that come in parts."""
        return observed("partial_uploads", self._database.partial_uploads, self._report)

    @cached_property
    def usage(self) -> UsageStore:
        """What each key holds and uses."""
        return observed("usage", self._database.usage, self._report)

    @cached_property
    def audit(self) -> Audit:
        """The audit trail."""
        return observed("audit", self._database.audit, self._report)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        """Where ends of jobs are announced to."""
        return observed("subscriptions", self._database.subscriptions, self._report)

    @cached_property
    def deliveries(self) -> JobStore:
        """Deliveries to subscriptions: jobs of their own, that nobody sees among the others."""
        return observed("deliveries", self._database.deliveries, self._report)

    async def migrate(self) -> tuple[int, int]:
        """Bring the documents to the schema of this program, as their first use does.

        Return the version that they had, 0 for a new store, and that they have. Raises StoreError where they are of a
        newer program, or too old.
        """
        return await self._database.migrate()

    async def mentions(self, text: str) -> Mapping[str, int]:
        """Return how many records of the database name a text, by table; reads all of it. Raises StoreError."""
        return await self._database.mentions(text)

    async def close(self) -> None:
        """Close every store that was used; what was submitted is durable then. Closing twice is no error."""
        for name in ("_objects", "_database", "_vectors", "cache"):
            if name in self.__dict__:
                await self.__dict__[name].close()

    @cached_property
    def _database(self) -> "_Database":
        if self._documents_url.startswith("sqlite:///"):
            from stores.sqlite.database import SqliteDatabase

            return SqliteDatabase(Path(self._documents_url.removeprefix("sqlite:///")), self._reserve_bytes)
        if self._documents_url.startswith(("mongodb://", "mongodb+srv://")):
            from stores.mongo.database import MongoDatabase

            return MongoDatabase(self._documents_url)
        raise ValueError("a document store URL starts with sqlite:///, mongodb:// or mongodb+srv://")


class _Database(Protocol):
    """The stores that share one SQLite file or one MongoDB client."""

    @property
    def documents(self) -> Documents: ...
    @property
    def jobs(self) -> JobStore: ...
    @property
    def people(self) -> People: ...
    @property
    def shots(self) -> Shots: ...
    @property
    def analyses(self) -> Analyses: ...
    @property
    def animals(self) -> Animals: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def partial_uploads(self) -> PartialUploads: ...
    @property
    def usage(self) -> UsageStore: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def subscriptions(self) -> Subscriptions: ...
    @property
    def deliveries(self) -> JobStore: ...
    async def migrate(self) -> tuple[int, int]: ...
    async def mentions(self, text: str) -> Mapping[str, int]: ...
    async def close(self) -> None: ...
