"""The media API: videos and their parts as streams, face traces, identities (``media-api.md``)."""
