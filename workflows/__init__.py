"""Deterministic. Workflows import `domain` and the Temporal SDK only; every side effect is a call in calls.py."""
