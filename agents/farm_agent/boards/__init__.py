"""One file per board family."""
