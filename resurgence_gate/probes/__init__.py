"""Probes: benign fine-tunes that may bring an erased concept back."""
