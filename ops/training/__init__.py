"""Muzzle models outside the service: data sets, features, verification and training."""
