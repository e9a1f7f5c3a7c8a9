"""Scenarios that measure what ``docs/specification.md`` promises, as ratios in one run."""
