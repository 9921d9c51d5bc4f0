"""Local response normalization layer of TenonRT."""
