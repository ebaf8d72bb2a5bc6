"""Routes that look at sets of assets: anomalies and clusters."""

import numpy as np
from fastapi import APIRouter

from deployments.analysis.anomalies import ANOMALIES, AnomalyQuery
from deployments.analysis.clusters import CLUSTERS
from graphs.assets.features import FeatureSource
from graphs.assets.matching import failed
from graphs.assets.models import (
    AnomalyAnswer,
    AnomalyRequest,
    AnomalyResult,
    Cluster,
    ClusteringAnswer,
    ClusteringRequest,
)
from graphs.assets.similarity import certainty
from graphs.web.context import Context, Timer
from graphs.web.uploads.library import Library
from vision.clustering import ClusterQuery
from vision.errors import InvalidInput


def analytics_router(context: Context, library: Library, features: FeatureSource) -> APIRouter:
    """anomaly-detection, feature-clustering."""
    router = APIRouter(tags=["assets: analytics"])

    @router.post("/anomaly-detection")
    async def anomaly_detection(request: AnomalyRequest, clock: Timer) -> AnomalyAnswer:
        """Which test assets do not fit a set of references, by z-score of their distance to its centroid."""
        reference_ids = library.batch(request.reference_asset_ids)
        test_ids = library.batch(request.test_asset_ids)
        assets = await library.get_all([*reference_ids, *test_ids])
        found, failures = await features.many(assets.values())
        references = [found[asset_id].unit for asset_id in reference_ids if asset_id in found]
        tested = [asset_id for asset_id in test_ids if asset_id in found]
        if not tested:
            raise InvalidInput(f"None of the test assets could be read: {next(iter(failures.values())).message}")
        answer = await context.stage(ANOMALIES)(
            AnomalyQuery(np.array(references), np.stack([found[asset_id].unit for asset_id in tested]))
        )
        threshold = request.anomaly_threshold
        # The scale on which a score is certain: a score as far above the threshold as the threshold is above 0.
        top = max(2 * threshold, threshold + 1)
        results = [
            AnomalyResult(
                asset_id=asset_id,
                filename=assets[asset_id].filename,
                anomaly_score=round(float(score), 4),
                centroid_similarity=round(float(similarity), 6),
                is_anomaly=bool(score > threshold),
                confidence=certainty(float(score), threshold, threshold - (top - threshold), top),
            )
            for asset_id, score, similarity in zip(tested, answer.scores, answer.centroid_similarities, strict=True)
        ]
        detected = sum(result.is_anomaly for result in results)
        return AnomalyAnswer(
            reference_assets=len(references),
            test_assets=len(tested),
            anomaly_threshold=threshold,
            anomalies_detected=detected,
            anomaly_rate=round(detected / len(results), 4),
            average_anomaly_score=round(float(answer.scores.mean()), 4),
            anomaly_results=results,
            failed_assets=failed(failures),
            processing_time=clock.seconds,
        )

    @router.post("/feature-clustering")
    async def feature_clustering(request: ClusteringRequest, clock: Timer) -> ClusteringAnswer:
        """Group assets that look alike."""
        assets = await library.get_all(library.batch(request.asset_ids))
        found, failures = await features.many(assets.values())
        ids = [asset_id for asset_id in assets if asset_id in found]
        if len(ids) < 2:
            raise InvalidInput(
                f"Clustering needs at least 2 different assets with features; {len(ids)} of these have them."
            )
        answer = await context.stage(CLUSTERS)(
            ClusterQuery(
                np.stack([found[asset_id].unit for asset_id in ids]),
                method=request.cluster_method,
                n_clusters=request.n_clusters,
                eps=request.eps,
                min_samples=request.min_samples,
            )
        )
        members: list[list[str]] = [[] for _ in answer.centroids]
        noise: list[str] = []
        for asset_id, label in zip(ids, answer.labels.tolist(), strict=True):
            (members[label] if label >= 0 else noise).append(asset_id)
        clusters = [
            Cluster(cluster_id=k, size=len(own), inertia=round(inertia, 6), centroid=centroid, assets=own)
            for k, (own, inertia, centroid) in enumerate(
                zip(members, answer.inertia.tolist(), answer.centroids.tolist(), strict=True)
            )
        ]
        return ClusteringAnswer(
            total_assets=len(assets),
            assets_clustered=len(ids) - len(noise),
            n_clusters=len(clusters),
            total_inertia=round(float(answer.inertia.sum()), 6),
            silhouette_score=answer.silhouette,
            cluster_method=request.cluster_method,
            clusters=clusters,
            noise=noise,
            failed_assets=failed(failures),
            processing_time=clock.seconds,
        )

    return router
