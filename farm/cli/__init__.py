"""The words a person types: one file for each verb or noun. Nothing else in `farm` prints."""
