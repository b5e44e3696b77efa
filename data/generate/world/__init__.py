"""The drawn world: looks of things, scenes of them, questions about scenes."""
