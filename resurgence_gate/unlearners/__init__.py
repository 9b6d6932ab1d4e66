"""Unlearners: a recipe makes an unlearned checkpoint; the input stays untouched."""
