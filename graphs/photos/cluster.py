"""The route that groups embeddings."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray

from deployments.analysis.clusters import CLUSTERS
from graphs.photos.errors import ClusteringError
from graphs.photos.schemas import API_VERSION, Assignment, ClusterAnswer, ClusterRequest, PhotoCluster
from graphs.web.context import Context, Timer
from vision.clustering import ClusterQuery
from vision.errors import InvalidInput


def add_cluster_route(router: APIRouter, context: Context) -> None:
    """Add /cluster."""
    settings = context.settings

    @router.post("/cluster")
    async def cluster(request: ClusterRequest, clock: Timer) -> ClusterAnswer:
        """Group pictures by their embeddings: DBSCAN on cosine distance; what fits nowhere is noise."""
        eps = settings.dbscan_eps_default if request.eps is None else request.eps
        min_samples = settings.dbscan_min_samples_default if request.min_samples is None else request.min_samples
        vectors = await asyncio.to_thread(matrix_of, request.embeddings)
        try:
            clustering = await context.stage(CLUSTERS)(
                ClusterQuery(vectors, method="dbscan", eps=eps, min_samples=min_samples)
            )
        except InvalidInput as error:
            raise ClusteringError(error.message) from None
        labels: list[int] = clustering.labels.tolist()
        members: list[list[str]] = [[] for _ in clustering.centroids]
        for image_id, label in zip(request.image_ids, labels, strict=True):
            if label >= 0:
                members[label].append(image_id)
        return ClusterAnswer(
            api_version=API_VERSION,
            algorithm="DBSCAN",
            eps_used=eps,
            min_samples_used=min_samples,
            total_images=len(labels),
            num_clusters=len(members),
            num_noise=labels.count(-1),
            assignments=[
                Assignment(image_id=image_id, cluster_id=label, is_noise=label < 0)
                for image_id, label in zip(request.image_ids, labels, strict=True)
            ],
            clusters=[PhotoCluster(cluster_id=k, size=len(ids), image_ids=ids) for k, ids in enumerate(members)],
            processing_time_ms=clock.milliseconds,
        )


def matrix_of(embeddings: Sequence[Any]) -> NDArray[np.float32]:
    """Convert lists of numbers to float32[n, d].

    Raises ClusteringError that names the first entry that is no list of numbers or has another length.
    """
    rows = [_row(number, values) for number, values in enumerate(embeddings)]
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ClusteringError(f"embeddings[{number}] has {len(row)} numbers and embeddings[0] has {len(rows[0])}.")
    return np.stack(rows)


def _row(number: int, values: Any) -> NDArray[np.float32]:
    # Looked at before numpy does: one long text would make it take as much memory for every number beside it.
    if not isinstance(values, list) or not values or not {*map(type, values)} <= {int, float}:
        raise ClusteringError(f"embeddings[{number}] is no list of numbers.")
    with np.errstate(over="ignore"):  # the stage refuses what is not finite
        return np.array(values, np.float64).astype(np.float32)
