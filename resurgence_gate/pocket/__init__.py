"""The embedded benchmark: a small world of emoji art, its models, its detectors and their builder."""
