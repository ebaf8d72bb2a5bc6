"""Pictures from URLs that strangers name: only from public addresses, within a time and a size."""

from graphs.web.fetch.fetcher import Fetcher, open_fetcher
from graphs.web.fetch.network import AllowList, ImageFetchError

__all__ = ["AllowList", "Fetcher", "ImageFetchError", "open_fetcher"]
