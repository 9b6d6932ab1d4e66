"""Builds the pocket benchmark from its art: `python -m resurgence_gate.pocket.build`."""
