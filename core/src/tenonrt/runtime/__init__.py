"""Running plans: engines, contexts, and the instances of a program at one set of shapes."""
