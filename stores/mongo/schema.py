"""The version of the schema of a MongoDB database, and migrations forward.

MongoDB has no schema, and a cluster is updated while it serves: processes of two versions use a database at once. So a
version adds to documents, and removes only what the version before did not need any more; ``oldest`` says whose
programs may use it. Migrations have no transaction, so each one may be cut short and run again, also by several at
once: the number is raised when all of it is done.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from stores.errors import StoreError

COLLECTION: Final = "schema"
VERSION: Final = 3
OLDEST: Final = 1
"""Schema of the oldest program that may use what this one writes."""

Migration = Callable[[], Awaitable[None]]


class MongoSchema:
    """The schema of one database; ``migrations`` are by the version that they begin with."""

    def __init__(self, database: Any, migrations: Mapping[int, Migration]) -> None:
        self._versions = database[COLLECTION]
        self._migrations = migrations
        self._required = False

    async def require(self) -> None:
        """Migrate the database, once in this process. Raises StoreError if it is too new for this program."""
        if not self._required:
            await self.migrate()

    async def migrate(self) -> tuple[int, int]:
        """Bring the database to this version; return the version that it had, 0 for a new one, and that it has."""
        stored = await self._versions.find_one({"_id": COLLECTION})
        version, oldest = (stored["version"], stored["oldest"]) if stored else (0, 0)
        if oldest > VERSION:
            raise StoreError(
                f"mongodb: the database has schema {version}, this program knows {VERSION}; update the program"
            )
        self._required = True  # what migrates it uses the stores
        if version >= VERSION:
            return version, version
        found = version or await self._unnumbered()
        try:
            for step in range(found or VERSION, VERSION):
                await self._migrations[step]()
        except BaseException:
            self._required = False
            raise
        numbers = {"version": VERSION, "oldest": OLDEST}
        # Not back, where a newer program was faster.
        await self._versions.update_one({"_id": COLLECTION, "version": {"$lt": VERSION}}, {"$set": numbers})
        if stored is None:
            await self._versions.update_one({"_id": COLLECTION}, {"$setOnInsert": numbers}, upsert=True)
        return found, VERSION

    async def _unnumbered(self) -> int:
        """Return the version of a database without a number: 1, or 0 when nothing is in it."""
        return 0 if await self._versions.database["assets"].find_one({}, {"_id": 1}) is None else 1
