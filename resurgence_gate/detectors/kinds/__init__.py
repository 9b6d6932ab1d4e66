"""The kinds of detectors, one module each: how to find one (light), and how to open it (heavy)."""
