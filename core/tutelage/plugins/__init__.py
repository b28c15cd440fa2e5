"""Plugins: discovery, inspection, the registry, and one typed function per hook."""
