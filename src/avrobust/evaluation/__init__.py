"""Measuring: model × clips × attacks × threats → rows, and what can be said from them."""
