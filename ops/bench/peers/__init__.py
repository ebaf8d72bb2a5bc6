"""The same stage in a bare loop and behind other servers, for comparison.

The servers take image bytes and store nothing, so they do less than the service: no stored asset is read, no features
are written.
"""
