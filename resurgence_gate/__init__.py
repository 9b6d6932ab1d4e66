"""resurgence-gate: the release test for unlearned text-to-image models."""

__version__ = "0.1.0"
