"""Scenes composed of photographs."""
