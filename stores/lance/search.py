"""Search in one table of vectors: by its index where that was measured to find what a scan finds, else by a scan."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from stores.lance.tables import Table, translated
from stores.records import Vector
from stores.vectors import Neighbour

MEASURED_AT: Final = (10, 100)
"""Numbers of neighbours that an index is measured at; searches for more than the last one are scans."""
_PLAN: Final = "search"
"""Key in the metadata of the column of vectors: what is written there commits with the table, for all processes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the index ``index`` of a table is searched: ``probes`` partitions, the nearest first; the full vectors of
    ``refine`` candidates per neighbour are compared in the end.

    ``recall`` is the share of the true neighbours that this was measured to find among ``rows`` vectors. ``probes`` 0
    means that no number of probes found enough, so that the table is scanned.
    """

    index: str
    probes: int
    refine: int
    recall: float
    rows: int

    @classmethod
    async def of(cls, table: Table) -> Self | None:
        """Return what was measured last; None before that."""
        schema = await translated(table.handle.schema())
        text = (schema.field("vector").metadata or {}).get(_PLAN.encode())
        return cls(**json.loads(text)) if text else None

    async def save(self, table: Table) -> None:
        """Let all searches use this plan."""
        await _save(table, json.dumps(asdict(self)))

    @staticmethod
    async def clear(table: Table) -> None:
        """Let all searches scan."""
        await _save(table, "")


async def _save(table: Table, text: str) -> None:
    await translated(table.handle.update_field_metadata({"path": "vector", "metadata": {_PLAN: text}}))


def nearest(table: Table, unit: Vector, k: int, plan: Plan | None) -> Any:
    """Return the query for the ``k`` nearest: by the index as planned, by a scan without a plan."""
    query = table.handle.query().nearest_to(unit).distance_type("cosine").limit(k)
    if plan is None:
        return query.bypass_vector_index()
    return query.nprobes(plan.probes).refine_factor(plan.refine)


async def search(table: Table, unit: Vector, k: int, *, where: str | None, exact: bool) -> list[Neighbour]:
    """Return the ``k`` nearest rows that pass a filter, best first.

    With a filter all vectors are scanned: the nearest of a rare kind may be in any partition.
    """
    scanned = exact or where is not None or k > MEASURED_AT[-1]
    plan = None if scanned else await Plan.of(table)
    if plan is not None and plan.probes:
        hits = await neighbours(nearest(table, unit, k, plan))
        # Fewer mean that most of what these partitions held was deleted, or that there are no more.
        if len(hits) == k:
            return hits
    query = nearest(table, unit, k, None)
    return await neighbours(query if where is None else query.where(where))


async def neighbours(query: Any) -> list[Neighbour]:
    """Return the result of a query."""
    hits = await translated(query.select(["asset_id", "_distance"]).to_arrow())
    pairs = zip(hits["asset_id"].to_pylist(), hits["_distance"].to_pylist(), strict=True)
    return [Neighbour(asset_id, 1.0 - distance) for asset_id, distance in pairs]
