"""One kind of figure a file; the file's name is the kind of Document that it draws.

Each has `draw(document, look, size) -> Figure`: `size` in inches, or None for what the content needs.
"""
