"""The loops of the long-running processes."""
