"""Runtimes: one file a kind; `farm_agent.runtime` says what one is."""
