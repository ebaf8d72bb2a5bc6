"""How uploads come in: spooled and hashed while they stream, typed by their bytes, probed within limits."""
