"""Rendering of fiscal documents: templates and the PDF engine. Numbers and sums come from `domain`."""
