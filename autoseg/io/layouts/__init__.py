"""One module per way of laying out annotated images in folders."""
