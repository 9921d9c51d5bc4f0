"""TenonRT: an inference optimizer and runtime in which every part is a plugin."""
