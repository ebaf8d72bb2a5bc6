"""Jobs in MongoDB, for many machines; plain operations only, so that its kin can serve too."""

import uuid
from collections.abc import Collection as AnyOf
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from stores.job import Job, JobStatus, changes, from_row, to_row
from stores.job_states import Step
from stores.jobs import JobStore
from stores.mongo.engine import Collection, Document, MongoStore, translated
from stores.records import to_micros

INDEXES = (
    [("status", ASCENDING), ("due_at", ASCENDING)],
    [("created_at", DESCENDING), ("_id", DESCENDING)],
    [("subject", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
)


class MongoJobs(MongoStore, JobStore):
    """``mongodb://…`` or ``mongodb+srv://…``; creates its indexes before its first operation.

    A change is written on the condition that the revision, a new one with every write, is still the one it was made
    from; otherwise it is made again.

    :raises ValueError: the URL is not of that form.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._unindexed: Collection = self._database["jobs"]
        self._has_indexes = False

    async def get(self, job_id: str) -> Job | None:
        jobs = await self._jobs()
        with translated():
            found = await jobs.find_one({"_id": job_id})
        return None if found is None else _job(found)

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: Job | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        asked: Document = {"status": status, "kind": kind, "subject": subject}
        wanted = {name: value for name, value in asked.items() if value is not None}
        if after is not None:
            created_at = to_micros(after.created_at)
            same_time = {"created_at": created_at, "_id": {"$lt": after.job_id}}
            wanted["$or"] = [{"created_at": {"$lt": created_at}}, same_time]
        jobs = await self._jobs()
        with translated():
            found = jobs.find(wanted).sort([("created_at", DESCENDING), ("_id", DESCENDING)]).limit(limit)
            return [_job(document) async for document in found]

    async def forget(self, subject: str) -> int:
        jobs = await self._jobs()
        with translated():
            return (await jobs.delete_many({"subject": subject})).deleted_count

    async def _insert(self, job: Job) -> bool:
        row = to_row(job)
        jobs = await self._jobs()
        with translated():
            try:
                await jobs.insert_one({"_id": row.pop("job_id"), **row, **_new_revision()})
            except DuplicateKeyError:
                return False
        return True

    async def _change(self, job_id: str, step: Step) -> Job | None:
        jobs = await self._jobs()
        while True:
            with translated():
                found = await jobs.find_one({"_id": job_id})
            before = None if found is None else _job(found)
            after = None if before is None else step(before)
            if found is None or before is None or after is None:
                return None
            same = {"_id": job_id, "revision": found["revision"]}
            with translated():
                done = await jobs.update_one(same, {"$set": changes(before, after) | _new_revision()})
            if done.matched_count == 1:
                return after

    async def _due(self, kinds: AnyOf[str], now: datetime) -> Sequence[str]:
        due = {"status": {"$in": ["queued", "running"]}, "due_at": {"$lte": to_micros(now)}, "kind": {"$in": [*kinds]}}
        jobs = await self._jobs()
        with translated():
            found = jobs.find(due, {"_id": 1}).sort("due_at").limit(16)
            return [document["_id"] async for document in found]

    async def _jobs(self) -> Collection:
        if not self._has_indexes:
            with translated():
                await self._unindexed.create_indexes([IndexModel(index) for index in INDEXES])
            self._has_indexes = True
        return self._unindexed


def _new_revision() -> dict[str, Any]:
    return {"revision": uuid.uuid4().hex}


def _job(document: Document) -> Job:
    row = {name: value for name, value in document.items() if name not in ("_id", "revision")}
    return from_row({"job_id": document["_id"], **row})
