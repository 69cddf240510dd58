"""The providers' side of the wire, for development and tests: a server that imports nothing of the service."""
