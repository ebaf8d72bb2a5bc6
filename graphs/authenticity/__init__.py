"""The authenticity API: how likely a picture, a video or a voice was made or changed (``authenticity-api.md``)."""
