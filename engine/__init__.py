"""Our use of the Temporal client: connecting, encrypting payloads, starting and signalling payments."""
