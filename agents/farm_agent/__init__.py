"""The board side of benchfarm: measures one model in fresh processes. Standard library only outside the subject."""
