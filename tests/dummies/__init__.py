"""A stand-in for every stage that needs weights: real numbers from real pictures, no torch."""

from tests.dummies.assets import PREPROCESS, DummyEmbed, LocalNearest, digest

__all__ = ["PREPROCESS", "DummyEmbed", "LocalNearest", "digest"]
