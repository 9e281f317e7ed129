"""Models and plans from and for other programs."""
