"""Routes over sets of assets: anomalies and clusters."""

from typing import Any

import numpy as np
from fastapi import APIRouter

from deployments.analysis.anomalies import ANOMALIES, MIN_REFERENCES, AnomalyQuery
from deployments.analysis.clusters import CLUSTERS
from graphs.assets.features import FeatureSource
from graphs.assets.schemas import (
    AnomalyAnswer,
    AnomalyRequest,
    AnomalyResult,
    Cluster,
    ClusteringAnswer,
    ClusteringRequest,
    FailedAsset,
    NamedAsset,
    failed_assets,
)
from graphs.assets.similarity import certainty
from graphs.web.context import Context, Timer
from graphs.web.uploads.library import Library
from vision.clustering import ClusterQuery
from vision.errors import InvalidInput


class NoUsableAssets(InvalidInput):
    """So many assets of a request failed that nothing can be computed of the others; ``details`` names each of them."""

    def __init__(self, message: str, failed: list[FailedAsset]) -> None:
        super().__init__(f"{message} {failed[0].asset_id}: {failed[0].error}" if failed else message)
        self.details: Any = {"failed_assets": [each.model_dump() for each in failed]} if failed else None


def analytics_router(context: Context, library: Library, feature_source: FeatureSource) -> APIRouter:
    """Return the routes anomaly-detection and feature-clustering."""
    router = APIRouter(tags=["assets: analytics"])

    @router.post("/anomaly-detection")
    async def anomaly_detection(request: AnomalyRequest, clock: Timer) -> AnomalyAnswer:
        """Find test assets that do not fit a set of references, by z-score of their distance to its centroid."""
        reference_ids = library.batch(request.reference_asset_ids)
        test_ids = library.batch(request.test_asset_ids)
        assets, unknown = await library.find([*reference_ids, *test_ids])
        features, failures = await feature_source.many(assets.values())
        failed = failed_assets(dict.fromkeys([*reference_ids, *test_ids]), failures | unknown)
        references = [features[asset_id].unit for asset_id in reference_ids if asset_id in features]
        tested = [asset_id for asset_id in test_ids if asset_id in features]
        if len(references) < MIN_REFERENCES:
            raise NoUsableAssets(
                f"Anomalies need at least {MIN_REFERENCES} reference assets whose features can be computed; "
                f"there {'is' if len(references) == 1 else 'are'} {len(references)}.",
                failed,
            )
        if not tested:
            raise NoUsableAssets("None of the test assets could be read.", failed)
        anomalies = await context.stage(ANOMALIES)(
            AnomalyQuery(np.array(references), np.stack([features[asset_id].unit for asset_id in tested]))
        )
        threshold = request.anomaly_threshold
        # Confidence is 1 from here on: as far above the threshold as the threshold is above 0.
        top = max(2 * threshold, threshold + 1)
        results = [
            AnomalyResult(
                asset_id=asset_id,
                filename=assets[asset_id].filename,
                anomaly_score=round(float(score), 4),
                centroid_similarity=round(float(similarity), 6),
                centroid_similarity_percentage=round((float(similarity) + 1) * 50, 4),
                is_anomaly=bool(score > threshold),
                confidence=certainty(float(score), threshold, threshold - (top - threshold), top),
            )
            for asset_id, score, similarity in zip(
                tested, anomalies.scores, anomalies.centroid_similarities, strict=True
            )
        ]
        detected = sum(result.is_anomaly for result in results)
        return AnomalyAnswer(
            reference_assets=len(references),
            test_assets=len(tested),
            anomaly_threshold=threshold,
            anomalies_detected=detected,
            anomaly_rate=round(detected / len(results), 4),
            average_anomaly_score=round(float(anomalies.scores.mean()), 4),
            anomaly_results=results,
            failed_assets=failed,
            processing_time=clock.seconds,
        )

    @router.post("/feature-clustering")
    async def feature_clustering(request: ClusteringRequest, clock: Timer) -> ClusteringAnswer:
        """Group assets that look alike."""
        wanted = library.batch(request.asset_ids)
        assets, unknown = await library.find(wanted)
        features, failures = await feature_source.many(assets.values())
        failed = failed_assets(wanted, failures | unknown)
        ids = [asset_id for asset_id in assets if asset_id in features]
        if len(ids) < 2:
            raise NoUsableAssets(
                f"Clustering needs at least 2 different assets whose features can be computed; there are {len(ids)}.",
                failed,
            )
        clustering = await context.stage(CLUSTERS)(
            ClusterQuery(
                np.stack([features[asset_id].unit for asset_id in ids]),
                method=request.cluster_method,
                n_clusters=request.n_clusters,
                eps=request.eps,
                min_samples=request.min_samples,
            )
        )
        members: list[list[str]] = [[] for _ in clustering.centroids]
        noise: list[str] = []
        for asset_id, label in zip(ids, clustering.labels.tolist(), strict=True):
            (members[label] if label >= 0 else noise).append(asset_id)
        clusters = [
            Cluster(
                cluster_id=k,
                size=len(ids_in),
                inertia=round(inertia, 6),
                centroid=centroid,
                assets=ids_in,
                asset_details=[NamedAsset(asset_id=each, filename=assets[each].filename) for each in ids_in],
                confidence=_separation(clustering.silhouettes[k] if len(clustering.silhouettes) else None),
            )
            for k, (ids_in, inertia, centroid) in enumerate(
                zip(members, clustering.inertia.tolist(), clustering.centroids.tolist(), strict=True)
            )
        ]
        return ClusteringAnswer(
            total_assets=len(wanted),
            assets_clustered=len(ids) - len(noise),
            n_clusters=len(clusters),
            total_inertia=round(float(clustering.inertia.sum()), 6),
            silhouette_score=clustering.silhouette,
            confidence=_separation(clustering.silhouette),
            cluster_method=request.cluster_method,
            clusters=clusters,
            noise=noise,
            failed_assets=failed,
            processing_time=clock.seconds,
        )

    return router


def _separation(silhouette: float | None) -> float | None:
    return None if silhouette is None else round(max(0.0, float(silhouette)), 4)
