"""One file per chip or kernel interface."""
