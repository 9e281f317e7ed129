"""Pictures: overlays and curves as PNG."""
