"""A second, optional world in which a response holds what its prompt does not: who keeps what."""
