"""Jobs in MongoDB, for many machines, and deliveries, which are jobs of a collection of their own."""

import uuid
from collections.abc import Collection as AnyOf
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from stores.jobs import UNFINISHED, Job, JobCount, JobStatus, JobStore, Step, changes, from_row, to_row
from stores.mongo.engine import Collection, Document, MongoEngine, MongoRepository, translated
from stores.records import from_micros, to_micros


class MongoJobs(MongoRepository, JobStore):
    """The collection ``jobs``, or ``deliveries``.

    A change is written on the condition that the revision, a new one with every write, is still the one it was made
    from; otherwise it is made again.
    """

    def __init__(self, engine: MongoEngine, name: Literal["jobs", "deliveries"] = "jobs") -> None:
        super().__init__(engine)
        self.announces = name == "jobs"
        self._name = name
        latest = [("created_at", DESCENDING), ("_id", DESCENDING)]
        indexes = [
            IndexModel([("status", ASCENDING), ("due_at", ASCENDING)]),
            IndexModel(latest),
            IndexModel([("subject", ASCENDING), *latest]),
            IndexModel([("owner", ASCENDING), ("status", ASCENDING)]),
            IndexModel("unannounced", sparse=True) if self.announces else IndexModel([("owner", ASCENDING), *latest]),
        ]
        self.indexes = {name: indexes}  # type: ignore[misc]  # of this collection

    async def get(self, job_id: str) -> Job | None:
        jobs = await self._jobs()
        with translated():
            document = await jobs.find_one({"_id": job_id})
        return None if document is None else _job(document)

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        kind: str | None = None,
        subject: str | None = None,
        owner: str | None = None,
        after: Job | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        given: Document = {"status": status, "kind": kind, "subject": subject, "owner": owner}
        query = {name: value for name, value in given.items() if value is not None}
        if after is not None:
            created_at = to_micros(after.created_at)
            same_time = {"created_at": created_at, "_id": {"$lt": after.job_id}}
            query["$or"] = [{"created_at": {"$lt": created_at}}, same_time]
        jobs = await self._jobs()
        with translated():
            cursor = jobs.find(query).sort([("created_at", DESCENDING), ("_id", DESCENDING)]).limit(limit)
            return [_job(document) async for document in cursor]

    async def list_unannounced(self, limit: int) -> Sequence[Job]:
        jobs = await self._jobs()
        with translated():
            cursor = jobs.find({"unannounced": {"$type": "string"}}).limit(limit)
            return [_job(document) async for document in cursor]

    async def count_unfinished(self, owner: str) -> int:
        jobs = await self._jobs()
        with translated():
            return await jobs.count_documents({"owner": owner, "status": {"$in": ["queued", "running"]}})

    async def delete_finished(self, before: datetime, limit: int, kind: str | None = None) -> int:
        ended: Document = {"status": {"$nin": ["queued", "running"]}, "finished_at": {"$lt": to_micros(before)}}
        ended |= {} if kind is None else {"kind": kind}
        jobs = await self._jobs()
        with translated():
            ids = [document["_id"] async for document in jobs.find(ended, {"_id": 1}).limit(limit)]
            # What was submitted again since is no longer of these.
            return (await jobs.delete_many({"_id": {"$in": ids}, **ended})).deleted_count

    async def count(self, *, finished: bool = True) -> Sequence[JobCount]:
        match: Document = {} if finished else {"status": {"$in": [*UNFINISHED]}}
        by = {"kind": "$kind", "status": "$status"}
        group: Document = {"_id": by, "number": {"$sum": 1}, "due_at": {"$min": "$due_at"}}
        jobs = await self._jobs()
        with translated():
            groups = [each async for each in await jobs.aggregate([{"$match": match}, {"$group": group}])]
        return [JobCount(**each["_id"], number=each["number"], due_at=from_micros(each["due_at"])) for each in groups]

    async def forget(self, subject: str) -> int:
        jobs = await self._jobs()
        with translated():
            return (await jobs.delete_many({"subject": subject})).deleted_count

    async def forget_owner(self, owner: str) -> int:
        jobs = await self._jobs()
        with translated():
            return (await jobs.delete_many({"owner": owner})).deleted_count

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
                document = await jobs.find_one({"_id": job_id})
            if document is None:
                return None
            before = _job(document)
            after = step(before)
            if after is None:
                return None
            same = {"_id": job_id, "revision": document["revision"]}
            with translated():
                done = await jobs.update_one(same, {"$set": changes(before, after) | _new_revision()})
            if done.matched_count == 1:
                return after

    async def _due(self, kinds: AnyOf[str], now: datetime, without: AnyOf[str]) -> Sequence[str]:
        due = {"status": {"$in": ["queued", "running"]}, "due_at": {"$lte": to_micros(now)}, "kind": {"$in": [*kinds]}}
        due |= {"owner": {"$nin": [*without]}} if without else {}
        jobs = await self._jobs()
        with translated():
            cursor = jobs.find(due, {"_id": 1}).sort("due_at").limit(16)
            return [document["_id"] async for document in cursor]

    async def _jobs(self) -> Collection:
        await self._make_indexes()
        return self._collection(self._name)


def _new_revision() -> dict[str, Any]:
    return {"revision": uuid.uuid4().hex}


def _job(document: Document) -> Job:
    row = {name: value for name, value in document.items() if name not in ("_id", "revision")}
    return from_row({"job_id": document["_id"], **row})
