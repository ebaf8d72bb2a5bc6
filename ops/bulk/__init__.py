"""Indexes whole archives of videos: Ray Data decodes and looks, the driver keeps the jobs."""
