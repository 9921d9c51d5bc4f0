"""The plan: the program, its compiled code and its weights in one file that says what it needs."""
