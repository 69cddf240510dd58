"""What runs beside the workflows in every worker: the inbox dispatcher and the outbox relay.

Both claim rows with a lease, so any number of workers share the work, and a crash only delays it.
"""
