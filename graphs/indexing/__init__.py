"""Index videos: decode once, infer people, shots and camera movements, and store them as durable jobs."""
