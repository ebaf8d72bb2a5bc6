"""Index whole archives of videos: Ray Data decodes and infers, the driver keeps the jobs."""
