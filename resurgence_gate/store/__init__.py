"""The content-addressed store: keys, folders that appear whole or not at all, and a journal."""

from resurgence_gate.store.folder import Store, default_store
from resurgence_gate.store.journal import Journal
from resurgence_gate.store.keys import content_key

__all__ = ["Journal", "Store", "content_key", "default_store"]
