"""Scenarios: one file a kind; `farm_agent.scenario` says what one is."""
