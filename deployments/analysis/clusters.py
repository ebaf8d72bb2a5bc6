"""analysis/clusters: clusters feature vectors by cosine: kmeans, dbscan, agglomerative or hdbscan of scikit-learn."""

from typing import Any, Final

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.clustering import METHODS, Clustering, ClusterQuery, cluster

CLUSTERS: Final = StageRef[ClusterQuery, Clustering]("analysis/clusters")


class Clusterer(Stage[StageConfig, ClusterQuery, ClusterQuery, Clustering]):
    """ClusterQuery → Clustering."""

    key = CLUSTERS.key
    libraries = ("sklearn.cluster",)

    def predict(self, item: ClusterQuery) -> Clustering:
        return cluster(item)

    def info(self) -> dict[str, Any]:
        return {"methods": list(METHODS), "metric": "cosine, as euclidean distance of unit vectors"}
