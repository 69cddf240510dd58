"""Measurements as ratios: whole payments to a bare workflow, webhook intake to a bare insert."""
