"""Scenes whose truth about depth is known."""
