"""Sign-off: a report becomes a statement that is signed, and that others check months later, without a GPU."""
