"""How a board is reached, one file a kind; `farm/transport.py` says what one is."""
