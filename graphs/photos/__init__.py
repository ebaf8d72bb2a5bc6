"""The photo API: blur, quality, aesthetics, emotion, embedding, clusters and a reviewer's words (``photo-api.md``)."""
