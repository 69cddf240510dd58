"""The providers' side of the wire, for development and tests: a server of its own that imports nothing of the service."""
