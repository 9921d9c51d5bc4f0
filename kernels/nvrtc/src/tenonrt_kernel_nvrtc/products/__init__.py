"""Products by constant weights: convolutions, fully connected layers, stacks of matrices."""
