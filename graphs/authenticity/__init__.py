"""The authenticity API: how likely an image, a video or a voice is fake (``authenticity-api.md``)."""
