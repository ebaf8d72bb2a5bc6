"""The same stage behind other servers, for comparison.

Both take raw image bytes and keep nothing, so they do less than the service: no stored asset is read, no features
are written.
"""
