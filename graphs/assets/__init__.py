"""The asset API: upload, features, similarity, search, clusters and anomalies (``asset-api.md``)."""
