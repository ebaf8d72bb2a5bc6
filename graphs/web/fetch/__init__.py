"""Fetch images from URLs that clients name: only from public addresses, within limits of time and size."""

from graphs.web.fetch.fetcher import Fetcher, open_fetcher
from graphs.web.fetch.network import AllowList, ImageFetchError

__all__ = ["AllowList", "Fetcher", "ImageFetchError", "open_fetcher"]
