"""Networks of this room in plain torch."""
