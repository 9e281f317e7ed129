"""One module per kind of image file."""
