"""LSTM and GRU, all steps in one kernel."""
