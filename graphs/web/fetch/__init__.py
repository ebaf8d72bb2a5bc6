"""Fetch images from URLs that clients name, and post events to such: public addresses only, limits of time and size."""

from graphs.web.fetch.fetcher import Fetcher, open_fetcher
from graphs.web.fetch.network import AllowList, ImageFetchError
from graphs.web.fetch.poster import Outcome, Poster, ReceiverRefused, open_poster

__all__ = [
    "AllowList",
    "Fetcher",
    "ImageFetchError",
    "Outcome",
    "Poster",
    "ReceiverRefused",
    "open_fetcher",
    "open_poster",
]
