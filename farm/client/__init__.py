"""A farm over HTTP, for CI and scripts: `from farm.client import Client`. Needs nothing but the thin install."""

from farm.client.verbs import Client, word

__all__ = ["Client", "word"]
