"""A generated data set to try everything on."""
