"""Speed and truth, measured: each module is one command, its table is in docs/."""
