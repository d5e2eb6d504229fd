"""One file a channel by which notices leave the farm; `farm/notifier.py` says what each must have."""
